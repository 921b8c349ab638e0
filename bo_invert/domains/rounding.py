"""Rounding of numbers that come in lower precision than double."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from bo_invert.user_data import scalar

Value: TypeAlias = str | bool | int | float
"""Value of a parameter."""
# Unit roundoffs 2^-p of floating-point formats with p significant bits (IEEE 754; bfloat16: 8).
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}


def snapped(value: float, low: float, high: float, given: object = None) -> float:
    """Return a value outside ``[low, high]`` as the bound that it equals in its own precision.

    The value 0.1 in single precision exceeds 0.1 by 1.5e-9.

    Args:
        value: value in double precision.
        low: lower bound.
        high: upper bound.
        given: array, scalar or tensor that held the value. Without one of lower precision, a number
            that single precision represents exactly counts as single precision.
    """
    if low <= value <= high or not math.isfinite(value):
        return value
    bound = low if value < low else high
    return bound if abs(value - bound) <= roundoff(value, given) * abs(bound) else value


def roundoff(value: float, given: object) -> float:
    """Return the unit roundoff of the format that held a value; 0 for double precision."""
    name = str(getattr(given, "dtype", "")).rpartition(".")[2]
    with np.errstate(over="ignore"):
        single = float(np.float32(value)) == value
    return _ROUNDOFF.get(name, _ROUNDOFF["float32"] if single else 0.0)


def equal_value(value: object, known_values: Sequence[Value]) -> Value | None:
    """Return the known value that equals a value of the user, also in lower precision, or None."""
    one = scalar(value)
    for known in known_values if isinstance(one, (str, bool, int, float)) else ():
        if known == one or (
            isinstance(one, float)
            and isinstance(known, float)
            and known == snapped(one, known, known, value)
        ):
            return known
    return None
