"""Outlying observations: their clipping, and outputs that are too large to model; numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.types import Array

_HUGE, _FAR = 1e100, 1e9
"""Largest magnitude of a modelled output in its units, and largest distance from the median in
multiples of the interquartile range. Engineering choice: the squares of larger numbers overflow, or
leave no digits for the others."""
_MANY_HUGE = 0.25
"""Share of values beyond the largest magnitude, above which they are no outliers and the output
cannot be modelled. Engineering choice: the quartiles then have no digits left."""


def too_large(values: Array, names: Sequence[str]) -> str:
    """Return a text about the columns of values ``(n, c)`` too large to model; empty for none."""
    shares = (np.abs(values) > _HUGE).mean(axis=0)
    huge = [name for name, share in zip(names, shares, strict=True) if share > _MANY_HUGE]
    if not huge:
        return ""
    return (
        f"values of {', '.join(map(repr, huge[:3]))} must be below {_HUGE:g} in magnitude, got "
        f"{np.abs(values).max():g}. Rescale the output, for example by a logarithm"
    )


def clip_outliers(values: Array) -> Array:
    """Clip each column of values ``(n, c)`` to 1e9 interquartile ranges around its median.

    Some oracles return numbers such as 1e300 for failures. Their squares overflow, and beside them
    all other values look equal.
    """
    # Constant columns have no spread; only the bound on the magnitude applies to them.
    finite = np.clip(values, -_HUGE, _HUGE)
    low, median, high = np.quantile(finite, [0.25, 0.5, 0.75], axis=0)
    reach = np.where(high > low, _FAR * (high - low), _HUGE)
    return np.clip(finite, median - reach, median + reach)
