"""Change of a design: distance of points from a given one, and the parameters that differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array, Mask

_EQUAL = 1e-9
"""Difference of coordinates that counts as none, in unit coordinates. Engineering choice: above
rounding."""


@dataclass(frozen=True, eq=False)
class Change:
    """Change of points with respect to a point x0.

    The distance is ``d(x) = sqrt(sum_j w_j^2 r_j^2)``. The difference r of a number is in units of
    its range ``high - low``, between 0 and 1; of the range of the logarithm with ``log``. It is 1
    for another value of a choice, and for a parameter that is active in one of the designs only. A
    latent has the differences of the whitened codes.

    Args:
        domain: search domain.
        origin: point x0, shape ``(d,)``.
        weights: weight of each parameter, shape ``(p,)``; of each coordinate in a latent.
        few: the measure is ``k + d / (1 + d)`` with the number k of changed parameters of a
            positive weight, so that fewer changes are always better.
    """

    domain: Domain
    origin: Array
    weights: Array
    few: bool = False

    @property
    def columns(self) -> Sequence[slice]:
        """Columns of the coordinates of each parameter."""
        if self.domain.parameters:
            return [self.domain.columns[name] for name in self.domain.parameters]
        return [slice(i, i + 1) for i in range(self.domain.dim)]

    def changed(self, points: Array) -> Mask:
        """Return a mask ``(n, p)`` of the parameters that differ from x0."""
        inactive, before = self._inactive(points), self._inactive(self.origin[None])[0]
        apart = np.abs(points - self.origin) > _EQUAL
        return np.column_stack([
            (inactive[:, own] != before[own]).any(1)
            | (apart[:, own] & ~inactive[:, own]).any(1)
            for own in self.columns
        ])  # fmt: skip

    def terms(self, points: Array) -> tuple[Array, Array, Array]:
        """Divide the measure of points ``(n, d)`` into smooth and constant parts.

        Returns:
            Factors ``(n, d)`` and summands ``(n,)`` of the squared distance
            ``sum_j factor_j (x_j - x0_j)^2 + summand``, and the number of changed parameters
            ``(n,)``, 0 unless ``few``.
        """
        changed = self.changed(points)
        inactive, before = self._inactive(points), self._inactive(self.origin[None])[0]
        factors, summands = np.zeros(points.shape), np.zeros(len(points))
        kinds: list[object] = [*self.domain.parameters.values()]
        kinds = kinds or [None] * self.domain.dim
        for j, (own, kind) in enumerate(zip(self.columns, kinds, strict=True)):
            squared = self.weights[j] ** 2
            if not factors[:, own].shape[1]:
                continue
            if isinstance(kind, Choice):
                summands += squared * changed[:, j]
                continue
            switched = (inactive[:, own] != before[own]).any(1)
            both = ~(inactive[:, own] | before[own])
            factors[:, own] = squared * both / _range_of(kind) ** 2
            summands += squared * switched
        count = changed[:, self.weights > 0.0].sum(1) if self.few else np.zeros(len(points))
        return factors, summands, count.astype(float)

    def __call__(self, points: Array) -> Array:
        """Return the measure ``(n,)`` of points ``(n, d)``."""
        points = np.atleast_2d(points)
        factors, summands, count = self.terms(points)
        distance = np.sqrt((factors * (points - self.origin) ** 2).sum(1) + summands)
        measure: Array = count + distance / (1.0 + distance) if self.few else distance
        return measure

    def table(self, point: Array) -> list[tuple[str, Any, Any]]:
        """Return name, value in x0 and value of each parameter that a point ``(d,)`` changes."""
        rows = zip(self.domain.axes, self.changed(point[None])[0], strict=False)
        if self.domain.parameters:
            rows = zip(self.domain.parameters, self.changed(point[None])[0], strict=True)
        before, after = self._values(self.origin), self._values(point)
        return [(name, before.get(name), after.get(name)) for name, other in rows if other]

    def _values(self, point: Array) -> dict[str, Any]:
        if self.domain.parameters:
            return self.domain.values(point[None], measured=True)[0]
        return dict(zip(self.domain.axes, point.tolist(), strict=True))

    def _inactive(self, points: Array) -> Mask:
        if not self.domain.conditional:
            return np.zeros(points.shape, dtype=bool)
        return self.domain.inactive(points)


def _range_of(kind: object) -> float:
    """Return the distance of the bounds of a parameter in the coordinates of the domain.

    It is 1 for a real number, and less for values with a step, whose cells exceed the bounds. It is
    1 for a coordinate of a latent, which has no bounds.
    """
    if not isinstance(kind, (Float, Int)):
        return 1.0
    return float(np.ptp(kind.coordinates([kind.low, kind.high])))


def largest_change(change: Change, points: Array) -> float:
    """Return the largest measure of points ``(n, d)``, at least a positive number."""
    return max(float(change(points).max(initial=0.0)), math.ulp(1.0))
