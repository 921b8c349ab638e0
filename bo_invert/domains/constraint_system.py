"""Input constraints of a box in scaled values: rows of linear constraints, and configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bo_invert.domains.conditions import (
    active_rows,
    default_point,
    has_conditions,
    inactive_coordinates,
)
from bo_invert.domains.dual_projection import EXACT, clipped
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.fixed_room import with_room
from bo_invert.domains.input_constraints import Count, Feasible, InputConstraint, Linear
from bo_invert.domains.named_points import decode_columns, parameter_columns, project_named
from bo_invert.domains.parameters import Choice, Parameter
from bo_invert.domains.polytope import Polytope
from bo_invert.domains.value_axes import discrete_mask, value_axis
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Indices, Mask

_NONZERO = 1e-3
"""Smallest non-zero value of a required parameter, as a share of its range. Engineering choice:
below the accuracy of a weighed amount."""
_SAME = 1e-14
"""Difference of unit normals that are equal. Engineering choice: rounding."""


class ConstraintSystem:
    """Constraints on the points of a box; all arrays of points have shape ``(n, d)``.

    Args:
        parameters: parameters of the box.
        constraints: constraints on their values.
        fixed: values of parameters that do not vary.

    Attributes:
        axes: scaled values of the q parameters of linear constraints and counts.
        free: mask ``(q,)`` of the real ones among them.
        partial: linear inequalities that name conditional parameters.

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
        partial = _conditional_constraints(parameters, constraints)
        always = [c for c in constraints if c not in partial]
        linear = (c.at(constants) for c in always if isinstance(c, Linear))
        counts = (c.at(constants) for c in always if isinstance(c, Count))
        self.linear = [c for c in linear if c is not None]
        self.counts = [c for c in counts if c is not None]
        # Where a parameter of a constraint does not exist, its set is no polytope.
        self.functions: list[InputConstraint] = [c for c in always if isinstance(c, Feasible)]
        self.functions += partial
        self.partial = partial
        named = {name for c in (*self.linear, *self.counts) for name in c.names}
        self.axes = [value_axis(parameters, self.columns[n], n) for n in parameters if n in named]
        self.position = {axis.name: i for i, axis in enumerate(self.axes)}
        self.free = ~discrete_mask(self.axes)
        self.widths = {
            name: value_axis(parameters, self.columns[name], name).span
            for name, p in parameters.items()
            if p.width and not _has_text(p)
        } | {name: 0.0 for name, p in parameters.items() if not p.width and not _has_text(p)}
        for count in self.counts:
            for name in count.names:
                if not 0.0 <= self.axes[self.position[name]].zero <= 1.0:
                    raise InvalidInputError(
                        f"Box: constraint '{count}' needs a parameter {name!r} whose range "
                        f"contains 0, got {parameters[name]}"
                    )
                reach = max(map(abs, _ends(parameters[name])))
                if reach < count.smallest:
                    raise InvalidInputError(
                        f"Box: constraint '{count}' leaves only 0 for parameter {name!r}, whose "
                        f"largest absolute value is {reach:g}. Write a smaller smallest, or "
                        f"bi.Fixed(0) for {name!r}"
                    )
        self._set_rows()
        self._set_fixed()

    def _set_rows(self) -> None:
        """Set the rows of the polytope in scaled values: unit normals and bounds.

        Constraints with the same left side become one row.
        """
        rows: list[tuple[Array, float, float, float]] = []
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
            slack = one.tolerance * float(np.abs(normal).sum())
            if same:
                _, least, most, other = rows.pop(same[0])
                low, high, slack = max(least, low), min(most, high), min(slack, other)
            rows.append((normal, low, high, slack))
        self.a = np.array([row[0] for row in rows]).reshape(len(rows), len(self.axes))
        self.least = np.array([row[1] for row in rows]).reshape(1, -1)
        self.most = np.array([row[2] for row in rows]).reshape(1, -1)
        self._slack = np.array([row[3] for row in rows])

    def _set_fixed(self) -> None:
        self.low, self.high = np.zeros(len(self.axes)), np.ones(len(self.axes))
        self.code = np.full(self.dim, np.nan)
        for name, value in self.fixed.items():
            self.code[self.columns[name]] = self.parameters[name].coordinates([value])[0]
            if name in self.position:
                place = self.position[name]
                scaled = self.axes[place].read(self.code[None, self.columns[name]])[0]
                self.low[place] = self.high[place] = scaled
        if self.fixed and self.linear:
            box = Polytope(self.a, self.least, self.most, self.low[None], self.high[None])
            found = with_room(box, self._slack)
            self.least, self.most = found.least, found.most
            self.low, self.high = found.lower[0], found.upper[0]

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

    @cached_property
    def _plain(self) -> Indices | None:
        """Columns ``(q,)`` of the axes if all scaled values are unit coordinates, or else None."""
        if not all(axis.plain for axis in self.axes):
            return None
        return np.array([axis.columns.start for axis in self.axes], dtype=np.intp)

    @cached_property
    def _continuous(self) -> bool:
        """True if every point of the unit cube is valid, without rounding and conditions."""
        return bool(self.real_columns.all()) and not has_conditions(self.parameters)

    # --- values --------------------------------------------------------------------------------

    def read(self, points: Array) -> Array:
        """Return the scaled values ``(n, q)`` of points."""
        if self._plain is not None:
            return points[:, self._plain]
        return np.stack([axis.read(points[:, axis.columns]) for axis in self.axes], axis=1)

    def write(self, points: Array, scaled: Array) -> Array:
        """Return points with the coordinates of scaled values ``(n, q)``."""
        points = points.copy()
        if self._plain is not None:
            points[:, self._plain] = scaled
            return points
        for axis, column in zip(self.axes, scaled.T, strict=True):
            points[:, axis.columns] = axis.write(column)
        return points

    def valid(self, points: Array) -> Array:
        """Clip and round points to values of the parameters, and set the fixed ones."""
        points = clipped(np.asarray(points, dtype=np.float64), 0.0, 1.0)
        if self.fixed:
            points = np.where(np.isnan(self.code), points, self.code)
        return points if self._continuous else project_named(self.parameters, points)

    def relaxed_values(self, points: Array) -> Array:
        """Return the scaled values ``(n, q)`` of points whose discrete values are not rounded."""
        if self._plain is not None:
            return points[:, self._plain]
        return np.stack([axis.relaxed(points[:, axis.columns]) for axis in self.axes], axis=1)

    def with_defaults(self, points: Array) -> Array:
        """Return points whose inactive parameters have their defaults."""
        if not has_conditions(self.parameters):
            return points
        inactive = inactive_coordinates(self.parameters, points)
        return np.where(inactive, default_point(self.parameters), points)

    def values(self, points: Array, measured: bool = False) -> dict[str, Array]:
        """Return the values of points by parameter, arrays ``(n,)``.

        Inactive parameters have NaN, or None among texts. ``measured`` values may lie between the
        steps of a parameter.
        """
        decoded = decode_columns(self.parameters, points, measured)
        found = {
            name: np.array(column, dtype=float if name in self.widths else object)
            for name, column in decoded.items()
        }
        for name, rows in active_rows(self.parameters, decoded).items():
            found[name][~np.broadcast_to(rows, len(points))] = (
                np.nan if name in self.widths else None
            )
        return found

    # --- configurations ------------------------------------------------------------------------

    def places(self, count: Count) -> tuple[Indices, Array]:
        """Return the positions ``(k,)`` of the axes of a count, and the scaled values of 0."""
        return self._places[count.of]

    @cached_property
    def _places(self) -> dict[tuple[str, ...], tuple[Indices, Array]]:
        """Positions and scaled zeros of the axes of each count, by their names."""
        found = {}
        for count in self.counts:
            places = np.array([self.position[name] for name in count.of])
            found[count.of] = places, np.array([self.axes[i].zero for i in places])
        return found

    @cached_property
    def _spans(self) -> Array:
        """Widths ``(q,)`` of the ranges of the axes."""
        return np.array([axis.span for axis in self.axes])

    @cached_property
    def _smallest_steps(self) -> Array:
        """Smallest scaled values ``(q,)`` of the axes that count as non-zero."""
        return np.array([
            1.0 / (axis.parameter.levels - 1) if axis.discrete else _NONZERO for axis in self.axes
        ])  # fmt: skip

    def polytope(self, scaled: Array, rounded: bool = True) -> Polytope:
        """Return the polytopes of the configurations of scaled values ``(n, q)``.

        A configuration fixes discrete parameters, and those that counts set to 0. The largest
        values are non-zero.

        Args:
            scaled: scaled values.
            rounded: fix discrete parameters at these values; otherwise they are real numbers.

        Returns:
            Polytopes with one row of bounds if all configurations have the same.
        """
        if not self.counts and (not rounded or self.free.all()):
            return self.relaxed
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

    def real_polytope(self, scaled: Array) -> Polytope:
        """Return the polytopes of the real values of configurations without counts.

        They have one row of bounds for each row of scaled values ``(n, q)``. A configuration that
        violates a constraint of discrete values alone is not detected.
        """
        held, normals, moved, low, high = self._real_parts
        left = scaled[:, ~self.free] @ held
        least, most = self.least - left, self.most - left
        return Polytope(normals, least[:, moved], most[:, moved], low, high)

    @cached_property
    def _real_parts(self) -> tuple[Array, Array, Mask, Array, Array]:
        """Rows of the constraints, split into discrete and real values.

        These are the transposed normals ``(p, m)`` of discrete values, the normals of real values
        in the constraints that these enter, a mask ``(m,)`` of these constraints, and the bounds
        of the real values.
        """
        normals = self.a[:, self.free]
        moved: Mask = np.asarray(normals.any(axis=1), dtype=bool)
        bounds = self.low[None, self.free], self.high[None, self.free]
        return self.a[:, ~self.free].T, normals[moved], moved, *bounds

    def _count(
        self, count: Count, scaled: Array, lower: Array, upper: Array, dropped: Mask
    ) -> None:
        """Narrow the bounds ``(n, q)`` to the largest parameters of a count."""
        places, zero = self.places(count)
        least, steps = count.smallest / self._spans[places], self._smallest_steps[places]
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

    @cached_property
    def real_columns(self) -> Mask:
        """Mask ``(d,)`` of the coordinates that are real numbers."""
        return np.array(
            [np.isinf(p.levels) for p in self.parameters.values() for _ in range(p.width)],
            dtype=bool,
        )


def _ends(parameter: Parameter) -> tuple[float, float]:
    """Return the least and the largest value of a numeric parameter."""
    if isinstance(parameter, Choice):
        numbers = [float(value) for value in parameter.values]
        return min(numbers), max(numbers)
    if isinstance(parameter, Fixed):
        return float(parameter.value), float(parameter.value)
    return float(parameter.low), float(parameter.high)


def _has_text(parameter: Parameter) -> bool:
    values = getattr(parameter, "values", (getattr(parameter, "value", None),))
    return any(isinstance(value, str) for value in values)


def _conditional_constraints(
    parameters: Mapping[str, Parameter], constraints: Sequence[InputConstraint]
) -> list[InputConstraint]:
    """Return the linear inequalities that name conditional parameters.

    Raises:
        InvalidInputError: an equality or a count does, or a constraint needs numbers.
    """
    found: list[InputConstraint] = []
    for one in constraints:
        if isinstance(one, Feasible):
            continue
        name = next((name for name in one.names if parameters[name].when), None)
        if name is None:
            continue
        if not isinstance(one, Linear) or one.equality:
            kind = "an equality" if isinstance(one, Linear) else "a count"
            raise InvalidInputError(
                f"Box: constraint '{one}' is {kind} and names {name!r}, which exists only if "
                f"{parameters[name].when[0]}. Only inequalities hold where their parameters exist. "
                "Write inequalities, or declare the parameter without When"
            )
        for other in one.names:
            if _has_text(parameters[other]):
                raise InvalidInputError(
                    f"Box: constraint '{one}' needs numbers, and parameter {other!r} has texts"
                )
        found.append(one)
    return found
