"""Comparison of designs of any type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bo_invert.hashing import design_name
from bo_invert.types import Array


def numbers_of(designs: Sequence[object]) -> Array | None:
    """Convert designs to rows of numbers ``(n, p)``; return None if they are not numeric."""
    try:
        rows = [list(d.values()) if isinstance(d, Mapping) else d for d in designs]
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(len(array), -1)


def name_of(design: object) -> str:
    """Return a name that is equal exactly for equal designs; the ``repr`` of unhashable types."""
    return design_name(design) or repr(design)


def is_same(one: object, other: object) -> bool:
    """Compare two designs up to rounding of their numbers."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return name_of(one) == name_of(other)
