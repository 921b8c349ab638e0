"""Information of a call about the posterior of designs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array

_NODES = 12
"""Number of quadrature nodes. Engineering choice: errors are far below those of the particles."""
_LEAST = 1e-12
"""Least acceptance, dimensionless. Engineering choice: avoids a division by 0."""


@torch.no_grad()
def information(
    model: TargetModel, particles: Array, candidates: Array, *, uniform: bool = False
) -> Array:
    """Return how much of the posterior mass an observation at each candidate is expected to decide.

    The uncertainty of a point u is the variance a (1 - a) of the indicator that it meets the
    target. After an observation at x, the expected second moment is ``E[a'(u)^2]``, with
    ``a'(u) = prod_j P_j(mu_j + tau_j z)`` and ``tau_j^2 = cov_j(u, x)^2 / var_j(x)``. The expected
    reduction of the integrated variance (Jarvenpaa et al. 2019), as a share of the mass
    Z = integral of p a, is

        ``mean_u (E[a'(u)^2] - a(u)^2) / a(u)``, u ~ p a / Z.

    With ``uniform``, the particles have the distribution p of their own, and it is the expected
    reduction itself, ``mean_u (E[a'(u)^2] - a(u)^2)``.

    Intervals far narrower than the posterior are widened. With principal components, it is the
    mean reduction of the variance of the scores at undecided particles.

    Args:
        model: Model of the target.
        particles: Particles of p a, or of p with ``uniform``, shape ``(n, d)``.
        candidates: Points, shape ``(c, d)``.
        uniform: The particles have another distribution than p a.

    Returns:
        Shares, shape ``(c,)``.
    """
    gp, surrogate = model.process, model.surrogate
    at, ask = model.unit(particles), model.unit(candidates)
    widen = model.widening(at)
    mean, variance = model.scores(at)
    own = (gp(ask)[1] * model.inflation + gp.typical_noise.clamp(min=1e-8)).mT  # (k, c)
    cross = gp.covariance(at, ask)
    cross = cross * model.inflation[:, None, None]
    explained = torch.minimum(cross.square() / own[:, None], variance.mT[..., None] * (1 - 1e-9))
    before = model.log_acceptance_of(at, widen).exp()[:, None]
    k, c = surrogate.weights.shape
    if k < c:
        shares = (explained / variance.mT[..., None]).mean(0)
        weights = before * (1.0 - before) if uniform else 1.0 - before
        return np.asarray((weights * shares).mean(0).cpu().numpy())
    after = _second_moment(model, (mean, variance), explained, widen)
    gain = after - before**2 if uniform else after / before.clamp(min=_LEAST) - before
    return np.asarray(gain.clamp(min=0.0).mean(0).cpu().numpy())


def _second_moment(
    model: TargetModel, moments: tuple[Tensor, Tensor], explained: Tensor, widen: Tensor
) -> Tensor:
    """Return E[a'(u)^2] ``(n, c)`` from explained variances ``(k, n, c)``."""
    surrogate, region, (mean, variance) = model.surrogate, model.region, moments
    scale, nodes, shares = surrogate.weights.diagonal(), *_quadrature(mean)
    after = torch.ones_like(explained[0])
    for column in range(len(scale)):
        entries = torch.nonzero(region.columns == column).flatten()
        if not len(entries):
            continue
        # All intervals of one output share its distribution, so their product comes first.
        tau = explained[column].sqrt() * scale[column].abs()
        left = (variance[:, column, None] - explained[column]).clamp(min=1e-18).sqrt()
        left = left * scale[column].abs()
        centre = (mean[:, column] * scale[column] + surrogate.offset[column])[:, None]
        second = torch.zeros_like(after)
        for node, share in zip(nodes, shares, strict=True):
            probability = torch.ones_like(after)
            for e in entries:
                extra = -widen[e] if region.avoided[e] else widen[e]
                low = (region.lower[e] - extra - centre - tau * node) / left
                high = (region.upper[e] + extra - centre - tau * node) / left
                inside = torch.special.ndtr(high) - torch.special.ndtr(low)
                probability = probability * ((1.0 - inside) if region.avoided[e] else inside)
            second = second + share * probability.square()
        after = after * second
    return after


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Hermite quadrature for N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return like.new_tensor(nodes), like.new_tensor(weights / weights.sum())
