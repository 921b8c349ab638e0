"""Typed, named parameters of a box and their coordinates in the unit cube. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array
from bo_invert.user_data import number, plain_options, real, scalar

# Unit roundoffs 2^-p of floating-point formats with p significant bits (IEEE 754; bfloat16: 8).
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
Value: TypeAlias = str | bool | int | float
"""Value of a parameter."""


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
        for name in ("low", "high"):  # the class is frozen
            vars(self)[name] = _bound(where, name, getattr(self, name))
        vars(self)["log"] = bool(self.log)
        if not self.low < self.high:
            raise InvalidInputError(f"{where}: the lower bound must lie below the upper one")
        if not math.isfinite(self.high - self.low):
            raise InvalidInputError(f"{where}: the range is too wide for double precision")
        if self.log and self.low <= 0:
            raise InvalidInputError(f"{where}: a log scale needs a positive lower bound")

    def edges(self) -> tuple[float, float]:
        """Return the ends of the unit interval, on the scale of the search."""
        low, high = self.low - self._half_cell, self.high + self._half_cell
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def decode(self, u: Array) -> list[Any]:
        """Decode unit coordinates ``(n, 1)`` to values."""
        low, high = self.edges()
        t = low + np.clip(u[:, 0], 0.0, 1.0) * (high - low)
        value = np.exp(t) if self.log else t
        rounded = np.rint(value) if self._half_cell else value
        return [self._type(v) for v in np.clip(rounded, self.low, self.high)]

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
        usual = self._type is float and set(map(type, numbers)) == {float}
        if usual and all(self.low <= one <= self.high for one in numbers):
            return numbers
        return [self.read(value) for value in values]

    def encode(self, values: Sequence[Any]) -> Array:
        """Encode values of the user as unit coordinates ``(n, 1)``."""
        return self.coordinates(self.read_all(values))

    def coordinates(self, values: Sequence[Any]) -> Array:
        """Return the unit coordinates ``(n, 1)`` of values that ``read`` has returned."""
        v = np.array(values, dtype=float)
        low, high = self.edges()
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
        return self.coordinates(self.decode(u))


@dataclass(frozen=True, init=False)
class Choice:
    """Categorical parameter: one coordinate if ``ordered``, otherwise one per value (one-hot)."""

    values: tuple[Any, ...]
    ordered: bool

    def __init__(self, *values: Any, ordered: bool = False) -> None:
        if len(values) == 1 and np.ndim(values[0]) == 1:
            values = tuple(values[0])
        values = tuple(plain_options(value) for value in values)
        if not all(isinstance(v, (str, bool, int, float)) and v == v for v in values):
            raise InvalidInputError(
                f"Choice values must be str, bool, int or float, got {values!r}"
            )
        if len(values) < 2 or len(set(values)) != len(values):
            raise InvalidInputError(f"Choice needs at least two different values, got {values!r}")
        vars(self).update(values=values, ordered=bool(ordered))  # the class is frozen

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

    def read(self, value: object) -> Value:
        """Return the value of this parameter that equals a value of the user.

        Raises:
            InvalidInputError: there is none.
        """
        one = scalar(value)
        for known in self.values if isinstance(one, (str, bool, int, float)) else ():
            if known == one or (
                isinstance(one, float)
                and isinstance(known, float)
                and known == snapped(one, known, known, value)
            ):
                return cast("Value", known)
        raise InvalidInputError(f"{value!r:.200} is not one of {list(self.values)}")

    def read_all(self, values: Sequence[object]) -> Sequence[object]:
        """Return values of the user as ``read`` does."""
        return [self.read(value) for value in values]

    def encode(self, values: Sequence[Any]) -> Array:
        return self.coordinates(self.read_all(values))

    def coordinates(self, values: Sequence[Any]) -> Array:
        """Return the unit coordinates of values that ``read`` has returned."""
        index = np.array([self.values.index(value) for value in values], dtype=int)
        one_hot = np.eye(self.levels)
        return one_hot[index] if self.width > 1 else ((index + 0.5) / self.levels)[:, None]

    def project(self, u: Array) -> Array:
        return self.coordinates(self.decode(u))

    def to_json(self) -> JSON:
        return {"type": "choice", "values": list(self.values), "ordered": self.ordered}


Parameter = Float | Int | Choice


def parameter_from_json(data: JSON) -> Parameter:
    """Return the parameter of a ``to_json`` dict."""
    if data["type"] == "choice":
        return Choice(*data["values"], ordered=data["ordered"])
    kind: type[Float] | type[Int] = Int if data["type"] == "int" else Float
    return kind(data["low"], data["high"], data["log"])


def snapped(value: float, low: float, high: float, given: object = None) -> float:
    """Return a value outside ``[low, high]`` as the bound that it equals in its own precision.

    The value 0.1 in single precision exceeds 0.1 by 1.5e-9.

    Args:
        value: value in double precision.
        low: lower bound.
        high: upper bound.
        given: array, scalar or tensor that held the value. Without one of lower precision, a number
            that single precision represents exactly counts as single precision.
    """
    if low <= value <= high or not math.isfinite(value):
        return value
    name = str(getattr(given, "dtype", "")).rpartition(".")[2]
    with np.errstate(over="ignore"):
        single = float(np.float32(value)) == value
    roundoff = _ROUNDOFF.get(name, _ROUNDOFF["float32"] if single else 0.0)
    bound = low if value < low else high
    return bound if abs(value - bound) <= roundoff * abs(bound) else value


def _bound(where: str, name: str, value: object) -> float:
    """Return a bound as a Python number; whole numbers stay integers."""
    exact, found = scalar(value), real(where, f"the bound {name}", value)
    return exact if isinstance(exact, int) and not isinstance(exact, bool) else found
