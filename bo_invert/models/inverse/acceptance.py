"""Probability that points meet a target, from the joint distribution of all outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array

_SCORES = 16
"""Number of normal samples of the scores of principal components. Engineering choice: bounds the
time with hundreds of outputs."""
_QUANTILES = 16
"""Number of factors of the variances behind a Student t distribution. Engineering choice: errors of
a probability stay below 0.01."""
_PATHS = 64
"""Number of posterior paths behind an interval. Engineering choice: quantiles of 5 % need some
dozens."""
_CELLS = 250_000
"""Largest number of outputs computed at once. Engineering choice: 2 MB, the size of a cache."""


@dataclass(frozen=True, eq=False)
class Acceptance:
    """Probability a(x) that a point meets the target and the outcome constraints.

    Independent outputs have the product of ``TargetModel.log_acceptance_of``. Outputs that share
    principal components are far from independent. With scores ``s = mu(x) + sigma(x) z``,

        ``a(x) = E_z prod_j (Phi((u_j - y_j(s)) / r_j) - Phi((l_j - y_j(s)) / r_j))``,

    z ~ N(0, I), and the standard deviations r of the outputs outside of the components.

    Args:
        model: Model of the target.
        softness: Least standard deviation of an output, as a share of the half-width of its
            interval; 0 for none. It gives gradients at sharp limits.
        degrees: Degrees of freedom of a multivariate Student t distribution with the moments of the
            model as location and scale; infinite for the normal one. It is the mixture of normal
            distributions with variances times ``degrees / w``, w ~ chi-squared.
    """

    model: TargetModel
    softness: float = 0.0
    degrees: float = math.inf

    def __call__(self, points: Array) -> Array:
        """Return a ``(n,)`` of points ``(n, d)``; 0 at points that the domain does not allow."""
        found = np.zeros(len(points))
        rows = np.flatnonzero(self.model.domain.admits(points))
        found[rows] = self.anywhere(points[rows])
        return found

    @torch.no_grad()
    def anywhere(self, points: Array) -> Array:
        """Return a ``(n,)`` of points ``(n, d)``, also of those that the domain does not allow."""
        if not len(points):
            return np.zeros(0)
        count = math.ceil(len(points) * self._cells / _CELLS)
        parts = np.array_split(points, count)
        return np.concatenate([self.of(self.model.unit(part)).cpu().numpy() for part in parts])

    def of(self, inputs: Tensor) -> Tensor:
        """Return a ``(n,)`` of unit inputs ``(n, d)``, with gradients."""
        mean, variance = self.model.scores(inputs)
        parts = [self._normal(mean, variance * factor) for factor in self._factors]
        accepted = torch.stack(parts).mean(0)
        feasible = self.model.log_feasible
        return accepted if feasible is None else accepted * feasible(inputs).exp()

    def _normal(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return a ``(n,)`` of normal scores with these moments ``(n, k)``, if all are feasible."""
        region, surrogate = self.model.region, self.model.surrogate
        if self.model.share < 1.0:
            scores = mean + variance.sqrt() * self._normals[:, None]  # (s, n, k)
            outputs = surrogate.values(scores)
            std = (surrogate.residual_variance + self._least.square()).sqrt().clamp(min=1e-12)
            return region.acceptance(outputs, std).mean(0)
        outputs, std = surrogate.warped_moments(mean, variance)
        std = (std.square() + self._least.square()).sqrt()
        return region.acceptance(outputs, std)

    @torch.no_grad()
    def shares(self, points: Array, weights: Array, seed: int = 0) -> Array:
        """Return the accepted share of weighted points under posterior paths, shape ``(q,)``.

        Deviations of the paths from the mean are widened like the variances of the model.

        Args:
            points: Points, shape ``(n, d)``.
            weights: Weights of sum 1, shape ``(..., n)``.
            seed: Seed of the paths.

        Returns:
            Shares, shape ``(..., q)``.
        """
        model = self.model
        gp, surrogate = model.process, model.surrogate
        inputs = model.unit(points)
        drawn = draw_paths(gp, _PATHS, seed)(inputs)  # (n, k, q)
        mean = gp(inputs)[0][..., None]
        spread = (drawn - mean) * model.inflation.sqrt()[:, None]
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(spread.shape, dtype=spread.dtype, generator=generator).to(spread)
        scores = mean + spread + noise * surrogate.misfit_variance.sqrt()[:, None]
        inside = [model.region.contains(surrogate.values(one)) for one in scores.permute(2, 0, 1)]
        accepted = torch.stack(inside).to(inputs)  # (q, n)
        if model.log_feasible is not None:
            accepted = accepted * model.log_feasible(inputs).exp()
        usable = accepted.cpu().numpy() * model.domain.admits(points)
        return np.asarray(weights @ usable.T)

    @property
    def _cells(self) -> int:
        """Number of outputs that are computed for a point."""
        c = len(self.model.surrogate.offset)
        return c * _SCORES if self.model.share < 1.0 else c + len(self.model.surrogate.gp.inputs)

    @cached_property
    def _factors(self) -> list[float]:
        """Quantiles of the factor of the variances of a Student t distribution; [1.0] if normal."""
        if math.isinf(self.degrees):
            return [1.0]
        levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        # Quantiles of chi-squared are twice those of a gamma distribution of half the degrees.
        chi_squared = 2.0 * gammaincinv(0.5 * self.degrees, levels)
        return [float(factor) for factor in self.degrees / chi_squared]

    @cached_property
    def _normals(self) -> Tensor:
        offset = self.model.surrogate.offset
        return sobol_normals(_SCORES, len(self.model.surrogate.weights), 0, offset)

    @cached_property
    def _least(self) -> Tensor:
        """Least standard deviations of the modelled outputs, shape ``(c,)``."""
        region = self.model.region
        half = 0.5 * (region.upper - region.lower)
        found = torch.full_like(self.model.surrogate.offset, math.inf)
        found = found.scatter_reduce(0, region.columns.to(found.device), half.to(found), "amin")
        return torch.where(found.isfinite(), self.softness * found, torch.zeros_like(found))
