"""Feasible region of an ascent under input constraints: a polytope for each start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.feasible_set import FeasibleSet
from bo_invert.domains.polytope import Polytope
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.models.optim.feasible_box import ActiveSet
from bo_invert.types import Array, Indices, Mask

# Distance in unit coordinates at which a constraint is active. Engineering choice: above the error
# of a projection, 1e-11.
_TIGHT = 1e-9
# Ridge of the Gram matrix of active rows, whose norms are 1. Engineering choice: rows may depend on
# each other at a corner.
_RIDGE = 1e-10


class Face(NamedTuple):
    """Active set of n points: coordinates off their bounds, and active rows with their inverse.

    Without active rows, the last two are None.
    """

    free: Mask
    rows: Array | None = None
    inverse: Array | None = None


class FeasiblePolytope:
    """Polytopes of n rows as the region of a projected quasi-Newton method.

    Constraints and bounds that are tight at a point and whose multiplier has the sign of a minimum
    are active; directions move within their face (gradient projection, Rosen 1960).

    Args:
        polytope: one polytope for each row.
    """

    curved = False

    def __init__(self, polytope: Polytope) -> None:
        self.polytope = polytope

    @cached_property
    def _edges(self) -> tuple[Array, Array, Array, Array]:
        """Values from which bounds and constraints are tight."""
        one = self.polytope
        return one.lower + _TIGHT, one.upper - _TIGHT, one.least + _TIGHT, one.most - _TIGHT

    def project(self, points: Array) -> Array:
        return self.polytope.project(points)[0]

    def active(self, points: Array, gradients: Array, scale: Array) -> ActiveSet[Any]:
        del scale
        one, left = self.polytope, points @ self.polytope.a.T
        lower, upper, least, most = self._edges
        at_low, at_high = points <= lower, points >= upper
        at_least, at_most = left <= least, left >= most
        pinned, equal = at_low & at_high, at_least & at_most
        # Outward steps: a descent along -g leaves through a bound if g points inward.
        bound = pinned | (at_low & (gradients > 0.0)) | (at_high & (gradients < 0.0))
        rows = at_least | at_most
        if not rows.any():
            return ActiveSet(Face(~bound))
        normals, inverse = _face(one.a, rows, ~bound)
        for _ in range(2):
            # The multipliers v of g + A' v = 0 on the face, and the reduced gradient.
            v = -(inverse @ (normals @ gradients[..., None]))[..., 0]
            reduced = gradients + v @ one.a
            signed = equal | (at_most & (v > 0.0)) | (at_least & (v < 0.0))
            held = pinned | (at_low & (reduced > 0.0)) | (at_high & (reduced < 0.0))
            if (signed == rows).all() and (held == bound).all():
                break
            rows, bound = signed, held
            normals, inverse = _face(one.a, rows, ~bound)
        return ActiveSet(Face(~bound, normals, inverse))

    def restrict(self, vectors: Array, active: ActiveSet[Any]) -> Array:
        face: Face = active.at
        vectors = np.where(face.free, vectors, 0.0)
        if face.rows is None or face.inverse is None:
            return vectors
        along = face.inverse @ (face.rows @ vectors[..., None])
        return np.asarray(vectors - (face.rows.swapaxes(1, 2) @ along)[..., 0])

    def select(self, rows: Array) -> FeasiblePolytope:
        return FeasiblePolytope(self.polytope.rows(rows.astype(int)))


def _face(a: Array, rows: Mask, free: Mask) -> tuple[Array, Array]:
    """Return the normals of active rows ``(n, m)`` in free coordinates ``(n, q)``, ``(n, m, q)``.

    Rows that are not active are 0. The second array is the inverse of their Gram matrix.
    """
    normals = a * (rows[:, :, None] & free[:, None, :])
    gram = normals @ normals.swapaxes(1, 2)
    diagonal = gram.reshape(len(rows), -1)[:, :: len(a) + 1]
    # A row without free coordinates does not restrict directions.
    diagonal += np.where(diagonal > _RIDGE, _RIDGE, 1.0)
    inverse = 1.0 / gram if len(a) == 1 else np.linalg.inv(gram)
    return normals, np.asarray(inverse, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ConstrainedCoordinates:
    """Coordinates in which the constraints of a box are linear, for an ascent from some starts.

    They are unit coordinates, with scaled values in place of those on a log scale that occur in a
    linear constraint.

    Args:
        domain: the box.
    """

    domain: ConstrainedBox

    @cached_property
    def _within(self) -> FeasibleSet:
        return self.domain.feasible

    @cached_property
    def _bent(self) -> list[int]:
        """Axes with a log scale."""
        axes = self._within.axes
        return [i for i, one in enumerate(axes) if one.parameter.continuous and not one.plain]

    def straight(self, units: Array) -> Array:
        """Return the coordinates ``(n, d)`` of unit inputs ``(n, d)``."""
        if not self._bent:
            return units
        units = units.copy()
        for i in self._bent:
            axis = self._within.axes[i]
            units[:, axis.columns.start] = axis.read(units[:, axis.columns])
        return units

    def units(self, straight: Array) -> Array:
        """Return the unit inputs ``(n, d)`` of coordinates ``(n, d)``."""
        if not self._bent:
            return straight
        straight = straight.copy()
        for i in self._bent:
            axis = self._within.axes[i]
            straight[:, axis.columns] = axis.write(straight[:, axis.columns.start])
        return straight

    def slope(self, units: Array, gradients: Array) -> Array:
        """Return gradients ``(n, d)`` by the coordinates, from those by unit inputs."""
        if not self._bent:
            return gradients
        gradients = gradients.copy()
        for i in self._bent:
            axis = self._within.axes[i]
            column = axis.columns.start
            gradients[:, column] *= axis.slope(units[:, column])
        return gradients

    def region(
        self, starts: Array, low: ArrayLike = 0.0, high: ArrayLike = 1.0
    ) -> FeasiblePolytope:
        """Return the region of an ascent from valid unit inputs ``(n, d)``.

        Discrete parameters, fixed values and parameters that a count sets to 0 stay as they are.

        Args:
            starts: unit inputs that satisfy the constraints.
            low: lower bounds of the unit inputs, broadcast to ``(n, d)``.
            high: upper bounds of the unit inputs, broadcast to ``(n, d)``.
        """
        one = self._within
        moving = one.real_columns & np.isnan(one.code)
        # All starts share one row of bounds if they can; its projections need less arithmetic.
        shape = np.broadcast_shapes(np.shape(low), np.shape(high), (1, starts.shape[1]))
        if not moving.all() or one.counts:
            shape = starts.shape
        own = starts[: shape[0]]
        lower, upper = np.where(moving, low, own), np.where(moving, high, own)
        lower, upper = self.straight(lower), self.straight(upper)
        a = np.zeros((len(one.a), starts.shape[1]))
        least, most = one.least, one.most
        if one.coupled:
            scaled = one.read(own)
            box = one.polytope(scaled)
            if not one.free.all():
                shift = np.where(one.free, 0.0, scaled) @ one.a.T
                least, most = least - shift, most - shift
            columns = [one.axes[i].columns.start for i in np.flatnonzero(one.free)]
            a[:, columns] = one.a[:, one.free]
            # Rows of discrete parameters alone hold all the way.
            moved = a.any(axis=1)
            a, least, most = a[moved], least[:, moved], most[:, moved]
            lower[:, columns] = np.maximum(lower[:, columns], box.lower[:, one.free])
            upper[:, columns] = np.minimum(upper[:, columns], box.upper[:, one.free])
        return FeasiblePolytope(Polytope(a, least, most, lower, np.maximum(lower, upper)))


def constrained_minimum(
    function: Callable[[Array, Indices], tuple[Array, Array]],
    domain: ConstrainedBox,
    starts: Array,
    bounds: tuple[ArrayLike, ArrayLike],
    steps: int,
) -> Array:
    """Minimise functions of unit inputs from valid starts ``(n, d)`` under input constraints.

    Steps to points that a function of the user rejects are shortened, so that every end is
    feasible.

    Args:
        function: as in ``minimise_batched``.
        domain: the box.
        starts: unit inputs that satisfy the constraints, shape ``(n, d)``.
        bounds: lower and upper bounds of the unit inputs, broadcast to ``(n, d)``.
        steps: largest number of evaluations of each start.

    Returns:
        Ends ``(n, d)``.
    """
    space = ConstrainedCoordinates(domain)
    accepts = domain.feasible.accepts

    def values(points: Array, rows: Indices) -> tuple[Array, Array]:
        units = space.units(points)
        value, slope = function(units, rows)
        if domain.feasible.functions:
            value = np.where(accepts(units), value, np.inf)
        return value, space.slope(units, slope)

    region = space.region(starts, *bounds)
    one = region.polytope
    found, _ = minimise_batched(
        values, space.straight(starts), one.lower, one.upper, steps=steps, tolerance=1e-6,
        region=region,
    )  # fmt: skip
    return space.units(found)
