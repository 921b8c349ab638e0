"""Probability that designs meet a target, under a surrogate of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import Z_90, to_unit
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.noisy_acceptance import NoisyAcceptance
from bo_invert.models.inverse.oracle_noise import OracleNoise
from bo_invert.models.inverse.target_region import TargetRegion
from bo_invert.models.optim.score import Score
from bo_invert.types import Array

_WIDEN = 0.5
"""Half-width of a target interval in posterior standard deviations, from which calls inform about
it. Engineering choice: far narrower intervals have acceptances near 0 everywhere."""
_TWINS, _MOST_TWINS = 0.99, 12
"""Prior correlation above which observations are twins, and largest number that is left out at
once. Engineering choice: a twin alone explains 98 % of the variance."""


@dataclass(frozen=True, eq=False)
class TargetModel:
    """Probability a(x) that the outputs of a point meet the target and the outcome constraints.

    Args:
        domain: Search domain.
        surrogate: Surrogate of the modelled outputs, without an output warp.
        region: Intervals of the modelled outputs.
        log_feasible: Log probability that the oracle returns outputs, at unit inputs; None for 1.
        gp: Posterior of the scores, given pending points if there are any; default that of the
            surrogate.
        noise: Noise of one call; None for equal and independent normal noise, the misfit variance
            of the surrogate.
    """

    domain: Domain
    surrogate: Surrogate
    region: TargetRegion
    log_feasible: Score | None = None
    gp: GPPosterior | None = None
    noise: OracleNoise | None = None

    @torch.no_grad()
    def log_acceptance(self, points: Array) -> Array:
        """Return log a ``(n,)`` of points ``(n, d)``."""
        return self.log_acceptance_of(self.unit(points)).cpu().numpy()

    def unit(self, points: Array) -> Tensor:
        """Return the unit inputs of points, on the device of the surrogate."""
        return torch.as_tensor(to_unit(self.domain, points)).to(self.surrogate.offset)

    def log_acceptance_of(self, inputs: Tensor, widen: Tensor | None = None) -> Tensor:
        """Return log a ``(n,)`` of unit inputs ``(n, d)``; see ``TargetRegion.log_acceptance``.

        Amounts ``widen`` are for models with equal noise.
        """
        if self._noisy is not None and widen is None:
            log = self._noisy.log_probability(inputs, *self.process(inputs))
        else:
            mean, std = self.surrogate.warped_moments(*self.scores(inputs))
            log = self.share * self.region.log_acceptance(mean, std, widen)
        return log if self.log_feasible is None else log + self.log_feasible(inputs)

    def scores(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and widened variance of the scores, ``(n, k)`` each, with the misfit."""
        mean, variance = self.process(inputs)
        return mean, self._widened(variance)

    @torch.no_grad()
    def linearised(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and standard deviation of the outputs, and slopes of the mean of the scores.

        Shapes ``(n, c)``, ``(n, c)`` and ``(n, k, d)`` at unit inputs ``(n, d)``.
        """
        mean, variance, slopes = self.process.linearised(inputs)
        return *self.surrogate.warped_moments(mean, self._widened(variance)), slopes

    def _widened(self, variance: Tensor) -> Tensor:
        return variance * self.inflation + self.surrogate.misfit_variance

    @cached_property
    def _noisy(self) -> NoisyAcceptance | None:
        if self.noise is None:
            return None
        return NoisyAcceptance(self.region, self.surrogate, self.noise)

    @property
    def process(self) -> GPPosterior:
        """Posterior of the scores, given pending points."""
        return self.surrogate.gp if self.gp is None else self.gp

    @property
    def share(self) -> float:
        """Share of independent outputs: k principal components are less than c outputs."""
        k, c = self.surrogate.weights.shape
        return min(1.0, k / c)

    @cached_property
    def inflation(self) -> Tensor:
        """Factors ``(k,)`` >= 1 of variances, by which left-out observations are covered.

        The 90 % quantile of the left-out errors in standard deviations, over that of a normal
        distribution (split conformal prediction). An observation is left out together with its
        near twins, as secant steps leave them; beside a twin, every prediction is good.
        """
        errors, variances = self.surrogate.gp.leave_twins_out(_TWINS, _MOST_TWINS)
        scaled = errors.abs() / variances.clamp(min=1e-18).sqrt()
        level = min(1.0, 0.9 * (1.0 + 1.0 / len(scaled)))
        return (scaled.quantile(level, dim=0) / Z_90).clamp(min=1.0).square()

    def widening(self, inputs: Tensor) -> Tensor:
        """Return amounts ``(e,)`` by which intervals grow, so that calls inform about them."""
        _, std = self.surrogate.warped_moments(*self.scores(inputs))
        typical = std.median(0).values[self.region.columns]
        half = 0.5 * (self.region.upper - self.region.lower)
        return (_WIDEN * typical - half).clamp(min=0.0)

    def given(self, pending: Array) -> TargetModel:
        """Return the model that expects its means at pending points ``(p, d)``."""
        if not len(pending):
            return self
        inputs = self.unit(pending)
        mean, _ = self.process(inputs)
        extended = self.process.extend(inputs, mean.mT[..., None])
        return replace(self, gp=extended)

    @torch.no_grad()
    def uncertainty(self, points: Array) -> Array:
        """Return the summed variances of the scores ``(n,)`` at points ``(n, d)``."""
        return np.asarray(self.scores(self.unit(points))[1].sum(1).cpu().numpy())

    def mean(self, points: Array) -> Array:
        """Return the means ``(n, c)`` of the modelled outputs at points ``(n, d)``."""
        with torch.no_grad():
            return np.asarray(self.surrogate.mean(self.unit(points)).cpu().numpy())
