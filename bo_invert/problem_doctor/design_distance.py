"""Designs of any kind, compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.hashing import design_name
from bo_invert.types import Array


def numbers_of(designs: Sequence[Any]) -> Array | None:
    """Designs as rows of numbers ``(n, p)``; None where they are something else."""
    try:
        rows = [list(d.values()) if isinstance(d, Mapping) else d for d in designs]
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(len(array), -1)


def name_of(design: Any) -> str:
    """Equal for equal designs, and different for different ones, as far as they can be compared."""
    return design_name(design) or repr(design)


def is_same(one: Any, other: Any) -> bool:
    """Whether two designs are one, but for the rounding of their numbers."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return name_of(one) == name_of(other)
