"""Nearest outputs of the posterior mean for many targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.inverse.drawn_outputs import DistanceScore, DrawnOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.optim.discrete_search import has_configurations, neighbours
from bo_invert.models.optim.optimize_acquisition import gradient_ascent
from bo_invert.models.optim.score import at_valid
from bo_invert.types import Array, Indices

_STARTS, _MORE = 3, 8
"""Numbers of descents of the mean for each target, and of further ones that it needs.
Engineering choice: more of them take longer than the draws."""
_CANDIDATES = 8
"""Best starts of each target at which all draws are evaluated. Engineering choice."""
_APART = 0.15
"""Least distance of two starts of a target, in typical distances. Engineering choice."""
_STEPS, _FINE_STEPS = 50, 30
"""Evaluations of a descent: to the target, and to the nearest outputs. Engineering choice."""
RIGOUR = 100.0
"""Weight of constraints at the nearest outputs, dimensionless. Engineering choice."""
_NEIGHBOURS = 24
"""Number of changes of choices and integers for each target. Engineering choice: bounds the
cost."""


class MeanSearch:
    """Descents of the mean for t targets.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        starts: Points, shape ``(s, d)``.
        rng: Random generator.
    """

    def __init__(
        self,
        outputs: DrawnOutputs,
        distance: TargetDistance,
        domain: Domain,
        starts: Array,
        rng: np.random.Generator,
    ) -> None:
        self._domain, self._rng = domain, rng
        self._starts = starts
        # The first function is the mean, so that the others need not be evaluated.
        self._mean = outputs.only_mean()
        self._score = DistanceScore(self._mean, distance)
        self.strict = replace(distance, rigour=RIGOUR)
        self._excess = self._score.worst(to_unit(domain, starts))  # (t, s)

    def ends(self) -> Array:
        """Return good starts, ends of descents and their neighbours for each target, ``(t, p, d)``.

        Targets that the first descents do not reach have further starts, among them the ends of
        other targets.
        """
        count = len(self._excess)
        order = np.argsort(self._excess, axis=1, kind="stable")
        first = self._starts[order[:, :_CANDIDATES]]
        ends = self._descended(np.arange(count), self._spread(np.arange(count), _STARTS))
        found = self._score.worst(to_unit(self._domain, ends.reshape(-1, self._domain.dim)))
        every = ends.reshape(-1, self._domain.dim)
        own = found.reshape(count, *ends.shape[:2])[np.arange(count), np.arange(count)]
        missed = np.flatnonzero(own.min(1) > 0.0)
        more = np.repeat(ends[:, :1], _MORE, axis=1)
        if len(missed):
            self._starts = np.concatenate([self._starts, every])
            self._excess = np.concatenate([self._excess, found], axis=1)
            more[missed] = self._descended(missed, self._spread(missed, _MORE))
        ends = np.concatenate([ends, more], axis=1)
        fine = self._refined(ends)
        points = np.concatenate([first, ends, fine[:, None]], axis=1)
        if has_configurations(self._domain):
            points = np.concatenate([points, self._neighbours(fine)], axis=1)
        return points

    def _spread(self, targets: Indices, count: int) -> Array:
        """Return the best starts of targets, not near each other, ``(b, count, d)``."""
        radius = _APART * self._domain.typical_distance
        excess = self._excess[targets].copy()
        chosen = []
        for _ in range(count):
            best = excess.argmin(1)
            chosen.append(self._starts[best])
            gaps = np.linalg.norm(self._starts[None] - self._starts[best][:, None], axis=2)
            excess = np.where(gaps < radius, np.inf, excess)
        return np.stack(chosen, axis=1)

    def _descended(self, targets: Indices, starts: Array) -> Array:
        """Return the ends of descents ``(b, p, d)`` of squared excesses."""
        functions = np.repeat(targets, starts.shape[1])
        valid = at_valid(self._score, self._domain)
        flat = starts.reshape(-1, self._domain.dim)
        ends = gradient_ascent(valid, self._domain, flat, _STEPS, functions=functions)
        return ends.reshape(starts.shape)

    def _refined(self, ends: Array) -> Array:
        """Return the end of a descent of the smooth maximum from the best end, ``(t, d)``."""
        every, rows = ends.reshape(-1, self._domain.dim), np.arange(len(ends))
        score = DistanceScore(self._mean, self.strict)
        found = score.worst(to_unit(self._domain, every)).reshape(len(ends), *ends.shape[:2])
        own = found[rows, rows]  # (t, p)
        best, least = ends[rows, own.argmin(1)], own.min(1)
        valid = at_valid(replace(score, smooth=np.maximum(least, 0.0)), self._domain)
        return gradient_ascent(valid, self._domain, best, _FINE_STEPS, functions=rows)

    def _neighbours(self, points: Array) -> Array:
        """Return changes of choices and integers of one point of each target, ``(t, p, d)``."""
        found = []
        for point in points:
            moved = self._domain.project(neighbours(self._domain, point, self._rng))
            chosen = self._rng.permutation(len(moved))[np.arange(_NEIGHBOURS) % len(moved)]
            found.append(moved[chosen])
        return np.array(found)
