"""Distribution of the gain that a search can still reach, under fitted models of the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.optimize_acquisition import raw_candidates
from bo_invert.models.prediction.predictor import Predictor
from bo_invert.types import Array

_GLOBAL, _LOCAL = 1024, 1024
"""Numbers of space-filling candidates and of perturbed incumbents. Engineering choice."""
_ROUNDS, _PARENTS, _OFFSPRING = 6, 32, 256
"""Numbers of rounds of the search for low losses, of points that are moved in a round, and of their
offspring. Engineering choice."""
_SIGMAS = (0.003, 0.01, 0.03, 0.1)
"""Standard deviations of moves in units of the domain's width. Engineering choice."""
_REDRAWN = 0.3
"""Share of moves that take coordinates of a draw, dimensionless. Engineering choice."""
_JOINT = 96
"""Number of candidates with joint samples. Engineering choice: a joint sample costs O(n^3)."""
_SAMPLES = 512
"""Number of joint samples. Engineering choice: 25 of them lie beyond a 95 % quantile."""
_QUANTILE = 0.95
"""Level of the bound, by definition."""
_NEGLIGIBLE = 1e-6
"""Gain that counts as none, in standard deviations of the losses. Engineering choice."""


@dataclass(frozen=True)
class RemainingGain:
    """Difference of the incumbent's loss and the lowest loss of the domain, under a model.

    Args:
        expected: Expectation.
        bound: 95 % quantile.
        probability: Probability that some point is better than the incumbent.
    """

    expected: float
    bound: float
    probability: float


@one_thread()
@torch.no_grad()
def remaining_gain(predictor: Predictor, history: History, noisy: bool) -> RemainingGain:
    """Estimate E max(0, f* - min_x f(x)) and its quantile from joint posterior samples.

    An evolutionary search finds points with a low 5 % quantile of the loss. Posterior samples of
    the losses at the best of them give the distribution of the minimum (Makarova et al. 2022 bound
    it by confidence bounds at each point). Standard deviations are the calibrated ones.

    Args:
        predictor: Fitted models.
        history: Log with a feasible observation.
        noisy: The incumbent is the point with the lowest expected loss, instead of the observed
            one.
    """
    rng = np.random.default_rng(0)
    best = history.best
    assert best is not None
    assert best.loss is not None
    incumbent = best.point
    if noisy:
        feasible = history.violations <= 0.0
        observed = history.points[feasible]
        incumbent = observed[predictor.predict(observed, noise=False).loss.mean[:, 0].argmin()]
    points = _promising(predictor, history, rng)
    every = np.concatenate([incumbent[None], points])
    losses, allowed = predictor.joint_losses(every, _SAMPLES)
    reference = losses[:, 0] if noisy else best.loss
    lowest = np.where(allowed[:, 1:], losses[:, 1:], np.inf).min(axis=1)
    gains = np.maximum(reference - lowest, 0.0)
    spread = float(history.losses.std())
    return RemainingGain(
        float(gains.mean()),
        float(np.quantile(gains, _QUANTILE)),
        float((gains > _NEGLIGIBLE * spread).mean()),
    )


def _promising(predictor: Predictor, history: History, rng: np.random.Generator) -> Array:
    """Return points ``(q, d)`` with the lowest 5 % quantiles of the loss, if probably feasible."""
    domain = predictor.statement.domain
    incumbents = history.points[history.order[:5]]
    pool = raw_candidates(domain, incumbents, rng, _GLOBAL, _LOCAL)
    scores = _scores(predictor, pool)
    for _ in range(_ROUNDS):
        parents = pool[np.argsort(scores, kind="stable")[:_PARENTS]]
        fresh = moved_points(domain, parents, rng)
        pool = np.concatenate([pool, fresh])
        scores = np.concatenate([scores, _scores(predictor, fresh)])
    return pool[np.argsort(scores, kind="stable")[:_JOINT]]


def _scores(predictor: Predictor, points: Array) -> Array:
    """Return the 5 % quantile of the loss ``(b,)``; improbable points come last."""
    found = predictor.predict(points)
    low: Array = found.loss.quantiles[0, :, 0]
    return np.where(found.feasible >= 1.0 - _QUANTILE, low, np.inf)


def moved_points(domain: Domain, parents: Array, rng: np.random.Generator) -> Array:
    """Return parents moved by normal steps in some coordinates, shape ``(b, d)``."""
    rows = parents[rng.integers(len(parents), size=_OFFSPRING)]
    steps = rng.choice(_SIGMAS, size=(_OFFSPRING, 1)) * rng.standard_normal(rows.shape)
    mask = rng.random(rows.shape) < rng.choice([1.0 / domain.dim, 0.5, 1.0], size=(_OFFSPRING, 1))
    redrawn = (rng.random((_OFFSPRING, 1)) < 0.2) & ~np.array(domain.continuous)
    moved = np.where(
        redrawn, domain.sample(rng, _OFFSPRING), rows + steps * np.ptp(domain.bounds, 0)
    )
    return domain.project(np.where(mask, moved, rows))
