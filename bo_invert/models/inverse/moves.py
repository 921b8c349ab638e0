"""Moves of a design: its free coordinates, and boxes around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.conditions import all_values
from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array, Indices, frozen

_MOST_LEVELS = 4096
"""Largest number of levels of a parameter that are listed. Engineering choice: more levels are
treated as real numbers, at most 0.02 % of the range apart."""
_SLACK = 1e-9
"""Rounding of coordinates, in units of the unit cube. Engineering choice: far below any step."""


@dataclass(frozen=True, eq=False)
class MoveSpace:
    """Coordinates of a design that may move, and their values.

    Choices stay, as do parameters that decide whether others exist, and inactive ones.

    Args:
        domain: Search domain.
        centre: Point of the design, shape ``(d,)``.
        columns: Free coordinates, shape ``(f,)``.
        names: Their names.
        lower: Least values of the free coordinates, shape ``(f,)``.
        upper: Largest values, shape ``(f,)``.
        levels: Sorted coordinates of the values of each discrete parameter, by position among the
            free ones.
    """

    domain: Domain
    centre: Array
    columns: Indices
    names: tuple[str, ...]
    lower: Array
    upper: Array
    levels: Mapping[int, Array]

    @staticmethod
    def of(domain: Domain, centre: Array) -> MoveSpace:
        """Return the free coordinates of a point ``(d,)``."""
        columns, names, levels = [], [], {}
        if not domain.parameters:
            columns, names = list(range(domain.dim)), list(domain.axes)
        still = domain.inactive(centre[None])[0] if domain.parameters else None
        fixed = domain.fixed if isinstance(domain, ConstrainedBox) else {}
        deciding = {c.parameter for p in domain.parameters.values() for c in getattr(p, "when", ())}
        for name, parameter in domain.parameters.items():
            column = domain.columns[name].start
            if isinstance(parameter, (Fixed, Choice)) or name in deciding or name in fixed:
                continue
            if still is not None and still[column]:
                continue
            if parameter.levels <= _MOST_LEVELS:
                levels[len(columns)] = _coordinates(parameter)
            columns.append(column)
            names.append(name)
        at = np.array(columns, dtype=np.intp)
        lower, upper = domain.bounds[:, at]
        for position, values in levels.items():
            lower[position], upper[position] = values[0], values[-1]
        own = centre[at]
        return MoveSpace(
            domain, frozen(centre), at, tuple(names), np.minimum(lower, own),
            np.maximum(upper, own), levels,
        )  # fmt: skip

    @property
    def room(self) -> Array:
        """Largest moves down and up of the free coordinates, shape ``(2, f)``."""
        own = self.centre[self.columns]
        return np.asarray(np.maximum(np.array([own - self.lower, self.upper - own]), 0.0))

    def along(self, position: int, moves: Array) -> Array:
        """Return points ``(n, d)`` moved by ``moves`` ``(n,)`` in one free coordinate."""
        points = np.repeat(self.centre[None], len(moves), axis=0)
        points[:, self.columns[position]] += moves
        return points

    def box(self, moves: Array) -> MoveBox:
        """Return the box of moves down and up ``(2, f)``, rounded to levels inside of it."""
        return MoveBox(self, np.minimum(moves, self.room)).rounded()


@dataclass(frozen=True, eq=False)
class MoveBox:
    """Box around a design.

    Args:
        space: Free coordinates.
        moves: Largest moves down and up, shape ``(2, f)``.
    """

    space: MoveSpace
    moves: Array

    @property
    def ends(self) -> Array:
        """Ends of the free coordinates, shape ``(2, f)``."""
        return self.space.centre[self.space.columns] + np.array([[-1.0], [1.0]]) * self.moves

    def points(self, uniform: Array) -> Array:
        """Map uniform numbers ``(n, f)`` to points ``(n, d)`` uniform in the box."""
        points = np.repeat(self.space.centre[None], len(uniform), axis=0)
        low, high = self.ends
        for position, column in enumerate(self.space.columns):
            values, t = self.space.levels.get(position), uniform[:, position]
            if values is None:
                points[:, column] = low[position] + t * (high[position] - low[position])
            else:
                inside = self._inside(position, values)
                index = np.minimum((t * len(inside)).astype(int), len(inside) - 1)
                points[:, column] = inside[index]
        return points

    def rounded(self) -> MoveBox:
        """Return the box with ends of discrete parameters at their outermost values inside."""
        if not self.space.levels:
            return self
        moves, own = self.moves.copy(), self.space.centre[self.space.columns]
        for position, values in self.space.levels.items():
            inside = self._inside(position, values)
            moves[:, position] = own[position] - inside[0], inside[-1] - own[position]
        return replace(self, moves=np.maximum(moves, 0.0))

    def scaled(self, factor: float) -> MoveBox:
        """Return the box with moves times a factor, within the room."""
        return self.space.box(self.moves * factor)

    def extended(self, position: int, side: int) -> MoveBox | None:
        """Return the box with one more value of a discrete parameter; None without one."""
        values = self.space.levels[position]
        inside, own = self._inside(position, values), self.space.centre[self.space.columns]
        more = values[values < inside[0] - _SLACK] if side == 0 else values[values > inside[-1]]
        if not len(more):
            return None
        moves, end = self.moves.copy(), more[-1] if side == 0 else more[0]
        moves[side, position] = abs(end - own[position])
        return replace(self, moves=moves)

    @property
    def size(self) -> float:
        """Sum of the logarithms of the moves; a discrete side counts half a value more.

        Sides without room do not count.
        """
        room, moves = self.space.room, self.moves.copy()
        for position, values in self.space.levels.items():
            moves[:, position] += 0.5 * float(np.diff(values).mean()) if len(values) > 1 else 1.0
        return float(np.log(np.maximum(moves[room > _SLACK], _SLACK)).sum())

    def _inside(self, position: int, values: Array) -> Array:
        low, high = self.ends[:, position]
        found = values[(values >= low - _SLACK) & (values <= high + _SLACK)]
        own = self.space.centre[self.space.columns[position]]
        return found if len(found) else np.array([own])


def _coordinates(parameter: Float | Int) -> Array:
    """Return the sorted coordinates of all values of a discrete parameter."""
    return np.sort(parameter.coordinates(list(all_values(parameter)))[:, 0])
