"""Output warp: a monotone map that compresses the heavy tail of an output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Warp:
    """Logarithmic output warp w(v) = log(1 + (v - lowest) / threshold) of v = sign * y.

    It is linear within a threshold of the best value and logarithmic beyond. Below the lowest
    observation it continues as a straight line, so that the inverse exists everywhere. An infinite
    threshold leaves an output unchanged.

    Args:
        sign: 1 if high values are bad, -1 if low ones are, shape ``(c,)``.
        lowest: Lowest observed v, shape ``(c,)``.
        threshold: Positive thresholds, shape ``(c,)``.
    """

    sign: Tensor
    lowest: Tensor
    threshold: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Return warped values ``(..., c)``; the order of values is preserved."""
        v = self.sign * values
        off = (v - self.lowest) / self._scale
        bent = torch.where(off > 0, off.clamp(min=0.0).log1p(), off)
        return torch.where(self._warped, self.sign * bent, values)

    def inverse(self, warped: Tensor) -> Tensor:
        """Return the values ``(..., c)`` of warped ones, differentiably."""
        v = self.sign * warped
        # exp(300) is finite, so extrapolation never overflows.
        bent = (
            torch.where(v > 0, v.clamp(min=0.0, max=300.0).expm1(), v) * self._scale + self.lowest
        )
        return torch.where(self._warped, self.sign * bent, warped)

    def log_slope(self, values: Tensor) -> Tensor:
        """Return log dw/dy at values ``(..., c)``, the Jacobian term of a log density."""
        # dw/dv = 1 / (v - lowest + threshold) above the lowest value, 1 / threshold below
        off = (self.sign * values - self.lowest) / self._scale
        slope = -off.clamp(min=0.0).log1p() - self._scale.log()
        return torch.where(self._warped, slope, torch.zeros_like(values))

    @property
    def _warped(self) -> Tensor:
        return self.threshold.isfinite()

    @property
    def _scale(self) -> Tensor:
        return torch.where(self._warped, self.threshold, torch.ones_like(self.threshold))


def threshold_candidates(
    values: Tensor, sign: float, shares: tuple[float, ...] = (0.5, 0.25, 0.1)
) -> list[float]:
    """Return candidate thresholds: distances between quantiles of values ``(n,)`` and the best."""
    # Thresholds below rounding errors of the values are omitted.
    v = sign * values
    distances = torch.quantile(v, v.new_tensor(shares)) - v.min()
    magnitude = float(v.abs().median()) + float(v.min().abs())
    return [float(r) for r in distances if r > 1e-12 * magnitude]
