"""Probability that one call of a noisy oracle meets a target, under a model of its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.noise_mixture import log_normal
from bo_invert.models.inverse.oracle_noise import OracleNoise
from bo_invert.models.inverse.target_region import TargetRegion, log_complement, log_probability


@dataclass(frozen=True, eq=False)
class NoisyAcceptance:
    """Probability of a target under means and variances of scores, and the noise of a call.

    In a component of the noise, the outputs of a call at x are jointly normal. Entries whose
    interval is narrower than the noise (half width h with ``h^2 / 3`` below the variance) have the
    joint density of their middles times ``prod_j 2 h_j``, with ``h_j^2 / 3`` as a further variance:
    that of a uniform number in the interval. Other entries count as independent in a component.

    Args:
        region: Intervals of the outputs.
        surrogate: Surrogate whose scores are the standardised outputs.
        noise: Noise of the scores.
    """

    region: TargetRegion
    surrogate: Surrogate
    noise: OracleNoise

    @cached_property
    def _unit(self) -> Tensor:
        """Deviations ``(e,)`` of the outputs of the entries."""
        return self.surrogate.weights.diagonal().abs()[self.region.columns]

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """Ends of the intervals in scores, shape ``(e,)`` each."""
        offset = self.surrogate.offset[self.region.columns]
        return (self.region.lower - offset) / self._unit, (self.region.upper - offset) / self._unit

    @cached_property
    def _width_variance(self) -> Tensor:
        """Variances ``(e,)`` of a uniform number in each interval, or of measurement noise."""
        low, high = self._ends
        measured = self.region.noise / self._unit
        return torch.where(measured > 0.0, measured.square(), (high - low).square() / 12.0)

    @cached_property
    def _log_volume(self) -> Tensor:
        """Logarithms ``(e,)`` of the widths that multiply densities."""
        low, high = self._ends
        measured = 0.5 * math.log(2.0 * math.pi) + (self.region.noise / self._unit).log()
        return torch.where(self.region.noise > 0.0, measured, (high - low).log())

    @cached_property
    def _narrow(self) -> Tensor:
        """Positions of the entries that count by their joint density."""
        region, columns = self.region, self.region.columns
        scale = self.noise.scale(self.surrogate.gp.inputs).median(0).values
        least = (
            self.noise.mixture.covariances.diagonal(dim1=-2, dim2=-1).amin(0) * scale.square()
        )[columns]
        narrow = (region.noise > 0.0) | (self._width_variance <= least)
        first = torch.tensor([int(c) not in columns[:i].tolist() for i, c in enumerate(columns)])
        return torch.nonzero(narrow & ~region.avoided & first.to(narrow.device)).flatten()

    def log_probability(self, inputs: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the log probability ``(n,)`` at unit inputs ``(n, d)``.

        Args:
            inputs: Unit inputs, shape ``(n, d)``.
            mean: Means of the scores, shape ``(n, k)``.
            variance: Variances of the means, shape ``(n, k)``.
        """
        mixture, scale = self.noise.mixture, self.noise.scale(inputs)[:, None]
        centre = mean[:, None] + scale * mixture.means  # (n, m, k)
        log = mixture.log_weights + torch.zeros_like(centre[..., 0])
        narrow, (low, high) = self._narrow, self._ends
        if len(narrow):
            own = self.region.columns[narrow]
            gap = 0.5 * (low + high)[narrow] - centre[..., own]
            covariance = mixture.covariances[:, own][..., own]
            # N(gap; D S D + V) = N(gap / D; S + V / D^2) / |D|
            part = scale[..., own]
            extra = (variance[:, None, own] + self._width_variance[narrow]) / part.square()
            log = log + log_normal(gap / part, covariance, extra) - part.log().sum(-1)
            log = log + self._log_volume[narrow].sum()
        for entry in set(range(len(low))) - set(narrow.tolist()):
            column = int(self.region.columns[entry])
            spread = mixture.covariances[:, column, column] * scale[..., column].square()
            spread = (spread + variance[:, None, column]).sqrt()
            ends = ((end[entry] - centre[..., column]) / spread for end in (low, high))
            inside = log_probability(*ends)
            log = log + (log_complement(inside) if self.region.avoided[entry] else inside)
        return log.logsumexp(-1).clamp(max=0.0)
