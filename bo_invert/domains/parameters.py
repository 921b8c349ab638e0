"""Typed, named parameters of a box and their coordinates in the unit cube. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

import numpy as np

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameter_conditions import (
    Condition,
    conditions_from_json,
    conditions_text,
    conditions_to_json,
)
from bo_invert.domains.rounding import Value as Value, equal_value, roundoff, snapped
from bo_invert.domains.value_grid import ValueGrid, digits_of, step_of, value_grid
from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array, Indices
from bo_invert.user_data import number, plain_options, real, scalar

# Distance of a value of the user from a grid that is rounding, in steps. Engineering choice.
_GRID_ROUNDING = 1e-6


@dataclass(frozen=True, repr=False)
class _Range:
    """Numeric parameter in ``[low, high]``, searched on a log scale if ``log``."""

    low: float
    high: float
    log: bool = False
    when: tuple[Condition, ...] = field(default=(), kw_only=True)
    """Conditions under which the parameter exists; see ``When``."""

    width: ClassVar[int] = 1
    """Number of coordinates in the unit cube."""
    levels: ClassVar[float] = math.inf
    """Number of different values."""
    _type: ClassVar[type] = float
    _kind: ClassVar[str] = "a number"
    _half_cell: ClassVar[float] = 0
    """Half the width of the interval that is rounded to one value."""

    def __post_init__(self) -> None:
        where = f"{type(self).__name__}({self.low!r}, {self.high!r})"
        for name in ("low", "high"):  # the class is frozen
            given = getattr(self, name)
            exact, found = scalar(given), real(where, f"the bound {name}", given)
            vars(self)[name] = exact if type(exact) is int else found
        vars(self)["log"] = bool(self.log)
        if not self.low < self.high:
            raise InvalidInputError(f"{where}: the lower bound must lie below the upper one")
        if not math.isfinite(self.high - self.low):
            raise InvalidInputError(f"{where}: the range is too wide for double precision")
        if self.log and self.low <= 0:
            raise InvalidInputError(f"{where}: a log scale needs a positive lower bound")

    @property
    def continuous(self) -> bool:
        """True if values are real numbers without a step."""
        return math.isinf(self.levels)

    def edges(self) -> tuple[float, float]:
        """Return the ends of the unit interval, on the scale of the search."""
        low, high = self.low - self._half_cell, self.high + self._half_cell
        # The cell of the first value ends at half of it, where a step is larger than the bound.
        return (math.log(max(low, 0.5 * self.low)), math.log(high)) if self.log else (low, high)

    def nearest(self, value: float) -> float:
        """Return the value of this parameter that is nearest to a number."""
        inside = min(max(value, self.low), self.high)
        return self._type(round(inside)) if self._half_cell else inside

    def decode(self, u: Array) -> list[Any]:
        """Decode unit coordinates ``(n, 1)`` to values."""
        return [self._type(v) for v in self.numbers(u)]

    def numbers(self, u: Array) -> Array:
        """Decode unit coordinates ``(n, 1)`` to values as floats ``(n,)``."""
        value = np.rint(self._real_values(u)) if self._half_cell else self._real_values(u)
        return np.asarray(np.clip(value, self.low, self.high), dtype=np.float64)

    def _real_values(self, u: Array) -> Array:
        """Return the values ``(n,)`` of unit coordinates ``(n, 1)``, without rounding."""
        low, high = self.edges()
        t = low + np.clip(u[:, 0], 0.0, 1.0) * (high - low)
        return np.asarray(np.exp(t) if self.log else t)

    def read(self, value: object) -> float:
        """Return a value of the user as a value of this parameter, without rounding.

        A value in lower precision that equals a bound in that precision is the bound.

        Raises:
            InvalidInputError: the value is not one of this parameter.
        """
        if type(value) is float and self.low <= value <= self.high:
            return value
        try:
            found = number(value)
        except TypeError as error:
            raise InvalidInputError(f"{value!r:.200} {error}") from None
        found = snapped(found, self.low, self.high, value)
        if not self.low <= found <= self.high:
            raise InvalidInputError(
                f"{found:.12g} is not {self._kind} in [{self.low}, {self.high}]"
            )
        return found

    def read_all(self, values: Sequence[object]) -> Sequence[object]:
        """Return values of the user as ``read`` does."""
        numbers = cast("Sequence[float]", values)
        usual = self.continuous and set(map(type, numbers)) == {float}
        if usual and all(self.low <= one <= self.high for one in numbers):
            return numbers
        return [self.read(value) for value in values]

    def encode(self, values: Sequence[Any]) -> Array:
        """Encode values of the user as unit coordinates ``(n, 1)``."""
        return self.coordinates(self.read_all(values))

    def coordinates(self, values: Sequence[Any] | Array) -> Array:
        """Return the unit coordinates ``(n, 1)`` of values that ``read`` has returned."""
        v = np.array(values, dtype=float)
        low, high = self.edges()
        return (((np.log(v) if self.log else v) - low) / (high - low))[:, None]

    def project(self, u: Array) -> Array:
        return np.clip(u, 0.0, 1.0)

    def under(self, conditions: tuple[Condition, ...]) -> Self:
        """Return this parameter with other conditions."""
        return replace(self, when=conditions)

    def _options(self) -> dict[str, JSON]:
        """Return the options that are set, apart from bounds and scale."""
        return {}

    def __repr__(self) -> str:
        given = {"low": self.low, "high": self.high, "log": self.log, **self._options()}
        text = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"{type(self).__name__}({text}{conditions_text(self.when)})"

    def to_json(self) -> JSON:
        return {
            "type": type(self).__name__.lower(),
            "low": self.low,
            "high": self.high,
            "log": self.log,
            **self._options(),
            **conditions_to_json(self.when),
        }


@dataclass(frozen=True, repr=False)
class Float(_Range):
    """Real parameter in ``[low, high]``, searched on a log scale if ``log``.

    With ``step``, values are ``low, low + step, ..., high``; with ``digits``, they have at most
    this number of decimals. Each is the double nearest to its decimal number: 0.3, never
    0.30000000000000004. Models and searches then treat the parameter like an integer.

    Args:
        low: lower bound.
        high: upper bound; ``high - low`` is a whole number of steps.
        log: search on a logarithmic scale.
        step: difference of neighbouring values, in units of the parameter.
        digits: largest number of decimals, also of the bounds; -2 stands for hundreds.

    Raises:
        InvalidInputError: bounds are no interval, or not on the grid of the values.
    """

    step: float | None = field(default=None, kw_only=True)
    digits: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"Float({self.low!r}, {self.high!r})"
        step, digits = step_of(where, self.step), digits_of(where, self.digits)
        grid = value_grid(where, self.low, self.high, step, digits)
        vars(self).update(step=step, digits=digits, _grid=grid)

    @property
    def grid(self) -> ValueGrid | None:
        """Values of a parameter with a step; None for all real numbers."""
        found: ValueGrid | None = vars(self)["_grid"]
        return found

    @property
    def levels(self) -> float:  # type: ignore[override]  # a constant of the base class
        """Number of different values."""
        return math.inf if self.grid is None else self.grid.steps + 1

    @property
    def _half_cell(self) -> float:  # type: ignore[override]  # a constant of the base class
        return 0 if self.grid is None else 0.5 * self.grid.step

    def numbers(self, u: Array) -> Array:
        if self.grid is None:
            return super().numbers(u)
        return np.array(self.grid.values(self.grid.positions(self._real_values(u))))

    def measured(self, value: object) -> float:
        """Return a value of the user in the range; between the steps, it stays as it is.

        Raises:
            InvalidInputError: the value is out of range.
        """
        found = super().read(value)
        if self.grid is None:
            return found
        near = self.nearest(found)
        rounding = max(_GRID_ROUNDING * self.grid.step, roundoff(found, value) * abs(found))
        return near if abs(near - found) <= rounding else found

    def read(self, value: object) -> float:
        found = self.measured(value)
        near = found if self.grid is None else self.nearest(found)
        if self.grid is not None and near != found:
            other = self.nearest(near + math.copysign(self.grid.step, found - near))
            raise InvalidInputError(
                f"{found:.12g} is not a value of the parameter, whose step is {self.grid.step!r}; "
                f"the nearest ones are {near!r} and {other!r}"
            )
        return found

    def nearest(self, value: float) -> float:
        if self.grid is None:
            return super().nearest(value)
        return self.grid.values(self.grid.positions(np.array([value], dtype=float)))[0]

    def project(self, u: Array) -> Array:
        return super().project(u) if self.grid is None else self.coordinates(self.numbers(u))

    def _options(self) -> dict[str, JSON]:
        given = {"step": self.step, "digits": self.digits}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, repr=False)
class Int(_Range):
    """Integer parameter in ``[low, high]``, both included, on a log scale if ``log``."""

    low: int
    high: int
    _type = int
    _kind = "a whole number"
    # Each integer owns a cell of width 1, so that the ends are drawn as often as the others.
    _half_cell = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low != int(self.low) or self.high != int(self.high):
            raise InvalidInputError(f"Int({self.low}, {self.high}): bounds must be whole numbers")
        vars(self).update(low=int(self.low), high=int(self.high))

    def read(self, value: object) -> int:
        exact = scalar(value)
        found = int(exact) if isinstance(exact, int) else super().read(value)
        if found != int(found) or not self.low <= found <= self.high:
            raise InvalidInputError(
                f"{found!r:.40} is not {self._kind} in [{self.low}, {self.high}]"
            )
        return int(found)

    @property
    def levels(self) -> int:  # type: ignore[override]  # a constant of real parameters
        """Number of different values."""
        return self.high - self.low + 1

    def project(self, u: Array) -> Array:
        return self.coordinates(self.numbers(u))


@dataclass(frozen=True, init=False, repr=False)
class Choice:
    """Categorical parameter: one of several values.

    Models compare unordered values as equal or different (one coordinate per value, one-hot). With
    ``ordered``, neighbours in the given order are similar, like levels of a number (one
    coordinate): grades, sizes such as ``Choice(8, 16, 32, 64, ordered=True)``, or
    ``Choice("low", "medium", "high", ordered=True)``.

    Args:
        values: at least two different str, bool, int or float, also as one list.
        ordered: values are given in their order.
    """

    values: tuple[Any, ...]
    ordered: bool
    when: tuple[Condition, ...] = ()

    continuous: ClassVar[bool] = False
    """True if values are real numbers."""

    def __init__(
        self, *values: Any, ordered: bool = False, when: tuple[Condition, ...] = ()
    ) -> None:
        if len(values) == 1 and np.ndim(values[0]) == 1:
            values = tuple(values[0])
        values = tuple(plain_options(value) for value in values)
        if not all(isinstance(v, (str, bool, int, float)) and v == v for v in values):
            raise InvalidInputError(
                f"Choice values must be str, bool, int or float, got {values!r}"
            )
        if len(values) < 2 or len(set(values)) != len(values):
            raise InvalidInputError(f"Choice needs at least two different values, got {values!r}")
        vars(self).update(values=values, ordered=bool(ordered), when=when)  # the class is frozen

    def under(self, conditions: tuple[Condition, ...]) -> Choice:
        """Return this parameter with other conditions."""
        return Choice(*self.values, ordered=self.ordered, when=conditions)

    def __repr__(self) -> str:
        return (
            f"Choice(values={self.values!r}, ordered={self.ordered!r}{conditions_text(self.when)})"
        )

    @property
    def width(self) -> int:
        """Number of coordinates in the unit cube."""
        return 1 if self.ordered or len(self.values) == 2 else len(self.values)

    @property
    def levels(self) -> int:
        """Number of different values."""
        return len(self.values)

    def decode(self, u: Array) -> list[Any]:
        return [self.values[i] for i in self.positions(u)]

    def positions(self, u: Array) -> Indices:
        """Return the positions ``(n,)`` of the values of unit coordinates ``(n, w)``."""
        cells = np.minimum(np.clip(u[:, 0], 0.0, 1.0) * self.levels, self.levels - 1)
        return u.argmax(axis=1) if self.width > 1 else cells.astype(np.intp)

    def read(self, value: object) -> Value:
        """Return the value of this parameter that equals a value of the user.

        Raises:
            InvalidInputError: there is none.
        """
        found: Value | None = equal_value(value, self.values)
        if found is None:
            raise InvalidInputError(f"{value!r:.200} is not one of {list(self.values)}")
        return found

    def read_all(self, values: Sequence[object]) -> Sequence[object]:
        """Return values of the user as ``read`` does."""
        return [self.read(value) for value in values]

    def nearest(self, value: Value) -> Value:
        """Return the value of this parameter that equals a value."""
        return self.read(value)

    def encode(self, values: Sequence[Any]) -> Array:
        return self.coordinates(self.read_all(values))

    def coordinates(self, values: Sequence[Any]) -> Array:
        """Return the unit coordinates of values that ``read`` has returned."""
        return self.codes(np.array([self.values.index(value) for value in values], dtype=int))

    def codes(self, positions: Indices) -> Array:
        """Return the unit coordinates ``(n, w)`` of the values at positions ``(n,)``."""
        cells = ((positions + 0.5) / self.levels)[:, None]
        return np.eye(self.levels)[positions] if self.width > 1 else np.asarray(cells)

    def project(self, u: Array) -> Array:
        return self.codes(self.positions(u))

    def to_json(self) -> JSON:
        return {
            "type": "choice",
            "values": list(self.values),
            "ordered": self.ordered,
            **conditions_to_json(self.when),
        }


VariedParameter = Float | Int | Choice
"""Parameter with coordinates."""
Parameter = VariedParameter | Fixed


def parameter_from_json(data: JSON) -> Parameter:
    """Return the parameter of a ``to_json`` dict; ``log`` and ``ordered`` may be missing."""
    when = conditions_from_json(data)
    if data["type"] == "fixed":
        return Fixed(data["value"], when)
    if data["type"] == "choice":
        return Choice(*data["values"], ordered=data.get("ordered", False), when=when)
    if data["type"] == "int":
        return Int(data["low"], data["high"], data.get("log", False), when=when)
    log, step, digits = data.get("log", False), data.get("step"), data.get("digits")
    return Float(data["low"], data["high"], log, step=step, digits=digits, when=when)
