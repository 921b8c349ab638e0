"""Typed, named parameters of a box and their coordinates in the unit cube. numpy only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array


def _numbers(values: Sequence[Any]) -> Array:
    """Convert values to numbers, shape ``(n,)``."""
    numbers = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            numbers[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidInputError(f"{value!r} is not a number") from None
    return numbers


@dataclass(frozen=True)
class _Range:
    """Numeric parameter in ``[low, high]``, searched on a log scale if ``log``."""

    low: float
    high: float
    log: bool = False

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
        bounds = (self.low, self.high)
        if not (
            all(isinstance(v, numbers.Real) for v in bounds) and all(map(math.isfinite, bounds))
        ):
            raise InvalidInputError(f"{where}: bounds must be finite numbers")
        if not self.low < self.high:
            raise InvalidInputError(f"{where}: the lower bound must lie below the upper one")
        if not math.isfinite(self.high - self.low):
            raise InvalidInputError(f"{where}: the range is too wide for double precision")
        if self.log and self.low <= 0:
            raise InvalidInputError(f"{where}: a log scale needs a positive lower bound")

    def _edges(self) -> tuple[float, float]:
        """Return the ends of the unit interval, on the scale of the search."""
        low, high = self.low - self._half_cell, self.high + self._half_cell
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def decode(self, u: Array) -> list[Any]:
        """Decode unit coordinates ``(n, 1)`` to values."""
        low, high = self._edges()
        t = low + np.clip(u[:, 0], 0.0, 1.0) * (high - low)
        value = np.exp(t) if self.log else t
        rounded = np.rint(value) if self._half_cell else value
        return [self._type(v) for v in np.clip(rounded, self.low, self.high)]

    def encode(self, values: Sequence[Any]) -> Array:
        """Encode values as unit coordinates ``(n, 1)``."""
        v = _numbers(values)
        rounded = np.rint(v) if self._half_cell else v
        for value in v[~((v == rounded) & (v >= self.low) & (v <= self.high))]:
            raise InvalidInputError(
                f"{value:.12g} is not {self._kind} in [{self.low}, {self.high}]"
            )
        low, high = self._edges()
        return (((np.log(v) if self.log else v) - low) / (high - low))[:, None]

    def project(self, u: Array) -> Array:
        return np.clip(u, 0.0, 1.0)

    def to_json(self) -> JSON:
        return {"type": type(self).__name__.lower(), **asdict(self)}


class Float(_Range):
    """Real parameter in ``[low, high]``, searched on a log scale if ``log``."""


@dataclass(frozen=True)
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

    @property
    def levels(self) -> int:  # type: ignore[override]  # a constant of real parameters
        """Number of different values."""
        return self.high - self.low + 1

    def project(self, u: Array) -> Array:
        return self.encode(self.decode(u))


@dataclass(frozen=True, init=False)
class Choice:
    """Categorical parameter: one coordinate if ``ordered``, otherwise one per value (one-hot)."""

    values: tuple[Any, ...]
    ordered: bool

    def __init__(self, *values: Any, ordered: bool = False) -> None:
        if len(values) == 1 and isinstance(values[0], (list, tuple)):
            values = tuple(values[0])
        if not all(isinstance(v, (str, bool, int, float)) for v in values):
            raise InvalidInputError(
                f"Choice values must be str, bool, int or float, got {values!r}"
            )
        if len(values) < 2 or len(set(values)) != len(values):
            raise InvalidInputError(f"Choice needs at least two different values, got {values!r}")
        vars(self).update(values=tuple(values), ordered=ordered)  # the class is frozen

    @property
    def width(self) -> int:
        """Number of coordinates in the unit cube."""
        return 1 if self.ordered or len(self.values) == 2 else len(self.values)

    @property
    def levels(self) -> int:
        """Number of different values."""
        return len(self.values)

    def decode(self, u: Array) -> list[Any]:
        if self.width > 1:
            index = u.argmax(axis=1)
        else:
            cell = (np.clip(u[:, 0], 0.0, 1.0) * self.levels).astype(int)
            index = np.minimum(cell, self.levels - 1)
        return [self.values[i] for i in index]

    def encode(self, values: Sequence[Any]) -> Array:
        for value in values:
            if value not in self.values:
                raise InvalidInputError(f"{value!r} is not one of {list(self.values)}")
        index = np.array([self.values.index(value) for value in values], dtype=int)
        one_hot = np.eye(self.levels)
        return one_hot[index] if self.width > 1 else ((index + 0.5) / self.levels)[:, None]

    def project(self, u: Array) -> Array:
        return self.encode(self.decode(u))

    def to_json(self) -> JSON:
        return {"type": "choice", "values": list(self.values), "ordered": self.ordered}


Parameter = Float | Int | Choice


def parameter_from_json(data: JSON) -> Parameter:
    """Return the parameter of a ``to_json`` dict."""
    if data["type"] == "choice":
        return Choice(*data["values"], ordered=data["ordered"])
    kind: type[Float] | type[Int] = Int if data["type"] == "int" else Float
    return kind(data["low"], data["high"], data["log"])


def parameter_columns(parameters: Mapping[str, Parameter]) -> dict[str, slice]:
    """Return the columns of the coordinates of each parameter."""
    ends = accumulate(parameter.width for parameter in parameters.values())
    return {
        name: slice(end - parameter.width, end)
        for (name, parameter), end in zip(parameters.items(), ends, strict=True)
    }


def parameter_quantiles(parameters: Mapping[str, Parameter], u: Array) -> Array:
    """Map uniform numbers ``(n, p)``, one for each parameter, to points ``(n, d)`` of the cube."""
    columns = parameter_columns(parameters).values()
    points = np.zeros((len(u), sum(parameter.width for parameter in parameters.values())))
    for column, parameter, place in zip(u.T, parameters.values(), columns, strict=True):
        if parameter.width == 1:
            points[:, place.start] = column
        else:
            value = np.minimum((column * parameter.width).astype(int), parameter.width - 1)
            points[np.arange(len(u)), place.start + value] = 1.0
    return points


def decode_named(parameters: Mapping[str, Parameter], points: Array) -> list[dict[str, Any]]:
    """Decode points ``(n, d)`` to named values."""
    columns = parameter_columns(parameters)
    decoded = {name: p.decode(points[:, columns[name]]) for name, p in parameters.items()}
    return [{name: column[i] for name, column in decoded.items()} for i in range(len(points))]


def encode_named(parameters: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]) -> Array:
    """Encode named values as points ``(n, d)``.

    Raises:
        InvalidInputError: a name is missing or unknown, or a value is out of range.
    """
    for row in values:
        if set(row) != set(parameters):
            missing, unknown = set(parameters) - set(row), set(row) - set(parameters)
            raise InvalidInputError(
                f"parameters do not match: missing {sorted(missing)}, unknown "
                f"{sorted(unknown)}; expected {list(parameters)}"
            )
    parts = []
    for name, parameter in parameters.items():
        try:
            parts.append(parameter.encode([row[name] for row in values]))
        except InvalidInputError as error:
            raise InvalidInputError(f"parameter {name!r}: {error}") from None
    return np.concatenate(parts, axis=1)
