"""Designs of any kind, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.identity import design_name
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
