"""Feasible region of a batched optimiser: its contract, and the box."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Largest distance from a bound, as a share of the width, at which a coordinate counts as bound.
# Engineering choice.
_NEAR = 0.01


class ActiveSet(NamedTuple):
    """Directions that descents from n points must not take, and the ways to the boundary.

    Attributes:
        at: Mask of coordinates, or unit normals that are 0 in the interior; shape ``(n, p)``.
        way: Move of the active coordinates onto the boundary, shape ``(n, p)``; None for no move.
    """

    at: Tensor
    way: Tensor | None = None


class FeasibleRegion(Protocol):
    """Set of valid points, the same for each of n rows or one for each."""

    curved: bool
    """The boundary is curved: pairs of L-BFGS then hold changes of the restricted gradient."""

    def project(self, points: Tensor) -> Tensor:
        """Return feasible points ``(n, p)`` near ``points``."""

    def active(self, points: Tensor, gradients: Tensor, scale: Tensor) -> ActiveSet:
        """Return the active set of descents along ``-gradients`` from feasible points ``(n, p)``.

        ``scale`` ``(n, 1)`` is the length of a typical step, as a factor of the gradient.
        """

    def restrict(self, vectors: Tensor, active: ActiveSet) -> Tensor:
        """Remove the active directions from vectors ``(n, p)``."""

    def select(self, rows: Tensor) -> FeasibleRegion:
        """Return the region of some rows."""


class FeasibleBox:
    """Box between bounds, which broadcast to ``(n, p)``.

    A coordinate is active if it is near a bound and a scaled gradient step would cross the bound.
    It moves onto the bound, and the others along the quasi-Newton direction (Bertsekas 1982).
    """

    curved = False

    def __init__(self, lower: Tensor, upper: Tensor) -> None:
        self.lower, self.upper = lower, upper
        self._margin = _NEAR * (upper - lower)

    def project(self, points: Tensor) -> Tensor:
        return points.clamp(self.lower, self.upper)

    def active(self, points: Tensor, gradients: Tensor, scale: Tensor) -> ActiveSet:
        ahead = torch.addcmul(points, gradients, scale, value=-1.0)
        inside = self.project(ahead)
        way = inside - points
        return ActiveSet((inside != ahead) & (way.abs() <= self._margin), way)

    def restrict(self, vectors: Tensor, active: ActiveSet) -> Tensor:
        return vectors.masked_fill(active.at, 0.0)

    def select(self, rows: Tensor) -> FeasibleBox:
        lower, upper = (b[rows] if b.ndim > 1 else b for b in (self.lower, self.upper))
        return FeasibleBox(lower, upper)
