"""Filter of candidates that would repeat an observation: equal points, designs or outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Array, Indices

_MAX_COMPARED = 1000
"""Largest number of known designs in a comparison, nearest first. Engineering choice: decoding them
is expensive."""
_BLOCK = 64
"""Designs that are decoded at once. Engineering choice: most filters need only the first ones."""


@dataclass(frozen=True)
class DuplicateFilter:
    """Filter of points that are too close to known ones.

    Args:
        domain: Search domain.
        min_distance: Least distance between points in units of the unit cube; 0 for any difference.
        identify: Function from points ``(n, d)`` to names of their designs, if these must differ.
    """

    domain: Domain
    min_distance: float = 0.0
    identify: Callable[[Array], list[str]] | None = None

    def select_new(
        self,
        points: Array,
        known: Sequence[Array] | Array,
        count: int,
        more: Callable[[], Array] | None = None,
    ) -> Array:
        """Select the first ``count`` new points of ``(n, d)``, then duplicates if needed.

        Args:
            points: Candidates, best first, shape ``(n, d)``.
            known: Known points ``(d,)``.
            count: Number of points to select.
            more: Function that returns further candidates ``(k, d)``, called if too few are new.
        """
        # Distances are computed in units of the domain, whose sides are equal.
        reach = self.min_distance * float(np.ptp(self.domain.bounds, 0).mean())
        taken = np.asarray(known).reshape(-1, self.domain.dim)
        names: set[str] = set()
        if self.identify is not None and len(taken):
            nearest = np.argsort(np.linalg.norm(taken - points[0], axis=1), kind="stable")
            names.update(self.identify(taken[nearest[:_MAX_COMPARED]]))
        # Labels are lazy: decoding stops as soon as enough points are found. Distances are computed
        # row by row, so that memory does not grow with the product of both numbers of points.
        for point, label in self._labelled(points, more):
            if len(taken) == len(known) + count:
                break
            near = cdist(point[None], taken).min(initial=math.inf) < max(reach, 1e-9)
            if label not in names and not near:
                taken = np.concatenate([taken, point[None]])
                names.update([] if label is None else [label])
        return np.concatenate([taken[len(known) :], points])[:count]

    def _labelled(
        self, points: Array, more: Callable[[], Array] | None
    ) -> Iterator[tuple[Array, str | None]]:
        """Yield points with the names of their designs, then further ones."""
        yield from zip(points, self._labels(points), strict=True)
        if more is not None:
            yield from self._labelled(more(), None)

    def _labels(self, points: Array) -> Iterator[str | None]:
        """Yield the names of designs, decoded in blocks on demand."""
        for start in range(0, len(points), _BLOCK):
            block = points[start : start + _BLOCK]
            yield from [None] * len(block) if self.identify is None else self.identify(block)


def duplicate_filter(
    statement: ProblemStatement,
    history: History,
    subset: Indices | None = None,
    max_distance: float = math.inf,
    *,
    least_share: float = 0.0,
) -> DuplicateFilter:
    """Return the filter for an exact oracle, as its observations suggest.

    If different points have equal outputs because their designs are equal (rounding decoders,
    text), designs are compared. If different designs have equal outputs, points must be one plateau
    width apart. Most problems need neither. Discrete parameters have names of their own.

    Args:
        statement: Problem statement.
        history: Log.
        subset: Positions of the observations to consider, shape ``(k,)``; None for all.
        max_distance: Upper bound of the distance.
        least_share: Share of points with equal outputs from which these suggest plateaus. A search
            of a front visits corners, where symmetric functions are equal.
    """
    domain = statement.domain
    if not domain.continuous or not history.completed:
        return DuplicateFilter(domain)
    rows = np.arange(len(history.completed)) if subset is None else subset
    points, values = history.points[rows], history.y[rows]
    width, identify = plateau_width(to_unit(domain, points), values), None
    if width > 0.0 and statement.identify is not None:
        # Equal designs explain equal outputs; only other repetitions are a plateau.
        first = np.unique(statement.identify(points), return_index=True)[1]
        if len(first) < len(np.unique(points, axis=0)):
            identify = statement.identify
            width = plateau_width(to_unit(domain, points[first]), values[first])
    if width > 0.0 and least_share > 0.0:
        counts = np.unique(values, axis=0, return_counts=True)[1]
        width *= float(counts[counts > 1].sum() >= least_share * len(values))
    return DuplicateFilter(domain, min(width, max_distance), identify)


def plateau_width(inputs: Array, values: Array) -> float:
    """Return the width of plateaus in units of the unit cube; 0 for most functions.

    Equal outputs at two points suggest a plateau between them (trees, rounding, clipping), in which
    a smooth surrogate would continue to query. The width is twice the median distance between
    nearest points with equal outputs, so it grows while outputs repeat. Points that a permutation
    or reflection of the coordinates maps onto each other count once: a symmetric function is equal
    there without a plateau, for example at corners.

    Args:
        inputs: Unit inputs, shape ``(n, d)``.
        values: Outputs, shape ``(n, m)``.
    """
    # Exact equality is deliberate: noise or slopes would change the last digits.
    _, group, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    plateaus = [
        _asymmetric(inputs[group.ravel() == number]) for number in np.flatnonzero(counts > 1)
    ]
    distances = [cKDTree(equal).query(equal, k=2)[0][:, 1] for equal in plateaus if len(equal) > 1]
    if not distances:
        return 0.0
    return min(2.0 * float(np.median(np.concatenate(distances))), 0.1 * math.sqrt(inputs.shape[1]))


def _asymmetric(inputs: Array) -> Array:
    """Return the different unit inputs ``(k, d)``, one of those that are symmetric."""
    folded = np.sort(np.minimum(inputs, 1.0 - inputs), axis=1).round(9)
    return np.asarray(inputs[np.unique(folded, axis=0, return_index=True)[1]])
