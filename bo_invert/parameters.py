"""Typed, named parameters of a box and their coordinates in the unit cube. numpy only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array, Indices


def _check_range(low: float, high: float, log: bool, what: str) -> None:
    if not all(isinstance(v, numbers.Real) for v in (low, high)):
        raise InvalidInputError(f"{what}: bounds must be numbers, got [{low!r}, {high!r}]")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInputError(f"{what}: bounds must be finite numbers, got [{low}, {high}]")
    if not low < high:
        raise InvalidInputError(
            f"{what}: the lower bound must lie below the upper one, got [{low}, {high}]"
        )
    if not math.isfinite(high - low):
        raise InvalidInputError(
            f"{what}: the range is too wide for double precision, got [{low}, {high}]"
        )
    if log and low <= 0:
        raise InvalidInputError(f"{what}: a log scale needs a positive lower bound, got {low}")


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
class Float:
    """Real parameter in ``[low, high]``, searched on a log scale if ``log``."""

    low: float
    high: float
    log: bool = False
    width = 1

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log, f"Float({self.low}, {self.high})")

    def decode(self, u: Array) -> list[Any]:
        """Decode unit coordinates ``(n, 1)`` to values."""
        t = np.clip(u[:, 0], 0.0, 1.0)
        if self.log:
            value = np.exp(math.log(self.low) + t * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + t * (self.high - self.low)
        return [float(v) for v in np.clip(value, self.low, self.high)]

    def encode(self, values: Sequence[Any]) -> Array:
        """Encode values as unit coordinates ``(n, 1)``."""
        v = _numbers(values)
        if ((v < self.low) | (v > self.high) | ~np.isfinite(v)).any():
            bad = [float(x) for x in v if not self.low <= x <= self.high]
            raise InvalidInputError(f"{bad[0]} lies outside [{self.low}, {self.high}]")
        if self.log:
            t = (np.log(v) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            t = (v - self.low) / (self.high - self.low)
        return t[:, None]

    def project(self, u: Array) -> Array:
        return np.clip(u, 0.0, 1.0)

    def to_json(self) -> JSON:
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Int:
    """Integer parameter in ``[low, high]``, both included, on a log scale if ``log``."""

    low: int
    high: int
    log: bool = False
    width = 1

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log, f"Int({self.low}, {self.high})")
        if self.low != int(self.low) or self.high != int(self.high):
            raise InvalidInputError(f"Int({self.low}, {self.high}): bounds must be whole numbers")

    def _edges(self) -> tuple[float, float]:
        # Each integer owns a cell of width 1, so that the ends are drawn as often as the others.
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def decode(self, u: Array) -> list[Any]:
        low, high = self._edges()
        t = low + np.clip(u[:, 0], 0.0, 1.0) * (high - low)
        value = np.rint(np.exp(t) if self.log else t)
        return [int(v) for v in np.clip(value, self.low, self.high)]

    def encode(self, values: Sequence[Any]) -> Array:
        v = _numbers(values)
        for value in v[~((v == np.rint(v)) & (v >= self.low) & (v <= self.high))]:
            raise InvalidInputError(f"{value:g} is not a whole number in [{self.low}, {self.high}]")
        low, high = self._edges()
        return (((np.log(v) if self.log else v) - low) / (high - low))[:, None]

    def project(self, u: Array) -> Array:
        return self.encode(self.decode(u))

    def to_json(self) -> JSON:
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log}


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
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "ordered", ordered)

    @property
    def width(self) -> int:
        """Number of coordinates in the unit cube."""
        return 1 if self.ordered or len(self.values) == 2 else len(self.values)

    def _index(self, u: Array) -> Indices:
        if self.width > 1:
            largest: Indices = u.argmax(axis=1)
            return largest
        count = len(self.values)
        cell: Indices = (np.clip(u[:, 0], 0.0, 1.0) * count).astype(int)
        return np.minimum(cell, count - 1)

    def decode(self, u: Array) -> list[Any]:
        return [self.values[i] for i in self._index(u)]

    def encode(self, values: Sequence[Any]) -> Array:
        for value in values:
            if value not in self.values:
                raise InvalidInputError(f"{value!r} is not one of {list(self.values)}")
        index = np.array([self.values.index(value) for value in values], dtype=int)
        if self.width > 1:
            one_hot: Array = np.eye(len(self.values))[index]
            return one_hot
        return ((index + 0.5) / len(self.values))[:, None]

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
    start, found = 0, {}
    for name, parameter in parameters.items():
        found[name] = slice(start, start + parameter.width)
        start += parameter.width
    return found


def decode_rows(parameters: Mapping[str, Parameter], points: Array) -> list[dict[str, Any]]:
    """Decode unit coordinates ``(n, d)`` to named values."""
    decoded = {
        name: parameters[name].decode(points[:, columns])
        for name, columns in parameter_columns(parameters).items()
    }
    return [{name: column[i] for name, column in decoded.items()} for i in range(len(points))]


def encode_rows(parameters: Mapping[str, Parameter], rows: Sequence[Mapping[str, Any]]) -> Array:
    """Encode named values as unit coordinates ``(n, d)``.

    Raises:
        InvalidInputError: a name is missing or unknown, or a value is out of range.
    """
    for row in rows:
        if set(row) != set(parameters):
            missing, unknown = set(parameters) - set(row), set(row) - set(parameters)
            raise InvalidInputError(
                f"parameters do not match: missing {sorted(missing)}, unknown "
                f"{sorted(unknown)}; expected {list(parameters)}"
            )
    parts = []
    for name, parameter in parameters.items():
        try:
            parts.append(parameter.encode([row[name] for row in rows]))
        except InvalidInputError as error:
            raise InvalidInputError(f"parameter {name!r}: {error}") from None
    return np.concatenate(parts, axis=1)
