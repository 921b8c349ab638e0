"""Tolerances of a design under a model of a target, and the points that would inform them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import qmc

from bo_invert.domains.input_constraints import Linear
from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.information import information
from bo_invert.models.inverse.largest_box import BoxSearch
from bo_invert.models.inverse.moves import MoveBox, MoveSpace
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array

_MARGIN = 1.2
"""Least factor of the moves within which a model is checked. Engineering choice: limits just
outside of a box decide its size."""
_GROWTH, _LARGEST = 1.5, 8
"""Factor of the moves from one region to the next, and number of regions. Engineering choice."""
_OPTIMISTIC = 0.9
"""Quantile of the share of a region that may belong to the box. Engineering choice."""
_CANDIDATES = 64
"""Number of candidates of a check. Engineering choice: bounds its time."""
_POINTS = 512
"""Number of points of a region, and of a box behind an interval. Engineering choice."""
_THIN = 1e-9
"""Least width of a box in unit coordinates. Engineering choice: avoids a division by 0."""
_DOUBT = 0.5
"""Factor of the acceptance of a design that stands for the probability, if a model doubts the
design itself. Engineering choice: the region to check needs some size."""


@dataclass(frozen=True, eq=False)
class ToleranceSearch:
    """Largest box around a design under a model, and the next check of it.

    Args:
        model: Model of the target.
        centre: Point of the design, shape ``(d,)``.
        probability: Least mean acceptance of the box.
        starts: Moves ``(2, f)`` of earlier boxes, which start the search too.
    """

    model: TargetModel
    centre: Array
    probability: float
    starts: Sequence[Array] = ()

    @cached_property
    def space(self) -> MoveSpace:
        """Free coordinates of the design; those of equality constraints have no room."""
        space = MoveSpace.of(self.model.domain, self.centre)
        own, at = space.centre[space.columns], list(self.bound)
        lower, upper = space.lower.copy(), space.upper.copy()
        lower[at] = upper[at] = own[at]
        levels = {k: own[[k]] if k in self.bound else values for k, values in space.levels.items()}
        return replace(space, lower=lower, upper=upper, levels=levels)

    @cached_property
    def bound(self) -> tuple[int, ...]:
        """Positions of the free coordinates that equality constraints bind."""
        names = MoveSpace.of(self.model.domain, self.centre).names
        equalities = [
            one for one in self.model.domain.constraints if isinstance(one, Linear) and one.equality
        ]
        return tuple(k for k, name in enumerate(names) if any(name in e.names for e in equalities))

    @cached_property
    def acceptance(self) -> Acceptance:
        """Probability that points meet the target."""
        return Acceptance(self.model)

    @cached_property
    def separate(self) -> Array:
        """Moves of each coordinate alone, shape ``(2, f)``."""
        return self._search.separate()

    @cached_property
    def box(self) -> MoveBox:
        """Largest box."""
        starts: list[Array | None] = [None, *self.starts]
        found = [self._search.largest(start) for start in starts]
        return max(found, key=lambda one: one.size)

    @cached_property
    def share(self) -> float:
        """Mean acceptance of the box."""
        return self._search.share(self.box)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Quantiles of 5 and 95 % of the accepted share of the box under posterior paths."""
        low, high = np.quantile(self._shares(self.box), [0.05, 0.95])
        return float(low), float(high)

    def next_check(self, known: Array) -> Array | None:
        """Return the point ``(d,)`` that informs most about the box; None if all are known.

        It maximises the expected reduction of the variance of the acceptance over the largest
        region of this shape that may belong to the box.

        Args:
            known: Observed and pending points, shape ``(n, d)``.
        """
        points = self._region().points(self._uniform)
        points = self.model.domain.project(points[self.model.domain.admits(points)])
        seen = {point.tobytes() for point in known}
        fresh = np.array([point.tobytes() not in seen for point in points], dtype=bool)
        if not fresh.any():
            return None
        accepted = self.acceptance(points)
        doubt = np.where(fresh, accepted * (1.0 - accepted), -1.0)
        candidates = points[np.argsort(-doubt, kind="stable")[: min(_CANDIDATES, fresh.sum())]]
        gain = information(self.model, points, candidates, uniform=True)
        return np.asarray(candidates[int(np.argmax(gain))])

    def farthest_check(self, known: Array) -> Array | None:
        """Return the point ``(d,)`` of the box farthest from all known points; None without one.

        It relies on no model. With few observations a model can believe that an output does not
        depend on a coordinate, and informative checks would not show the error.

        Args:
            known: Observed and pending points, shape ``(n, d)``.
        """
        columns, widths = self.space.columns, self.box.moves.sum(0)
        points = self.box.points(self._uniform)
        points = self.model.domain.project(points[self.model.domain.admits(points)])
        scale = np.maximum(widths, _THIN)
        tree = cKDTree(known[:, columns] / scale)
        distances = tree.query(points[:, columns] / scale)[0] if len(points) else np.zeros(0)
        if self.share < self.probability or not len(points) or distances.max() == 0.0:
            return None
        return np.asarray(points[int(np.argmax(distances))])

    def _region(self) -> MoveBox:
        """Return the largest multiple of the box that may meet the target often enough."""
        box, own = self.box, float(self.acceptance(self.centre[None])[0])
        if self.share < self.probability or own < self.probability:
            least = _DOUBT * min(own, self.probability)
            box = replace(self._search, probability=least).largest()
        region = box.scaled(_MARGIN)
        for k in range(1, _LARGEST):
            wider = box.scaled(_MARGIN * _GROWTH**k)
            if np.quantile(self._shares(wider), _OPTIMISTIC) < self.probability:
                break
            region = wider
        return region

    def _shares(self, box: MoveBox) -> Array:
        points = box.points(self._uniform)
        inside = self.model.domain.admits(points)
        if not inside.any():
            return np.zeros(1)
        return self.acceptance.shares(points, inside / inside.sum())

    @cached_property
    def _search(self) -> BoxSearch:
        return BoxSearch(self.space, self.acceptance, self.probability)

    @cached_property
    def _uniform(self) -> Array:
        engine = qmc.Sobol(len(self.space.columns), scramble=True, rng=np.random.default_rng(2))
        return np.asarray(engine.random(_POINTS))
