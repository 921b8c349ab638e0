"""Probability that targets can be reached, and the nearest outputs that can.

Each drawn function is minimised over the valid points. The share of the draws that meet a target is
the probability that some design does, as in Thompson sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.inverse.drawn_outputs import DistanceScore, DrawnOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.optim.discrete_search import has_configurations, neighbours
from bo_invert.models.optim.optimize_acquisition import gradient_ascent, raw_candidates
from bo_invert.models.optim.score import at_valid
from bo_invert.types import Array, Indices

_GLOBAL, _LOCAL = 768, 256
"""Numbers of starts: draws of the whole domain, and perturbed observations. Engineering choice."""
_INCUMBENTS = 16
"""Number of observations near the target that are perturbed. Engineering choice."""
_MEAN_STARTS = 12
"""Starts of a descent of the mean. Engineering choice."""
_ROUNDS = 3
"""Descents of each draw that has not met the target. Engineering choice."""
_STEPS, _FINE_STEPS = 60, 40
"""Evaluations of a descent: to the target, and to the nearest outputs. Engineering choice."""
_RIGOUR = 10.0
"""Weight of constraints at the nearest outputs, in units of their distance. Engineering choice."""
_CLIMBS, _CLIMBERS = 3, 24
"""Rounds of changes of choices and integers, and points that are changed. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Reach:
    """Largest excesses that q functions can attain: the mean, number 0, and draws.

    Args:
        excess: Least largest excess of each function, in tolerances; at most 0 where the target
            is met; shape ``(q,)``.
        points: Points at which it is attained, shape ``(q, d)``.
        outputs: Modelled outputs there, shape ``(q, c)``.
    """

    excess: Array
    points: Array
    outputs: Array

    @property
    def probability(self) -> float:
        """Share of the draws that meet the target."""
        return float((self.excess[1:] <= 0.0).mean())


def starting_points(domain: Domain, near: Array, rng: np.random.Generator) -> Array:
    """Return starts of the descents: draws of the domain, observations and changes of them.

    Args:
        domain: Search domain.
        near: Observed points, nearest to the target first, shape ``(n, d)``.
        rng: Random generator.
    """
    drawn = raw_candidates(domain, near[:_INCUMBENTS], rng, n_global=_GLOBAL, n_local=_LOCAL)
    return np.concatenate([drawn, near])


def nearest_outputs(
    outputs: DrawnOutputs,
    distance: TargetDistance,
    domain: Domain,
    starts: Array,
    rng: np.random.Generator,
) -> Reach:
    """Minimise the largest excess of each function over the valid points, for one target.

    ``min_x max_e x_e(f_i(x))`` for each function f_i. Descents of squared excesses decide whether
    the target is met. Functions that do not meet it descend their smooth maximum.

    Args:
        outputs: Drawn outputs.
        distance: Distance from one target.
        domain: Search domain.
        starts: Points, shape ``(s, d)``.
        rng: Random generator.
    """
    search = _Search(outputs, distance, domain, rng)
    search.add(starts)
    # Ends of the mean are starts of all draws, whose minima are near.
    mean = np.zeros(_MEAN_STARTS, dtype=np.intp)
    search.add(search.descend(mean, search.best_starts(0, _MEAN_STARTS), _STEPS))
    if has_configurations(domain):
        search.climb()
    for _ in range(_ROUNDS):
        open_ones = np.flatnonzero(search.excess > 0.0)
        if not len(open_ones):
            break
        ends = search.descend(open_ones, search.next_starts(open_ones), _STEPS)
        search.offer(open_ones, ends)
    search.add(search.points[:1])
    beyond = np.flatnonzero(search.excess > 0.0)
    if len(beyond):
        # Feasible outputs are wanted, whatever their distance from the target.
        hard = search.with_rigour(_RIGOUR * (1.0 + float(search.excess[beyond].max())))
        fine = hard.descend(beyond, hard.points[beyond], _FINE_STEPS, smooth=True)
        hard.offer(beyond, fine)
        search.points[beyond] = hard.points[beyond]
    return search.found()


class _Search:
    """State of a minimisation of q functions.

    Attributes:
        excess: Least largest excess of each function, shape ``(q,)``.
        points: Points at which it is attained, shape ``(q, d)``.
    """

    def __init__(
        self,
        outputs: DrawnOutputs,
        distance: TargetDistance,
        domain: Domain,
        rng: np.random.Generator,
    ) -> None:
        self._outputs, self._distance, self._domain, self._rng = outputs, distance, domain, rng
        self._score = DistanceScore(outputs, distance)
        drawn = np.arange(outputs.count) > 0
        self._slack = distance.slacks(np.zeros(outputs.count, dtype=np.intp), drawn)
        self._pool = np.empty((0, domain.dim))
        self._pool_aims = np.empty((0, outputs.count))
        self._pool_limits = np.empty((0, outputs.count))
        self._used = np.full((outputs.count, 0), -1, dtype=np.intp)
        self.excess: Array = np.full(outputs.count, np.inf)
        self.points: Array = np.zeros((outputs.count, domain.dim))

    def add(self, points: Array) -> None:
        """Evaluate all functions at points ``(b, d)``, which become starts."""
        inputs = to_unit(self._domain, points)
        excess, _ = self._distance.excesses(self._outputs(inputs), np.asarray(0))
        excess = excess - self._slack
        wanted = self._distance.wanted
        least = self._distance.rigour * self._outputs.infeasibility(inputs)
        aims = excess[..., :wanted].max(-1, initial=-np.inf)
        limits = excess[..., wanted:].max(-1, initial=-np.inf)
        self._append(points, aims, np.maximum(limits, least))

    def _append(self, points: Array, aims: Array, limits: Array) -> None:
        """Add starts with their excesses ``(b, q)`` over the target and over constraints."""
        self._pool = np.concatenate([self._pool, points])
        self._pool_aims = np.concatenate([self._pool_aims, aims])
        self._pool_limits = np.concatenate([self._pool_limits, limits])
        largest = np.maximum(aims, limits)
        self._keep(np.arange(len(self.excess)), points[largest.argmin(0)], largest.min(0))

    @property
    def _pool_excess(self) -> Array:
        """Largest excess of each start under each function, shape ``(s, q)``."""
        return np.maximum(self._pool_aims, self._pool_limits)

    def offer(self, functions: Indices, points: Array) -> None:
        """Evaluate each function at its own point ``(b, d)``, and keep better ones."""
        inputs = to_unit(self._domain, points)
        largest, _ = self._score.largest(inputs, functions)
        self._keep(functions, points, largest)

    def _keep(self, functions: Indices, points: Array, excess: Array) -> None:
        better = excess < self.excess[functions]
        self.excess[functions[better]] = excess[better]
        self.points[functions[better]] = points[better]

    def best_starts(self, function: int, count: int) -> Array:
        """Return the best points of the pool for one function, ``(count, d)``."""
        order = np.argsort(self._pool_excess[:, function], kind="stable")
        return np.asarray(self._pool[order[np.arange(count) % len(order)]])

    def next_starts(self, functions: Indices) -> Array:
        """Return for each function its best start that differs from the former ones."""
        excess = self._pool_excess[:, functions].copy()  # (s, b)
        used = self._used[functions]
        radius = self._domain.separation * np.sqrt(self._domain.dim)
        for column in range(used.shape[1]):
            centres = self._pool[used[:, column]]
            # Starts within the separation lead to the same minimum.
            for row, centre in enumerate(centres):
                near = np.linalg.norm(self._pool - centre, axis=1) < radius
                excess[near, row] = np.inf
        chosen = excess.argmin(0)
        latest = np.zeros(len(self.excess), dtype=np.intp)
        latest[functions] = chosen
        self._used = np.concatenate([self._used, latest[:, None]], axis=1)
        return np.asarray(self._pool[chosen])

    def descend(
        self, functions: Indices, starts: Array, steps: int, *, smooth: bool = False
    ) -> Array:
        """Descend functions ``(b,)`` from starts ``(b, d)``; return the ends."""
        score = self._score
        if smooth:
            score = DistanceScore(self._outputs, self._distance, self.excess)
        valid = at_valid(score, self._domain)
        return gradient_ascent(valid, self._domain, starts, steps, functions=functions)

    def climb(self) -> None:
        """Change choices and integers of the best points of all functions, as local search."""
        for _ in range(_CLIMBS):
            open_ones = np.flatnonzero(self.excess > 0.0)
            if not len(open_ones):
                return
            distinct, counts = np.unique(self.points[open_ones], axis=0, return_counts=True)
            few = distinct[np.argsort(-counts, kind="stable")[:_CLIMBERS]]
            moved = [neighbours(self._domain, point, self._rng) for point in few]
            self.add(self._domain.project(np.concatenate(moved)))

    def with_rigour(self, rigour: float) -> _Search:
        """Return the search with another rigour, at the best points of this one for all draws."""
        distance = replace(self._distance, rigour=rigour)
        other = _Search(self._outputs, distance, self._domain, self._rng)
        change = rigour / self._distance.rigour
        other._append(self._pool, self._pool_aims, change * self._pool_limits)
        other.add(np.unique(self.points, axis=0))
        return other

    def found(self) -> Reach:
        """Return the minima."""
        functions = np.arange(len(self.excess))
        inputs = to_unit(self._domain, self.points)
        excess, values = self._score.largest(inputs, functions)
        return Reach(excess, self.points, values)
