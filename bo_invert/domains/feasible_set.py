"""Set of the points of a box that satisfy input constraints: membership and projection."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from bo_invert.domains.conditions import all_values
from bo_invert.domains.constraint_system import ConstraintSystem
from bo_invert.domains.dual_projection import EXACT, clipped
from bo_invert.domains.input_constraints import InputConstraint
from bo_invert.domains.polytope import on_bounds
from bo_invert.types import Array, Mask

_ROUNDS = 24
"""Largest number of moves of a discrete parameter by one value in a repair. Engineering choice: a
rounded mixture of 20 parts needs at most 10."""
_LISTED = 1024
"""Largest number of configurations that are listed. Engineering choice: distances of 256 points to
them take a millisecond."""
_TIGHT = 0.1
"""Part of a tolerance that projections use, dimensionless. Engineering choice: above rounding."""
_BISECTIONS = 30
"""Number of bisections between a point and a feasible one. Engineering choice: an error of 1e-9 of
their distance."""


class FeasibleSet(ConstraintSystem):
    """Points of a box that satisfy constraints; the arguments are those of the base class."""

    # --- membership ----------------------------------------------------------------------------

    def satisfied(self, points: Array, measured: bool = False) -> Mask:
        """Return a mask ``(n,)`` of the points within the tolerances of the constraints.

        ``measured`` points of the user may lie between the steps of a parameter.
        """
        mask = np.ones(len(points), dtype=bool)
        if self.fixed:
            other = np.abs(points - self.code) > EXACT  # False at coordinates that are not fixed
            mask &= ~other.any(axis=1)
        if self.constraints and len(points):
            values = self.values(points, measured)
            for constraint in self.constraints:
                mask &= constraint.holds(values, self.widths)
        return mask

    def violated(self, point: Array, measured: bool = False) -> str:
        """Return a text that names the first violated constraint of a point ``(d,)``, or ``""``."""
        constraint = self.violated_constraint(point, measured)
        if constraint is None:
            return ""
        state = constraint.state(self.values(point[None], measured))
        return f"constraint '{constraint}' is violated" + (f": {state}" if state else "")

    def violated_constraint(self, point: Array, measured: bool = False) -> InputConstraint | None:
        """Return the first violated constraint of a point ``(d,)``; None if all hold."""
        values = self.values(point[None], measured)
        broken = (one for one in self.constraints if not one.holds(values, self.widths)[0])
        return next(broken, None)

    def _settled(self, points: Array, scaled: Array | None = None) -> Mask:
        """Return a mask of valid points, of given scaled values, that need no projection."""
        if not self.coupled:
            return self.accepts(points)
        scaled = self.read(points) if scaled is None else scaled
        mask = self.relaxed.excess(scaled) <= EXACT
        if self.counts and mask.any():
            values = {
                axis.name: axis.low + scaled[:, i] * axis.span for i, axis in enumerate(self.axes)
            }
            for count in self.counts:
                mask &= count.holds(values, self.widths)
        return self.accepts(points, mask)

    def accepts(self, points: Array, among: Mask | None = None) -> Mask:
        """Return a mask of the points that the functions of the user accept."""
        mask = np.ones(len(points), dtype=bool) if among is None else among.copy()
        if self.functions and mask.any():
            values = self.values(points[mask])
            # Bisections end at the edge, so that a part of the tolerance must be left.
            widths = {name: _TIGHT * width for name, width in self.widths.items()}
            found = [one.holds(values, widths) for one in self.functions]
            mask[mask] = np.all(found, axis=0)
        return mask

    # --- counts --------------------------------------------------------------------------------

    def support(self, points: Array) -> Mask:
        """Return a mask ``(n, k)`` of the non-zero parameters of all counts."""
        if not self.counts:
            return np.zeros((len(points), 0), dtype=bool)
        scaled = self.read(points)
        groups = map(self.places, self.counts)
        parts = [np.abs(scaled[:, places] - zero) > EXACT for places, zero in groups]
        return np.concatenate(parts, axis=1)

    def swaps(self, point: Array) -> Array:
        """Return points ``(m, d)`` in which a zero parameter takes the value of a non-zero one.

        Linear constraints may be violated.
        """
        scaled = self.read(point[None])[0]
        moved: list[Array] = []
        for count in self.counts:
            places, zero = self.places(count)
            used = np.abs(scaled[places] - zero) > EXACT
            own = np.repeat(np.flatnonzero(used), int((~used).sum()))
            new = np.tile(np.flatnonzero(~used), int(used.sum()))
            other = np.repeat(scaled[None], len(own), axis=0)
            each = np.arange(len(own))
            other[each, places[new]] = (zero[new] - zero[own]) + scaled[places[own]]
            other[each, places[own]] = zero[own]
            moved.append(np.clip(other, 0.0, 1.0))
        found = np.concatenate(moved) if moved else scaled[None]
        if not len(found):
            return point[None]
        return self.write(np.repeat(point[None], len(found), axis=0), found)

    # --- projection ----------------------------------------------------------------------------

    def repair(
        self, points: Array, valid: Array | None = None, scaled: Array | None = None
    ) -> tuple[Array, Array, Mask]:
        """Move points onto the linear constraints and counts.

        The nearest configuration comes first. Where it is empty, real and discrete parameters are
        projected together. The configuration with points that is nearest to the result is taken;
        if there are many, discrete parameters are rounded and move by single values.

        Args:
            points: points, shape ``(n, d)``.
            valid: the same points with values of the parameters; None computes them.
            scaled: scaled values ``(n, q)`` of these; None computes them.

        Returns:
            Points, their scaled values ``(n, q)``, and a mask of success.
        """
        base = self.valid(points) if valid is None else valid
        given = self.relaxed_values(clipped(points, 0.0, 1.0))
        if self.fixed:
            given = np.where(self.low == self.high, self.low, given)
        own = self.read(base) if scaled is None else scaled
        if self.free.all():
            scaled, done = self.polytope(own).project(given)
        elif self._configurations is not None:
            scaled, done = self._in_nearest_configuration(own, given)
        else:
            scaled, done = self.polytope(own).project(given)
            lost = np.flatnonzero(~done)
            if len(lost):
                relaxed, _ = self.polytope(given[lost], rounded=False).project(given[lost])
                start = self._rounded(base[lost], relaxed)
                scaled[lost], done[lost] = self._moved(start, relaxed)
        if done.all():
            return self.write(base, scaled), scaled, done
        points = base.copy()
        points[done] = self.write(base[done], scaled[done])
        return points, scaled, done

    def _in_nearest_configuration(self, start: Array, given: Array) -> tuple[Array, Mask]:
        """Project scaled values onto the configurations of others, both ``(n, q)``.

        Rows whose configuration has no point take the one with points that is nearest to the
        projection of all values as real numbers.
        """
        known, held = self._configurations, ~self.free
        if known is None or not len(known):
            return start, np.zeros(len(start), dtype=bool)
        scaled = np.where(self.low == self.high, self.low, start)
        apart = cdist(scaled[:, held], known)
        number = apart.argmin(axis=1)
        empty = np.flatnonzero(apart[np.arange(len(start)), number] > EXACT)
        if len(empty):
            relaxed, _ = self.relaxed.project(given[empty])
            number[empty] = cdist(relaxed[:, held], known).argmin(axis=1)
            scaled[np.ix_(empty, held)] = known[number[empty]]
        scaled[:, self.free], done = self.real_polytope(scaled).project(given[:, self.free])
        return scaled, done

    @cached_property
    def _configurations(self) -> Array | None:
        """Scaled discrete values ``(k, p)`` of all configurations with points.

        None if there are many configurations, or counts, which depend on real values, too.
        """
        discrete = [axis for axis in self.axes if axis.discrete]
        if self.counts or math.prod(axis.parameter.levels for axis in discrete) > _LISTED:
            return None
        values = [axis.read(axis.parameter.encode(all_values(axis.parameter))) for axis in discrete]
        combined = np.array(list(itertools.product(*values)))
        scaled = np.full((len(combined), len(self.axes)), 0.5)
        scaled[:, ~self.free] = combined
        inside = (scaled >= self.low - EXACT) & (scaled <= self.high + EXACT)
        _, done = self.polytope(scaled).project(scaled)
        return combined[done & inside[:, ~self.free].all(axis=1)]

    def _rounded(self, base: Array, scaled: Array) -> Array:
        """Return the scaled values ``(n, q)`` of the discrete values nearest to scaled ones."""
        rounded = self.read(self.write(base, scaled))
        return np.where(self.free, scaled, rounded)

    def _moved(self, start: Array, given: Array) -> tuple[Array, Mask]:
        """Move discrete parameters by single values until the polytope is not empty.

        Args:
            start: scaled values with rounded discrete ones, shape ``(n, q)``.
            given: scaled values to stay near, shape ``(n, q)``.
        """
        names = np.flatnonzero(~self.free & (self.low < self.high))
        scaled, done = self.polytope(start).project(given)
        excess = self.polytope(start).excess(scaled)
        start = start.copy()
        for _ in range(_ROUNDS):
            rows = np.flatnonzero(~done)
            if not len(rows) or not len(names):
                break
            moved = np.repeat(start[rows][:, None], 2 * len(names), axis=1)
            for k, place in enumerate(names):
                for j, step in enumerate((-1, 1)):
                    near = self.axes[place].neighbour(start[rows, place], step)
                    moved[:, 2 * k + j, place] = near
            flat = moved.reshape(-1, moved.shape[2])
            wanted = np.repeat(given[rows], 2 * len(names), axis=0)
            box = self.polytope(flat)
            found, fine = box.project(wanted)
            left = np.where(fine, 0.0, box.excess(found)).reshape(len(rows), -1)
            # Ties go to the nearest point.
            far = ((found - wanted) ** 2).sum(axis=1).reshape(len(rows), -1)
            best = (left + 1e-9 * far).argmin(axis=1)
            each = np.arange(len(rows))
            better = left[each, best] < excess[rows] - EXACT
            if not better.any():
                break
            rows, each, best = rows[better], each[better], best[better]
            start[rows] = moved[each, best]
            places = each * (2 * len(names)) + best
            scaled[rows], done[rows], excess[rows] = found[places], fine[places], left[each, best]
        return scaled, done

    def project(self, points: Array, pool: Callable[[], Array]) -> Array:
        """Return the nearest points of the set; points of the set stay as they are.

        Values within rounding of a bound become the bound.

        Args:
            points: points, shape ``(n, d)``.
            pool: function that returns points of the set, shape ``(k, d)``, for points without a
                near one.
        """
        valid = self.on_bounds(self.valid(points))
        scaled = self.read(valid) if self.coupled else None
        lost = np.flatnonzero(~self._settled(valid, scaled))
        if not len(lost):
            return valid
        found, done = valid[lost], np.ones(len(lost), dtype=bool)
        if scaled is not None:
            found, _, done = self.repair(points[lost], valid[lost], scaled[lost])
        if not done.all():
            known = pool()
            found[~done] = self._into(found[~done], _closest(found[~done], known))
        if self.functions:
            bad = np.flatnonzero(~self.accepts(found))
            if len(bad):
                found[bad] = self._accepted(found[bad], _closest(found[bad], pool()))
        result = valid.copy()
        result[lost] = self.on_bounds(self.with_defaults(found))
        return result

    def on_bounds(self, points: Array) -> Array:
        """Return points with real values of constraints within rounding of a bound at the bound.

        Points that would leave the set stay as they are.
        """
        if not self.coupled:
            return points
        moved = on_bounds(points, np.zeros(1), np.ones(1))
        if moved is points:
            return points
        moved = np.where(self.columns_of_axes & self.real_columns, moved, points)
        rows = np.flatnonzero((moved != points).any(axis=1))
        if not len(rows):
            return points
        rows = rows[self._settled(moved[rows]) | ~self._settled(points[rows])]
        points = points.copy()
        points[rows] = moved[rows]
        return points

    def _into(self, points: Array, known: Array) -> Array:
        """Project points onto the configurations of points of the set, both ``(n, d)``."""
        box = self.polytope(self.read(known))
        scaled, done = box.project(np.clip(self.read(points), 0.0, 1.0))
        other = np.where(self.columns_of_axes, known, points)
        return np.where(done[:, None], self.write(other, scaled), other)

    def _accepted(self, points: Array, known: Array) -> Array:
        """Move points towards accepted ones, both ``(n, d)``, up to the edge of the functions."""
        if self.coupled:
            points = self._into(points, known)
        real = self.real_columns
        near = np.where(real, points, known)
        low, high = np.zeros(len(points)), np.ones(len(points))
        for share in (0.0, None):
            for _ in range(1 if share is not None else _BISECTIONS):
                middle = np.full(len(points), share) if share is not None else 0.5 * (low + high)
                fine = self.accepts(self._between(near, known, middle))
                high, low = np.where(fine, middle, high), np.where(fine, low, middle)
        found = self._between(near, known, high)
        return np.where((high < 1.0)[:, None], found, known)

    def _between(self, start: Array, end: Array, share: Array) -> Array:
        """Return points between, straight in scaled values, so that linear constraints hold."""
        t = share[:, None]
        middle = start + t * (end - start)
        if self.coupled:
            first, last = self.read(start), self.read(end)
            middle = self.write(middle, first + t * (last - first))
        return np.where(self.real_columns, middle, end)


def _closest(points: Array, known: Array) -> Array:
    """Return the nearest of the known points ``(k, d)`` for each point ``(n, d)``."""
    return np.asarray(known[cKDTree(known).query(points)[1]])
