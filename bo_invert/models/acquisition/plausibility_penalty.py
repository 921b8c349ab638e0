"""The wish for plausible designs as a part of an acquisition: known for every point, before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bo_invert.latent_prior import Reference
from bo_invert.search_domain import Domain

_STEEP = 1e6
"""Fall of the score outside, per spread of the log densities: the edge is known exactly, so no promise outweighs it."""


def plausibility_penalty(domain: Domain) -> Callable[[Tensor], Tensor] | None:
    """0 where a point is as plausible as the domain's ``floor`` wants, far below elsewhere; None if it wants nothing.

    The score takes unit inputs ``(b, d)`` and gives ``(b,)``; outside it falls as the log density does.
    """
    edge = _edge(domain)
    if edge is None:
        return None
    lower, upper = (torch.tensor(bound) for bound in domain.bounds)

    def score(inputs: Tensor) -> Tensor:
        points = lower.to(inputs) + inputs * (upper - lower).to(inputs)
        return _STEEP / edge.spread * (edge.density(points) - edge.least).clamp(max=0.0)

    return score


@dataclass(frozen=True)
class _Edge:
    """Where a floor lies.

    Args:
        density: log densities ``(b,)`` of points ``(b, d)``.
        least: log density at the floor.
        spread: between the quartiles of the measured log densities.
    """

    density: Callable[[Tensor], Tensor]
    least: float
    spread: float


def _edge(domain: Domain) -> _Edge | None:
    """None where the domain wants nothing."""
    if domain.floor <= 0.0:
        return None
    reference = domain.reference or _standard(domain.dim)
    least = float(np.quantile(reference.quantiles, domain.floor))
    spread = float(np.subtract(*np.quantile(reference.quantiles, (0.75, 0.25))))
    return _Edge(_log_density(reference), least, spread)


def _standard(dim: int) -> Reference:
    """N(0, I), with its log densities at evenly spaced quantiles."""
    from scipy.stats import chi2

    shares = (np.arange(1000) + 0.5) / 1000
    levels = -0.5 * chi2.isf(shares, dim) - 0.5 * dim * math.log(2.0 * math.pi)
    return Reference(np.ones(1), np.zeros((1, dim)), np.eye(dim)[None], levels)


def _log_density(reference: Reference) -> Callable[[Tensor], Tensor]:
    means, factors = torch.tensor(reference.means), torch.tensor(reference.factors)
    whiteners = torch.linalg.inv(factors)
    d = means.shape[1]
    logs = torch.tensor(np.log(reference.weights)) - factors.diagonal(dim1=-2, dim2=-1).log().sum(
        -1
    )
    logs = logs - 0.5 * d * math.log(2.0 * math.pi)

    def density(points: Tensor) -> Tensor:
        off = points[:, None, :] - means.to(points)
        white = torch.einsum("cij,bcj->bci", whiteners.to(points), off)
        return torch.logsumexp(logs.to(points) - 0.5 * white.square().sum(-1), -1)

    return density
