"""Set of the points of a box that satisfy input constraints: membership and projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bo_invert.domains.conditions import active_rows
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.input_constraints import Count, Feasible, InputConstraint, Linear
from bo_invert.domains.named_points import decode_columns, parameter_columns, project_named
from bo_invert.domains.parameters import Parameter
from bo_invert.domains.polytope import EXACT, Polytope
from bo_invert.domains.value_axes import discrete_mask, value_axis
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Indices, Mask

_NONZERO = 1e-3
"""Smallest non-zero value of a required parameter, as a share of its range. Engineering choice:
below the accuracy of a weighed amount."""
_SAME = 1e-14
"""Difference of unit normals that are equal. Engineering choice: rounding."""
_ROUNDS = 24
"""Largest number of moves of a discrete parameter by one value in a repair. Engineering choice: a
rounded mixture of 20 parts needs at most 10."""
_BISECTIONS = 30
"""Number of bisections between a point and a feasible one. Engineering choice: an error of 1e-9 of
their distance."""


class FeasibleSet:
    """Points of a box that satisfy constraints; all arrays of points have shape ``(n, d)``.

    Args:
        parameters: parameters of the box.
        constraints: constraints on their values.
        fixed: values of parameters that do not vary.

    Attributes:
        axes: scaled values of the q parameters of linear constraints and counts.
        free: mask ``(q,)`` of the real ones among them.

    Raises:
        InvalidInputError: a constraint needs numbers, or a count needs a range that contains 0.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        constraints: Sequence[InputConstraint],
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self.parameters, self.constraints = parameters, tuple(constraints)
        self.fixed = {
            name: parameters[name].read_all([value])[0] for name, value in (fixed or {}).items()
        }
        self.columns = parameter_columns(parameters)
        self.dim = sum(p.width for p in parameters.values())
        constants = {n: p.value for n, p in parameters.items() if isinstance(p, Fixed)}
        linear = (c.at(constants) for c in constraints if isinstance(c, Linear))
        counts = (c.at(constants) for c in constraints if isinstance(c, Count))
        self.linear = [c for c in linear if c is not None]
        self.counts = [c for c in counts if c is not None]
        self.functions = [c for c in constraints if isinstance(c, Feasible)]
        named = {name for c in (*self.linear, *self.counts) for name in c.names}
        self.axes = [value_axis(parameters, self.columns[n], n) for n in parameters if n in named]
        self.position = {axis.name: i for i, axis in enumerate(self.axes)}
        self.free = ~discrete_mask(self.axes)
        self.widths = {
            name: value_axis(parameters, self.columns[name], name).span
            for name, p in parameters.items()
            if p.width and not _has_text(p)
        } | {name: 0.0 for name, p in parameters.items() if not p.width and not _has_text(p)}
        for one in (*self.linear, *self.counts):
            for name in one.names:
                if parameters[name].when:
                    raise InvalidInputError(
                        f"Box: constraint '{one}' names {name!r}, which exists only if "
                        f"{parameters[name].when[0]}. Write Feasible(fn), whose fn receives NaN "
                        "where it does not exist"
                    )
        for count in self.counts:
            for name in count.names:
                if not 0.0 <= self.axes[self.position[name]].zero <= 1.0:
                    raise InvalidInputError(
                        f"Box: constraint '{count}' needs a parameter {name!r} whose range "
                        f"contains 0, got {parameters[name]}"
                    )
        self._set_rows()
        self._set_fixed()

    def _set_rows(self) -> None:
        """Set the rows of the polytope in scaled values: unit normals and bounds.

        Constraints with the same left side become one row.
        """
        rows: list[tuple[Array, float, float]] = []
        for one in self.linear:
            normal, offset = np.zeros(len(self.axes)), 0.0
            for name, c in one.coefficients.items():
                axis = self.axes[self.position[name]]
                normal[self.position[name]] = c * axis.span
                offset += c * axis.low
            # The largest coefficient is positive, so that opposite sides are equal.
            size = float(np.copysign(np.linalg.norm(normal), normal[np.abs(normal).argmax()]))
            ends = (one.lower - offset) / size, (one.upper - offset) / size
            low, high, normal = min(ends), max(ends), normal / size
            same = [i for i, row in enumerate(rows) if np.abs(row[0] - normal).max() < _SAME]
            if same:
                _, least, most = rows.pop(same[0])
                low, high = max(least, low), min(most, high)
            rows.append((normal, low, high))
        self.a = np.array([row[0] for row in rows]).reshape(len(rows), len(self.axes))
        self.least = np.array([row[1] for row in rows]).reshape(1, -1)
        self.most = np.array([row[2] for row in rows]).reshape(1, -1)

    def _set_fixed(self) -> None:
        self.low, self.high = np.zeros(len(self.axes)), np.ones(len(self.axes))
        self.code = np.full(self.dim, np.nan)
        for name, value in self.fixed.items():
            self.code[self.columns[name]] = self.parameters[name].coordinates([value])[0]
            if name in self.position:
                place = self.position[name]
                scaled = self.axes[place].read(self.code[None, self.columns[name]])[0]
                self.low[place] = self.high[place] = scaled

    @cached_property
    def relaxed(self) -> Polytope:
        """Polytope of all values as real numbers, without counts and functions."""
        return Polytope(self.a, self.least, self.most, self.low[None], self.high[None])

    @property
    def parameter_count(self) -> int:
        """Number of parameters with coordinates."""
        return sum(p.width > 0 for p in self.parameters.values())

    @property
    def coupled(self) -> bool:
        """True if a linear constraint or a count holds."""
        return bool(self.axes)

    @cached_property
    def columns_of_axes(self) -> Mask:
        """Mask ``(d,)`` of the unit coordinates of the axes."""
        mask = np.zeros(self.dim, dtype=bool)
        for axis in self.axes:
            mask[axis.columns] = True
        return mask

    # --- values --------------------------------------------------------------------------------

    def read(self, points: Array) -> Array:
        """Return the scaled values ``(n, q)`` of points."""
        if all(axis.plain for axis in self.axes):
            return points[:, [axis.columns.start for axis in self.axes]]
        return np.stack([axis.read(points[:, axis.columns]) for axis in self.axes], axis=1)

    def write(self, points: Array, scaled: Array) -> Array:
        """Return points with the coordinates of scaled values ``(n, q)``."""
        points = points.copy()
        for axis, column in zip(self.axes, scaled.T, strict=True):
            points[:, axis.columns] = axis.write(column)
        return points

    def valid(self, points: Array) -> Array:
        """Clip and round points to values of the parameters, and set the fixed ones."""
        points = np.clip(np.asarray(points, dtype=np.float64), 0.0, 1.0)
        if self.fixed:
            points = np.where(np.isnan(self.code), points, self.code)
        return project_named(self.parameters, points)

    def values(self, points: Array) -> dict[str, Array]:
        """Return the values of points by parameter, arrays ``(n,)``.

        Inactive parameters have NaN, or None among texts.
        """
        decoded = decode_columns(self.parameters, points)
        found = {
            name: np.array(column, dtype=float if name in self.widths else object)
            for name, column in decoded.items()
        }
        for name, rows in active_rows(self.parameters, decoded).items():
            found[name][~np.broadcast_to(rows, len(points))] = (
                np.nan if name in self.widths else None
            )
        return found

    # --- membership ----------------------------------------------------------------------------

    def satisfied(self, points: Array) -> Mask:
        """Return a mask ``(n,)`` of the points within the tolerances of the constraints."""
        mask = np.ones(len(points), dtype=bool)
        if self.fixed:
            mask &= (np.abs(points - self.valid(points)) <= EXACT).all(axis=1)
        if self.constraints and len(points):
            values = self.values(points)
            for constraint in self.constraints:
                mask &= constraint.holds(values, self.widths)
        return mask

    def violated(self, point: Array) -> str:
        """Return a text that names the first violated constraint of a point ``(d,)``, or ``""``."""
        values = self.values(point[None])
        for constraint in self.constraints:
            if not constraint.holds(values, self.widths)[0]:
                state = constraint.state(values)
                return f"constraint '{constraint}' is violated" + (f": {state}" if state else "")
        return ""

    def _settled(self, points: Array) -> Mask:
        """Return a mask of valid points that need no projection."""
        mask = np.ones(len(points), dtype=bool)
        if self.coupled:
            scaled = self.read(points)
            mask &= self.relaxed.excess(scaled) <= EXACT
        if self.counts and mask.any():
            values = self.values(points)
            for count in self.counts:
                mask &= count.holds(values, self.widths)
        return mask & self.accepts(points, mask)

    def accepts(self, points: Array, among: Mask | None = None) -> Mask:
        """Return a mask of the points that the functions of the user accept."""
        mask = np.ones(len(points), dtype=bool) if among is None else among.copy()
        if self.functions and mask.any():
            values = self.values(points[mask])
            found = [one.holds(values, self.widths) for one in self.functions]
            mask[mask] = np.all(found, axis=0)
        return mask

    # --- counts --------------------------------------------------------------------------------

    def _places(self, count: Count) -> tuple[Indices, Array]:
        """Return the positions ``(k,)`` of the axes of a count, and the scaled values of 0."""
        places = np.array([self.position[name] for name in count.of])
        return places, np.array([self.axes[i].zero for i in places])

    def support(self, points: Array) -> Mask:
        """Return a mask ``(n, k)`` of the non-zero parameters of all counts."""
        if not self.counts:
            return np.zeros((len(points), 0), dtype=bool)
        scaled = self.read(points)
        groups = map(self._places, self.counts)
        parts = [np.abs(scaled[:, places] - zero) > EXACT for places, zero in groups]
        return np.concatenate(parts, axis=1)

    def swaps(self, point: Array) -> Array:
        """Return points ``(m, d)`` in which a zero parameter takes the value of a non-zero one.

        Linear constraints may be violated.
        """
        scaled = self.read(point[None])[0]
        moved: list[Array] = []
        for count in self.counts:
            places, zero = self._places(count)
            used = np.abs(scaled[places] - zero) > EXACT
            for i in np.flatnonzero(used):
                for j in np.flatnonzero(~used):
                    other = scaled.copy()
                    other[places[j]] = zero[j] + other[places[i]] - zero[i]
                    other[places[i]] = zero[i]
                    moved.append(np.clip(other, 0.0, 1.0))
        if not moved:
            return point[None]
        return self.write(np.repeat(point[None], len(moved), axis=0), np.array(moved))

    # --- projection ----------------------------------------------------------------------------

    def polytope(self, scaled: Array, rounded: bool = True) -> Polytope:
        """Return the polytopes of the configurations of scaled values ``(n, q)``.

        A configuration fixes discrete parameters, and those that counts set to 0. The largest
        values are non-zero.

        Args:
            scaled: scaled values.
            rounded: fix discrete parameters at these values; otherwise they are real numbers.
        """
        lower, upper = (np.repeat(bound[None], len(scaled), 0) for bound in (self.low, self.high))
        dropped = np.zeros(scaled.shape, dtype=bool)
        for count in self.counts:
            self._count(count, scaled, lower, upper, dropped)
        if rounded:
            fixed = ~self.free & (lower < upper)
            inside = (scaled >= lower - EXACT) & (scaled <= upper + EXACT)
            # A discrete value outside of its bounds leaves an empty polytope, which is no success.
            lower = np.where(fixed, np.where(inside, scaled, 2.0), lower)
            upper = np.where(fixed, np.where(inside, scaled, -1.0), upper)
        return Polytope(self.a, self.least, self.most, lower, upper)

    def _count(
        self, count: Count, scaled: Array, lower: Array, upper: Array, dropped: Mask
    ) -> None:
        """Narrow the bounds ``(n, q)`` to the largest parameters of a count."""
        places, zero = self._places(count)
        spans = np.array([self.axes[i].span for i in places])
        steps = [
            1.0 / (axis.parameter.levels - 1) if axis.discrete else _NONZERO
            for axis in (self.axes[i] for i in places)
        ]
        least = count.smallest / spans
        low, high, own = lower[:, places], upper[:, places], scaled[:, places]
        size = np.abs(own - zero)
        pinned = low == high
        size = np.where(pinned, np.where(np.abs(low - zero) > EXACT, 2.0, -1.0), size)
        size = np.where(dropped[:, places], -1.0, size)
        rank = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1, kind="stable")
        needed = rank < count.least
        used = (rank < count.most) & (needed | (size >= least / 2.0)) & (size >= 0.0)
        needed |= used & (least > 0.0)
        gap = np.maximum(least, np.where(rank < count.least, steps, 0.0))
        positive = (high > zero) & ((own >= zero) | (low >= zero))
        low = np.where(needed & positive, np.maximum(low, zero + gap), low)
        high = np.where(needed & ~positive, np.minimum(high, zero - gap), high)
        lower[:, places] = np.where(used, low, np.where(pinned & (size > 1.0), 2.0, zero))
        upper[:, places] = np.where(used, high, np.where(pinned & (size > 1.0), -1.0, zero))
        dropped[:, places] |= ~used

    def repair(self, points: Array) -> tuple[Array, Array, Mask]:
        """Move points onto the linear constraints and counts.

        The nearest configuration comes first. Where it is empty, real and discrete parameters are
        projected together and rounded, and discrete ones then move by single values.

        Returns:
            Points, their scaled values ``(n, q)``, and a mask of success.
        """
        base = self.valid(points)
        raw = np.clip(points, 0.0, 1.0)
        given = np.stack([axis.relaxed(raw[:, axis.columns]) for axis in self.axes], axis=1)
        given = np.where(self.low == self.high, self.low, given)
        scaled, done = self.polytope(self.read(base)).project(given)
        if not done.all() and not self.free.all():
            lost = np.flatnonzero(~done)
            relaxed, _ = self.polytope(given[lost], rounded=False).project(given[lost])
            start = self._rounded(base[lost], relaxed)
            scaled[lost], done[lost] = self._moved(start, relaxed)
        points = base.copy()
        points[done] = self.write(base[done], scaled[done])
        return points, scaled, done

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
        """Return the nearest points of the set; points of the set stay exactly as they are.

        Args:
            points: points, shape ``(n, d)``.
            pool: function that returns points of the set, shape ``(k, d)``, for points without a
                near one.
        """
        valid = self.valid(points)
        lost = np.flatnonzero(~self._settled(valid))
        if not len(lost):
            return valid
        found, done = valid[lost], np.ones(len(lost), dtype=bool)
        if self.coupled:
            found, _, done = self.repair(points[lost])
        if not done.all():
            known = pool()
            found[~done] = self._into(found[~done], _closest(found[~done], known))
        if self.functions:
            bad = np.flatnonzero(~self.accepts(found))
            if len(bad):
                found[bad] = self._accepted(found[bad], _closest(found[bad], pool()))
        result = valid.copy()
        result[lost] = found
        return result

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

    @cached_property
    def real_columns(self) -> Mask:
        """Mask ``(d,)`` of the coordinates that are real numbers."""
        return np.array(
            [np.isinf(p.levels) for p in self.parameters.values() for _ in range(p.width)],
            dtype=bool,
        )


def _has_text(parameter: Parameter) -> bool:
    values = getattr(parameter, "values", (getattr(parameter, "value", None),))
    return any(isinstance(value, str) for value in values)


def _closest(points: Array, known: Array) -> Array:
    """Return the nearest of the known points ``(k, d)`` for each point ``(n, d)``."""
    return np.asarray(known[cKDTree(known).query(points)[1]])
