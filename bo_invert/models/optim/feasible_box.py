"""Feasible region of a batched optimiser: its contract, and the box."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol

from bo_invert.models.array_module import A, add_product, array_module, clamp

# Largest distance from a bound, as a share of the width, at which a coordinate counts as bound.
# Engineering choice.
_NEAR = 0.01


class ActiveSet(NamedTuple, Generic[A]):
    """Directions that descents from n points must not take, and the ways to the boundary.

    Attributes:
        at: Mask of coordinates, or unit normals that are 0 in the interior; shape ``(n, p)``.
        way: Move of the active coordinates onto the boundary, shape ``(n, p)``; None for no move.
    """

    at: A
    way: A | None = None


class FeasibleRegion(Protocol[A]):
    """Set of valid points, the same for each of n rows or one for each."""

    curved: bool
    """The boundary is curved: pairs of L-BFGS then hold changes of the restricted gradient."""

    def project(self, points: A) -> A:
        """Return feasible points ``(n, p)`` near ``points``."""

    def active(self, points: A, gradients: A, scale: A) -> ActiveSet[A]:
        """Return the active set of descents along ``-gradients`` from feasible points ``(n, p)``.

        ``scale`` ``(n, 1)`` is the length of a typical step, as a factor of the gradient.
        """

    def restrict(self, vectors: A, active: ActiveSet[A]) -> A:
        """Remove the active directions from vectors ``(n, p)``."""

    def select(self, rows: A) -> FeasibleRegion[A]:
        """Return the region of some rows."""


class FeasibleBox(Generic[A]):
    """Box between bounds, which broadcast to ``(n, p)``.

    A coordinate is active if it is near a bound and a scaled gradient step would cross the bound.
    It moves onto the bound, and the others along the quasi-Newton direction (Bertsekas 1982).
    """

    curved = False

    def __init__(self, lower: A, upper: A) -> None:
        self.lower: A = lower
        self.upper: A = upper
        self._margin: A = _NEAR * (upper - lower)

    def project(self, points: A) -> A:
        return clamp(points, self.lower, self.upper)

    def active(self, points: A, gradients: A, scale: A) -> ActiveSet[A]:
        ahead = add_product(points, gradients, scale, -1.0)
        inside = self.project(ahead)
        way = inside - points
        return ActiveSet((inside != ahead) & (abs(way) <= self._margin), way)

    def restrict(self, vectors: A, active: ActiveSet[A]) -> A:
        restricted: A = array_module(vectors).where(active.at, 0.0, vectors)
        return restricted

    def select(self, rows: A) -> FeasibleBox[A]:
        lower, upper = (b[rows] if b.ndim > 1 else b for b in (self.lower, self.upper))
        return FeasibleBox(lower, upper)
