"""Heavy tails straightened: a monotone map of an output that compresses what is far from good."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Warp:
    """``log(1 + (v - least) / knee)`` of values ``v = sign * y``: linear within a knee of the best, logarithmic beyond.

    Below the least value told the map goes on as a straight line, so a model may predict anything. An infinite knee
    leaves an output as it is.

    Args:
        sign: 1 where high values are bad, -1 where low ones are, shape ``(c,)``.
        least: lowest ``v`` told, shape ``(c,)``.
        knee: shape ``(c,)``, positive.
    """

    sign: Tensor
    lowest: Tensor
    threshold: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Warped values ``(..., c)``; the sign stays, so better remains better."""
        v = self.sign * values
        off = (v - self.lowest) / self._safe
        bent = torch.where(off > 0, off.clamp(min=0.0).log1p(), off)
        return torch.where(self._bends, self.sign * bent, values)

    def inverse(self, warped: Tensor) -> Tensor:
        """Values ``(..., c)`` of warped ones; differentiable."""
        v = self.sign * warped
        bent = torch.where(v > 0, v.clamp(min=0.0, max=300.0).expm1(), v) * self._safe + self.lowest
        return torch.where(self._bends, self.sign * bent, warped)

    def log_slope(self, values: Tensor) -> Tensor:
        """Logarithm of the map's slope at values ``(..., c)``: what densities need to be compared across maps."""
        off = (self.sign * values - self.lowest) / self._safe
        slope = -off.clamp(min=0.0).log1p() - self._safe.log()
        return torch.where(self._bends, slope, torch.zeros_like(values))

    @property
    def _bends(self) -> Tensor:
        return self.threshold.isfinite()

    @property
    def _safe(self) -> Tensor:
        return torch.where(self._bends, self.threshold, torch.ones_like(self.threshold))


def threshold_candidates(
    values: Tensor, sign: float, shares: tuple[float, ...] = (0.5, 0.25, 0.1)
) -> list[float]:
    """Candidates for the knee of values ``(n,)``: how far quantiles of them lie from the best."""
    v = sign * values
    reach = torch.quantile(v, v.new_tensor(shares)) - v.min()
    usual = float(v.abs().median()) + float(v.min().abs())
    return [float(r) for r in reach if r > 1e-12 * usual]
