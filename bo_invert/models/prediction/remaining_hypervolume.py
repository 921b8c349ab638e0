"""Distribution of the hypervolume that a search can still gain, under fitted models."""

from __future__ import annotations

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.acquisition.box_decomposition import hypervolume
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.optimize_acquisition import raw_candidates
from bo_invert.models.prediction.predictor import Predictor
from bo_invert.models.prediction.remaining_gain import RemainingGain, moved_points
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import non_dominated, reference_point
from bo_invert.types import Array, Indices, Mask

_GLOBAL, _LOCAL = 512, 512
"""Numbers of space-filling candidates and of perturbed points of the front. Engineering choice."""
_ROUNDS, _PARENTS = 6, 48
"""Numbers of rounds of the search for good points, and of points that are moved in a round.
Engineering choice."""
_JOINT, _ANCHORS = 96, 48
"""Numbers of candidates, and of observed points of a noisy oracle, with joint samples.
Engineering choice: a joint sample costs O(n^3)."""
_SAMPLES = 200
"""Number of joint samples. Engineering choice: 10 of them lie beyond a 95 % quantile."""
_DRAWS = 2000
"""Number of points that estimate a volume of more than two criteria. Engineering choice: a standard
error of 2 % of half of the volume."""
_LOW, _QUANTILE = 0.05, 0.95
"""Levels of optimistic losses and of the bound, dimensionless, by definition."""
_NEGLIGIBLE = 1e-6
"""Gain that counts as none, as a share of the volume of all samples. Engineering choice."""


@one_thread()
@torch.no_grad()
def remaining_hypervolume(predictor: Predictor, history: History, noisy: bool) -> RemainingGain:
    """Estimate the hypervolume between the front and the front of the whole domain.

    An evolutionary search finds points whose optimistic losses, 5 % quantiles of the criteria, no
    other point dominates. The gain of a joint posterior sample at 96 of them is

        ``HV(front and sample) - HV(front)``.

    The reference point is that of the observed front. For a noisy oracle, the front is sampled at
    the observed points.

    Args:
        predictor: Fitted models of the outputs of a ``Pareto`` objective.
        history: Log with a feasible observation.
        noisy: The oracle is noisy.
    """
    objective = predictor.statement.objective
    assert isinstance(objective, Pareto)
    rng = np.random.default_rng(0)
    feasible = history.violations <= 0.0
    losses = np.asarray(objective.losses(history.y))[feasible]
    observed = history.points[feasible]
    mask = non_dominated(losses)
    front = losses[mask]
    reference = reference_point(front, losses, objective.reference_losses)
    points = _promising(predictor, rng.permutation(observed[mask]), reference, rng)
    anchors = observed[_first(losses, _ANCHORS)] if noisy else observed[:0]
    sampled, allowed = predictor.joint_criteria(np.concatenate([anchors, points]), _SAMPLES)
    sampled = np.where(allowed[..., None], sampled, np.inf)
    if not noisy:
        sampled = np.concatenate([np.broadcast_to(front, (_SAMPLES, *front.shape)), sampled], 1)
    before = len(anchors) if noisy else len(front)
    volume = _Volume(sampled, before, reference, rng)
    gains = np.array([volume.gain(own) for own in sampled])
    return RemainingGain(
        float(gains.mean()),
        float(np.quantile(gains, _QUANTILE)),
        float((gains > _NEGLIGIBLE * volume.whole).mean()),
    )


class _Volume:
    """Hypervolume that losses add to those before: exact for two criteria, otherwise estimated.

    The estimate is a share of uniform points, the same ones for all samples.

    Args:
        sampled: Sampled losses, shape ``(S, b, q)``.
        before: Number of the first losses, to which the others add.
        reference: Reference point, shape ``(q,)``.
        rng: Random generator.

    Attributes:
        whole: Volume of the box that contains all samples.
    """

    def __init__(
        self, sampled: Array, before: int, reference: Array, rng: np.random.Generator
    ) -> None:
        self._before, self._reference = before, reference
        lowest = np.minimum(sampled.min((0, 1)), reference)
        self.whole = float(np.prod(reference - lowest))
        self._draws = lowest + rng.random((_DRAWS, len(reference))) * (reference - lowest)

    def gain(self, losses: Array) -> float:
        """Return the hypervolume that the losses ``(b, q)`` add to the first ones."""
        first, others = losses[: self._before], losses[self._before :]
        if len(self._reference) == 2:
            return hypervolume(losses, self._reference) - hypervolume(first, self._reference)
        outside = self._draws[~self._dominated(self._draws, first)]
        return self.whole * float(self._dominated(outside, others).sum()) / _DRAWS

    def _dominated(self, draws: Array, losses: Array) -> Mask:
        """Return the mask ``(k,)`` of the draws ``(k, q)`` that some losses dominate."""
        rows = losses[(losses < self._reference).all(1)]
        inside = np.zeros(len(draws), dtype=bool)
        for row in rows[non_dominated(rows)]:
            rest = np.flatnonzero(~inside)
            inside[rest] = (draws[rest] >= row).all(1)
        return inside


def _promising(
    predictor: Predictor, front: Array, reference: Array, rng: np.random.Generator
) -> Array:
    """Return points ``(b, d)`` that may extend the front ``(n, d)``."""
    domain = predictor.statement.domain
    pool = raw_candidates(domain, front, rng, _GLOBAL, _LOCAL)
    scores = _optimistic(predictor, pool, reference)
    for _ in range(_ROUNDS):
        fresh = moved_points(domain, pool[_first(scores, _PARENTS)], rng)
        pool = np.concatenate([pool, fresh])
        scores = np.concatenate([scores, _optimistic(predictor, fresh, reference)])
    return np.asarray(pool[_first(scores, _JOINT)])


def _optimistic(predictor: Predictor, points: Array, reference: Array) -> Array:
    """Return 5 % quantiles of the criteria ``(b, q)`` in units of their range.

    Points that are improbable, or beyond the reference point, are infinite.
    """
    low, feasible = predictor.low_criteria(points, _LOW)
    usable = (low < reference).all(1) & (feasible >= 1.0 - _QUANTILE)
    return np.where(usable[:, None], low, np.inf)


def _first(losses: Array, count: int) -> Indices:
    """Return the rows ``(count,)`` of the best fronts of losses, spread over the last front."""
    finite = np.flatnonzero(np.isfinite(losses).all(1))
    chosen: list[int] = []
    while len(finite) and len(chosen) < count:
        mask = non_dominated(losses[finite])
        rows, finite = finite[mask], finite[~mask]
        # Even positions along the first criterion cover a front.
        rows = rows[np.argsort(losses[rows, 0], kind="stable")]
        room = min(count - len(chosen), len(rows))
        chosen += rows[np.linspace(0, len(rows) - 1, room).round().astype(int)].tolist()
    if not chosen:  # no point is probable enough
        return np.arange(min(count, len(losses)))
    return np.array(chosen)
