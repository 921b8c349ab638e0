"""Steps of rounded and stepwise outputs; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array, Indices, Mask

_LEVELS = 4
"""Least number of different values of a rounded output. Engineering choice: the differences of
other values are multiples of the least one with a probability below 1e-6."""
_FINEST = 1e-4
"""Least step as a share of the range. Engineering choice: finer steps do not differ from errors of
rounding."""
_INEXACT = 1e-6
"""Largest deviation of a difference from a multiple of the step, in steps. Engineering choice:
outputs in double precision are multiples up to 1e-11 of the finest step."""

_OBSERVED = 16
"""Least number of observations after which a finer step is excluded. Engineering choice: of half
the step, all of them would be even multiples with a probability of 2^-16."""


@dataclass(frozen=True, eq=False)
class RoundedOutputs:
    """Steps of the modelled outputs.

    Rounded outputs are multiples of a step s plus an origin. Others that repeat values, as trees
    do, have a usual step only.

    Args:
        step: Step s of each rounded output, shape ``(c,)``; 0 for others.
        origin: One value of each output, shape ``(c,)``.
        half: Half the usual step of outputs that repeat values and are not rounded, shape ``(c,)``;
            0 for others. Outputs between two values cannot be distinguished from either.
        observed: Number n of observations.
    """

    step: Array
    origin: Array
    half: Array
    observed: int

    @staticmethod
    def of(values: Array) -> RoundedOutputs:
        """Find the steps of observed outputs, shape ``(n, c)``.

        An output repeats values if at least two of the n differ from no earlier one. It is rounded
        if it has at least four different values whose differences are multiples of the least one.
        """
        step, half = np.zeros(values.shape[1]), np.zeros(values.shape[1])
        for column, own in enumerate(values.T):
            levels = np.unique(own)
            if not 2 <= len(levels) <= len(own) - 2:
                continue
            gaps = np.diff(levels)
            multiples = gaps / gaps.min()
            even = np.abs(multiples - np.round(multiples)).max() <= _INEXACT
            fine = gaps.min() < _FINEST * (levels[-1] - levels[0])
            if even and not fine and len(levels) >= _LEVELS:
                step[column] = gaps.min()
            else:
                half[column] = 0.5 * float(np.median(gaps))
        return RoundedOutputs(step, values[:1].min(0), half, len(values))

    def unrounded(self, values: Array, predicted: Array) -> Array:
        """Return the numbers nearest to predictions that are rounded to values, ``(n, c)``."""
        return np.asarray(np.clip(predicted, values - 0.5 * self.step, values + 0.5 * self.step))

    def widen(
        self, lower: Array, upper: Array, columns: Indices, avoided: Mask
    ) -> tuple[Array, Array]:
        """Return intervals of unrounded outputs that are rounded into intervals.

        With the least and the largest multiples a and b inside of [l, u], the interval is
        ``[min(l, a - s / 2), max(u, b + s / 2)]``. An interval without a multiple is empty: its
        lower end is the multiple above it, and its upper end the one below, so that every output
        has an excess. Until 16 outputs are observed it stays, because the step may be finer than
        theirs. Intervals to avoid stay as well.

        Args:
            lower: Lower ends of the e entries of t targets, -infinite for open ones, ``(t, e)``.
            upper: Upper ends, shape ``(t, e)``.
            columns: Modelled output of each entry, shape ``(e,)``.
            avoided: Mask of the intervals to avoid, shape ``(e,)``.
        """
        step, origin = self.step[columns], self.origin[columns]
        rounded = (step > 0.0) & ~avoided
        unit = np.where(rounded, step, 1.0)
        least = origin + unit * np.ceil((lower - origin) / unit - _INEXACT)
        largest = origin + unit * np.floor((upper - origin) / unit + _INEXACT)
        inside = rounded & (least <= largest + _INEXACT * unit)
        empty = rounded & ~inside & (self.observed >= _OBSERVED)
        low = np.where(inside, np.minimum(lower, least - 0.5 * unit), lower)
        high = np.where(inside, np.maximum(upper, largest + 0.5 * unit), upper)
        return np.where(empty, least, low), np.where(empty, largest, high)
