"""The wish for plausible designs: known for every point, before anything is asked.

``realism`` is the wish as a part of an acquisition, ``plausible`` moves points to where it is fulfilled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bo_invert.domain import Domain, Reference

_STEEP = 1e6
"""Fall of the score outside, per spread of the log densities: the edge is known exactly, so no promise outweighs it."""
_ROUNDS = 50
"""Newton steps to the edge, at most; from anywhere in a latent a few suffice."""
_INSIDE = 1e-3
"""So far inside the edge a moved point ends, in spreads of the log densities: rounding must not put it back."""


def realism(domain: Domain) -> Callable[[Tensor], Tensor] | None:
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


def plausible(domain: Domain, points: Tensor) -> Tensor:
    """Points ``(n, d)``, those less plausible than the domain's ``floor`` wants moved to about the nearest that are.

    Newton steps up the density lead to the edge. Where they end on a mode that is too low itself, it is the mode of
    the densest part of the reference measure.
    """
    edge = _edge(domain)
    if edge is None:
        return points
    moved = points.detach().clone()
    for _ in range(_ROUNDS):
        with torch.enable_grad():
            at = moved.clone().requires_grad_()
            logs = edge.density(at)
            (slopes,) = torch.autograd.grad(logs.sum(), at)
        outside = logs.detach() < edge.least
        if not bool(outside.any()):
            return moved
        lengths = slopes.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        missing = (edge.least + _INSIDE * edge.spread - logs.detach()).unsqueeze(-1)
        # between modes the density is flat, and a whole step would lead anywhere
        steps = slopes / lengths * (missing / lengths).clamp(max=1.0)
        moved = torch.where(outside.unsqueeze(-1), moved + steps, moved)
    return torch.where((edge.density(moved) < edge.least).unsqueeze(-1), edge.peak.to(moved), moved)


@dataclass(frozen=True)
class _Edge:
    """Where a floor lies.

    Args:
        density: log densities ``(b,)`` of points ``(b, d)``.
        least: log density at the floor.
        spread: between the quartiles of the measured log densities.
        peak: the densest of the components' means, shape ``(d,)``.
    """

    density: Callable[[Tensor], Tensor]
    least: float
    spread: float
    peak: Tensor


def _edge(domain: Domain) -> _Edge | None:
    """None where the domain wants nothing."""
    if domain.geometry != "gaussian" or domain.floor <= 0.0:
        return None
    reference = domain.reference or _standard(domain.dim)
    least = float(np.quantile(reference.quantiles, domain.floor))
    spread = float(np.subtract(*np.quantile(reference.quantiles, (0.75, 0.25))))
    peak = reference.means[int(reference.log_density(reference.means).argmax())]
    return _Edge(_log_density(reference), least, spread, torch.tensor(peak))


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
    logs = torch.tensor(np.log(reference.weights)) - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    logs = logs - 0.5 * d * math.log(2.0 * math.pi)

    def density(points: Tensor) -> Tensor:
        off = points[:, None, :] - means.to(points)
        white = torch.einsum("cij,bcj->bci", whiteners.to(points), off)
        return torch.logsumexp(logs.to(points) - 0.5 * white.square().sum(-1), -1)

    return density
