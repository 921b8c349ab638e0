"""Plausibility penalty: term of a score that excludes points below the plausibility bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from bo_invert.domains.reference_measure import Reference
from bo_invert.domains.search_domain import Domain

_SLOPE = 1e6
"""Slope of the penalty, dimensionless, per interquartile range of the log density. Engineering
choice: the bound is exact, so no improvement outweighs it."""
_DATA_SLOPE = 10.0
"""The same for a box with data, whose points are projected to the bound after a search. Engineering
choice: on boxes of experiments/frozen_regressors.py, seed 1, gradient ascents end at a log expected
improvement up to 0.7 higher than under a steep penalty, along which they cannot slide."""


def plausibility_penalty(domain: Domain) -> Callable[[Tensor], Tensor] | None:
    """Build slope * min(0, log p(x) - log p_floor) / spread; None without a plausibility bound.

    log p_floor is the quantile ``domain.floor`` of the log densities of the reference measure, and
    spread their interquartile range.

    Args:
        domain: Search domain with the bound and the reference measure.

    Returns:
        Score ``(b,)`` of unit inputs ``(b, d)``: 0 for plausible points, negative for others.
    """
    if domain.floor <= 0.0:
        return None
    reference = domain.reference or _standard_normal(domain.dim)
    # The interquartile range makes the slope independent of the dimension.
    density = _log_density(reference)
    least = float(np.quantile(reference.quantiles, domain.floor))
    # Rows of a few discrete values may have equal densities.
    spread = max(float(np.subtract(*np.quantile(reference.quantiles, (0.75, 0.25)))), 1e-6)
    lower, upper = (torch.tensor(bound) for bound in domain.bounds)
    slope = _SLOPE if domain.latent else _DATA_SLOPE

    def score(inputs: Tensor) -> Tensor:
        points = lower.to(inputs) + inputs * (upper - lower).to(inputs)
        return slope / spread * (density(points) - least).clamp(max=0.0)

    return score


def _standard_normal(dim: int) -> Reference:
    """Return N(0, I) with log densities at evenly spaced quantiles.

    log p = -|z|^2 / 2 - d log(2 pi) / 2, and |z|^2 has the distribution chi^2 with d degrees.
    """
    shares = (np.arange(1000) + 0.5) / 1000
    levels = -0.5 * chi2.isf(shares, dim) - 0.5 * dim * math.log(2.0 * math.pi)
    return Reference(np.ones(1), np.zeros((1, dim)), np.eye(dim)[None], levels)


def _log_density(reference: Reference) -> Callable[[Tensor], Tensor]:
    """Build the log density ``(b,)`` of a Gaussian mixture at points ``(b, d)``."""
    means, factors = torch.tensor(reference.means), torch.tensor(reference.factors)
    whiteners = torch.linalg.inv(factors)
    # log w_c - log|L_c| - d log(2 pi) / 2 for the component with covariance L_c L_c'
    logs = torch.tensor(np.log(reference.weights)) - factors.diagonal(dim1=-2, dim2=-1).log().sum(
        -1
    )
    logs = logs - 0.5 * means.shape[1] * math.log(2.0 * math.pi)

    def density(points: Tensor) -> Tensor:
        # |L_c^-1 (x - m_c)|^2 is the squared Mahalanobis distance from component c.
        off = points[:, None, :] - means.to(points)
        white = torch.einsum("cij,bcj->bci", whiteners.to(points), off)
        return torch.logsumexp(logs.to(points) - 0.5 * white.square().sum(-1), -1)

    return density
