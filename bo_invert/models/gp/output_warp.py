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


@dataclass(frozen=True, eq=False)
class TailedWarp(Warp):
    """Warp that continues as a straight line beyond the worst observation, too.

    The inverse of a logarithm is an exponential function. Predictions beyond all observations would
    have means and quantiles of any size.

    Args:
        highest: Warped value of the worst observation times the sign, shape ``(c,)``.
    """

    highest: Tensor

    @staticmethod
    def of(warp: Warp, values: Tensor) -> TailedWarp:
        """Return the warp with a tail beyond values ``(n, c)``."""
        highest = (warp.sign * warp(values)).amax(0)
        return TailedWarp(warp.sign, warp.lowest, warp.threshold, highest)

    def __call__(self, values: Tensor) -> Tensor:
        inside = torch.minimum(self.sign * values, self.sign * self._edge)
        beyond = (self.sign * (values - self._edge)).clamp(min=0.0) / self._slope
        tailed = super().__call__(self.sign * inside) + self.sign * beyond
        return torch.where(self._warped, tailed, values)

    def inverse(self, warped: Tensor) -> Tensor:
        v = self.sign * warped
        beyond = (v - self.highest).clamp(min=0.0) * self._slope
        tailed = super().inverse(self.sign * torch.minimum(v, self.highest)) + self.sign * beyond
        return torch.where(self._warped, tailed, warped)

    @property
    def _edge(self) -> Tensor:
        """Value of the worst observation."""
        return super().inverse(self.sign * self.highest)

    @property
    def _slope(self) -> Tensor:
        """Slope of the inverse at the worst observation."""
        return self.highest.clamp(min=0.0).exp() * self._scale


def threshold_candidates(
    values: Tensor, sign: float, shares: tuple[float, ...] = (0.5, 0.25, 0.1)
) -> list[float]:
    """Return candidate thresholds: distances between quantiles of values ``(n,)`` and the best."""
    # Thresholds below rounding errors of the values are omitted.
    v = sign * values
    distances = torch.quantile(v, v.new_tensor(shares)) - v.min()
    magnitude = float(v.abs().median()) + float(v.min().abs())
    return [float(r) for r in distances if r > 1e-12 * magnitude]
