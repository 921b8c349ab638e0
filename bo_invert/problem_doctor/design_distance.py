"""Comparison of designs of any type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bo_invert.hashing import design_name
from bo_invert.types import Array

# Difference of two decodings as a share of the designs' spread. Engineering choice: above the
# rounding of single precision.
_ROUNDING = 1e-5


def numbers_of(designs: Sequence[object]) -> Array | None:
    """Convert designs to rows of numbers ``(n, p)``; return None if they are not numeric."""
    try:
        rows = [list(d.values()) if isinstance(d, Mapping) else d for d in designs]
        return np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    except (TypeError, ValueError):
        return None


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


def apart(one: Sequence[object], other: Sequence[object]) -> tuple[int, float | None]:
    """Count the designs that differ beyond rounding.

    Returns:
        The count, and the largest gap as a share of the designs' spread; None if it is unknown.
    """
    a, b = numbers_of(one), numbers_of(other)
    if a is None or b is None or a.shape != b.shape:
        different = sum(name_of(x) != name_of(y) for x, y in zip(one, other, strict=True))
        return different, None
    spread = float(np.sqrt(((a - a.mean(axis=0)) ** 2).mean())) or float(np.abs(a).max()) or 1.0
    gaps = np.abs(a - b).max(axis=1) / spread
    largest = float(gaps.max())
    return int((gaps > _ROUNDING).sum()), largest if math.isfinite(largest) else None
