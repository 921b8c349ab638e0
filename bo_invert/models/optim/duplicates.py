"""What counts as asked for already: the same point, a point too near to one, another name of the same design."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.types import Array

_MAX_COMPARED = 1000
"""So many told designs are compared with, at most; those of points nearest to the first candidate."""
_BLOCK = 64


@dataclass(frozen=True)
class DuplicateFilter:
    """Tells new points from those that would teach nothing.

    Args:
        domain: where the points live.
        apart: least distance between points, in units of the unit cube; 0 for points that only must differ.
        identify: names of the designs at points ``(n, d)``, where two of them must not be the same.
    """

    domain: Domain
    min_distance: float = 0.0
    identify: Callable[[Array], list[str]] | None = None

    def select_new(self, points: Array, known: Sequence[Array] | Array, count: int) -> Array:
        """The first ``count`` of points ``(n, d)`` that are new; known ones only where no others are left."""
        lower, upper = self.domain.bounds
        reach = self.min_distance * float((upper - lower).mean())
        told = np.asarray(known).reshape(-1, self.domain.dim)
        names: set[str] = set()
        if self.identify is not None and len(told):
            nearest = np.argsort(np.linalg.norm(told - points[0], axis=1), kind="stable")
            names.update(self.identify(told[nearest[:_MAX_COMPARED]]))
        picked: list[Array] = []
        for point, label in zip(points, self._labels(points), strict=True):
            if len(picked) == count:
                break
            if (
                label not in names
                and not is_duplicate(point[None], told, reach)[0]
                and not is_duplicate(point[None], picked, reach)[0]
            ):
                picked.append(point)
                names.update([] if label is None else [label])
        picked.extend(points[: count - len(picked)])
        return np.array(picked).reshape(-1, self.domain.dim)

    def _labels(self, points: Array) -> Iterator[str | None]:
        """Names of the designs, found only as far as they are looked at."""
        for start in range(0, len(points), _BLOCK):
            block = points[start : start + _BLOCK]
            yield from [None] * len(block) if self.identify is None else self.identify(block)


def duplicate_filter(
    statement: ProblemStatement,
    history: History,
    subset: NDArray[np.intp] | None = None,
    max_distance: float = math.inf,
) -> DuplicateFilter:
    """What must lie between queries to an exact oracle, as far as its answers tell.

    Where different points were answered exactly alike because their designs are the same (a decoder that rounds, or
    that makes text), designs are compared. Where different designs were answered alike, points are kept apart by the
    width of a plateau. Most problems need neither. Parameters that are not all real have names of their own.

    Args:
        statement: of the problem.
        history: of the whole log.
        some: positions of the completed trials that count, shape ``(k,)``; default: all.
        most: a limit of the distance.
    """
    domain = statement.domain
    if not domain.continuous or not history.completed:
        return DuplicateFilter(domain)
    rows = np.arange(len(history.completed)) if subset is None else subset
    points, values = history.points[rows], history.y[rows]
    apart, identify = plateau_width(to_unit(domain, points), values), None
    if apart > 0.0 and statement.identify is not None:
        names = statement.identify(points)
        first = np.unique(names, return_index=True)[1]
        if len(first) < len(np.unique(points, axis=0)):
            identify = statement.identify
            apart = plateau_width(to_unit(domain, points[first]), values[first])
    return DuplicateFilter(domain, min(apart, max_distance), identify)


def plateau_width(inputs: Array, values: Array) -> float:
    """How far apart queries must be to learn anything, in units of the unit cube; 0 for most functions.

    A function that answers exactly the same at two points is flat between them, as far as anybody knows: trees,
    rounding, clipping. The smooth model does not see that, and would go on asking within one leaf. The distance is
    twice the median of what lies between such twins, so it grows for as long as answers repeat themselves.

    Args:
        inputs: shape ``(n, d)``.
        values: outputs, shape ``(n, m)``.
    """
    from scipy.spatial import cKDTree

    _, group, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    gaps: list[float] = []
    for number in np.flatnonzero(counts > 1):
        twins = np.unique(inputs[group.ravel() == number], axis=0)
        if len(twins) > 1:
            gaps.extend(cKDTree(twins).query(twins, k=2)[0][:, 1])
    return min(2.0 * float(np.median(gaps)), 0.1 * math.sqrt(inputs.shape[1])) if gaps else 0.0


def is_duplicate(points: Array, known: Sequence[Array] | Array, min_distance: float = 0.0) -> Array:
    """Which points ``(n, d)`` are among the known ones, or nearer to one than ``apart``, shape ``(n,)``."""
    if not len(known):
        return np.zeros(len(points), dtype=bool)
    from scipy.spatial.distance import cdist

    told, least = np.asarray(known), max(min_distance, 1e-9)
    return np.array(
        [bool((cdist(point[None], told) < least).any()) for point in points], dtype=bool
    )
