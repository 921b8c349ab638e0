"""Input constraints of a box: linear, on the number of non-zero parameters, or a function.

A constraint is a statement about named values. ``feasible_set`` samples and projects.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.hashing import digest
from bo_invert.types import JSON, Array, Mask
from bo_invert.user_code import user_function
from bo_invert.user_data import real, whole_number

Columns = Mapping[str, Array]
"""Values of n designs by parameter: arrays ``(n,)`` of numbers, or of objects for choices."""

TOLERANCE = 1e-9
"""Largest excess of an inequality, relative to the range of its left side. Engineering choice:
double precision rounds to 1e-16, and users round to a few digits."""
EQUALITY_TOLERANCE = 1e-6
"""Largest error of an equality, relative to the range of its left side. Engineering choice: above
the rounding error of fractions in single precision, 6e-8."""


class InputConstraint(ABC):
    """Constraint on the parameters of a box.

    Attributes:
        names: parameters that it reads; empty for all.
    """

    names: tuple[str, ...]

    @abstractmethod
    def holds(self, values: Columns, widths: Mapping[str, float]) -> Mask:
        """Return a mask ``(n,)`` of the designs that satisfy the constraint.

        Args:
            values: values of n designs.
            widths: width of the range of each numeric parameter.
        """

    @abstractmethod
    def to_json(self) -> JSON:
        """Return the JSON form that identifies the constraint in a log."""

    def state(self, values: Columns) -> str:
        """Return a text with the values of one design, for messages; ``values`` has n = 1."""
        return ""


@dataclass(frozen=True)
class Linear(InputConstraint):
    """Linear constraint ``lower <= sum_i c_i x_i <= upper``; an equality if both are equal.

    It holds in designs that lack one of its conditional parameters.

    Args:
        coefficients: coefficient ``c_i`` of each parameter, not 0.
        lower: lower bound, -inf for none.
        upper: upper bound, inf for none.
    """

    coefficients: Mapping[str, float]
    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        if not self.coefficients:
            raise InvalidInputError("constraint must name at least one parameter")
        if math.isinf(self.lower) and math.isinf(self.upper):
            raise InvalidInputError(f"constraint on {list(self.coefficients)} must have a bound")
        wrong = {name: c for name, c in self.coefficients.items() if not math.isfinite(c)}
        if wrong or math.isnan(self.lower) or math.isnan(self.upper):
            given = wrong or [self.lower, self.upper]
            raise InvalidInputError(
                f"constraint on {list(self.coefficients)}: coefficients must be finite and bounds "
                f"must not be NaN, got {given}. Write 0 for a parameter that does not matter"
            )

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.coefficients)

    @property
    def equality(self) -> bool:
        """True for an equality."""
        return self.lower == self.upper

    @property
    def tolerance(self) -> float:
        """Largest error, relative to the range of the left side."""
        return EQUALITY_TOLERANCE if self.equality else TOLERANCE

    def at(self, constants: Mapping[str, Any]) -> Linear | None:
        """Return the constraint on the other parameters; None if none is left.

        Raises:
            InvalidInputError: the constants alone violate it, or one of them is a text.
        """
        known = {name: constants[name] for name in self.coefficients if name in constants}
        if not known:
            return self
        texts = [name for name, value in known.items() if isinstance(value, str)]
        if texts:
            raise InvalidInputError(
                f"Box: constraint '{self}' needs numbers, and {texts[0]!r} is fixed at "
                f"{known[texts[0]]!r}"
            )
        offset = sum(self.coefficients[name] * float(value) for name, value in known.items())
        rest = {name: c for name, c in self.coefficients.items() if name not in known}
        if rest:
            return Linear(rest, self.lower - offset, self.upper - offset)
        slack = TOLERANCE * (1.0 + abs(offset))
        if not self.lower - slack <= offset <= self.upper + slack:
            raise InvalidInputError(f"Box: the fixed values {known} violate constraint '{self}'")
        return None

    def left_side(self, values: Columns) -> Array:
        """Return ``sum_i c_i x_i`` of n designs, shape ``(n,)``."""
        terms = [c * np.asarray(values[n], dtype=float) for n, c in self.coefficients.items()]
        return np.asarray(np.sum(terms, axis=0))

    def holds(self, values: Columns, widths: Mapping[str, float]) -> Mask:
        left = self.left_side(values)
        reach = sum(abs(c) * widths[name] for name, c in self.coefficients.items())
        slack = self.tolerance * reach
        inside = (left >= self.lower - slack) & (left <= self.upper + slack)
        return np.asarray(inside | np.isnan(left))  # NaN: a parameter does not exist here

    def state(self, values: Columns) -> str:
        return f"the left side is {self.left_side(values)[0]:.9g}"

    def to_json(self) -> JSON:
        return {
            "type": "linear",
            "coefficients": dict(self.coefficients),
            "lower": None if math.isinf(self.lower) else self.lower,
            "upper": None if math.isinf(self.upper) else self.upper,
        }

    def __str__(self) -> str:
        bound = self.upper if math.isinf(self.lower) else self.lower
        sign = "==" if self.equality else "<=" if math.isinf(self.lower) else ">="
        left, right = self.coefficients, f"{bound:.9g}"
        if math.isfinite(self.lower) and math.isfinite(self.upper) and not self.equality:
            return f"{self.lower:.9g} <= {_sum(left)} <= {self.upper:.9g}"
        negative = {name: -c for name, c in left.items() if c < 0}
        if bound == 0.0 and 0 < len(negative) < len(left):  # an order such as a <= b
            left = {name: c for name, c in left.items() if c > 0}
            right = _sum(negative)
        return f"{_sum(left)} {sign} {right}"


def _sum(terms: Mapping[str, float]) -> str:
    """Return the text of a sum of terms."""
    text = ""
    for name, c in terms.items():
        factor = name if abs(c) == 1.0 else f"{abs(c):.9g} {name}"
        text += f" {'-' if c < 0 else '+'} {factor}" if text else f"{'-' if c < 0 else ''}{factor}"
    return text


@dataclass(frozen=True)
class Count(InputConstraint):
    """Bounds on the number of non-zero parameters; ``AtMost``, ``AtLeast``, ``Exactly``.

    Args:
        of: names of the parameters; 0 is one of their values.
        most: largest number of non-zero ones.
        least: smallest number of non-zero ones.
        smallest: smallest absolute value of a non-zero parameter; 0 for none.
    """

    of: tuple[str, ...]
    most: int
    least: int = 0
    smallest: float = 0.0

    def __post_init__(self) -> None:
        if len(set(self.of)) != len(self.of) or not self.of:
            raise InvalidInputError(f"constraint: of must list different names, got {self.of!r}")
        vars(self)["of"] = tuple(str(name) for name in self.of)  # the class is frozen
        vars(self)["smallest"] = real("constraint", "smallest", self.smallest)
        if not 0 <= self.least <= self.most <= len(self.of):
            raise InvalidInputError(
                f"constraint: the number of non-zero parameters must be between 0 and "
                f"{len(self.of)}, the length of of, got {self.least} to {self.most}"
            )
        if self.smallest < 0:
            raise InvalidInputError(
                f"constraint: smallest must be at least 0, got {self.smallest!r}"
            )

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.of

    def at(self, constants: Mapping[str, Any]) -> Count | None:
        """Return the constraint on the other parameters; None if none is left.

        Raises:
            InvalidInputError: the constants alone violate it.
        """
        known = {name: constants[name] for name in self.of if name in constants}
        used = sum(value != 0 for value in known.values())
        rest = tuple(name for name in self.of if name not in known)
        most, least = min(self.most - used, len(rest)), max(self.least - used, 0)
        small = any(0 < abs(value) < self.smallest for value in known.values())
        if most < 0 or least > len(rest) or small:
            raise InvalidInputError(f"Box: the fixed values {known} violate constraint '{self}'")
        if not known:
            return self
        return Count(rest, most, least, self.smallest) if rest else None

    def holds(self, values: Columns, widths: Mapping[str, float]) -> Mask:
        size = np.abs([np.asarray(values[name], dtype=float) for name in self.of])
        slack = TOLERANCE * np.array([widths[name] for name in self.of])[:, None]
        count = (size > slack).sum(axis=0)
        small = ((size > slack) & (size < self.smallest - slack)).any(axis=0)
        return np.asarray((count >= self.least) & (count <= self.most) & ~small)

    def state(self, values: Columns) -> str:
        used = [name for name in self.of if abs(float(values[name][0])) > 0.0]  # not NaN
        return f"non-zero are {', '.join(used) or 'none'}"

    def to_json(self) -> JSON:
        return {
            "type": "count", "of": list(self.of), "most": self.most, "least": self.least,
            "smallest": self.smallest,
        }  # fmt: skip

    def __str__(self) -> str:
        number = (
            f"exactly {self.most}" if self.least == self.most
            else f"at most {self.most}" if not self.least
            else f"at least {self.least}" if self.most == len(self.of)
            else f"{self.least} to {self.most}"
        )  # fmt: skip
        small = f", each at least {self.smallest:.9g}" if self.smallest else ""
        return f"{number} of {', '.join(self.of)} non-zero{small}"


def AtMost(k: int, of: Sequence[str], smallest: float = 0.0) -> Count:
    """Constrain at most k of the named parameters to be non-zero.

    Args:
        k: largest number of non-zero parameters.
        of: names of the parameters.
        smallest: smallest absolute value of a non-zero parameter; 0 for none.
    """
    return Count(_listed(of), whole_number("AtMost", "k", k), 0, smallest)


def AtLeast(k: int, of: Sequence[str], smallest: float = 0.0) -> Count:
    """Constrain at least k of the named parameters to be non-zero; arguments as ``AtMost``."""
    names = _listed(of)
    return Count(names, len(names), whole_number("AtLeast", "k", k), smallest)


def Exactly(k: int, of: Sequence[str], smallest: float = 0.0) -> Count:
    """Constrain exactly k of the named parameters to be non-zero; arguments as ``AtMost``."""
    number = whole_number("Exactly", "k", k)
    return Count(_listed(of), number, number, smallest)


def _listed(of: Sequence[str]) -> tuple[str, ...]:
    if isinstance(of, str):
        raise InvalidInputError(f"constraint: of must list names, got the text {of!r}")
    return tuple(of)


@dataclass(frozen=True, eq=False)
class Feasible(InputConstraint):
    """Constraint by a function of the user.

    The log stores a hash of the function, so another function is another problem.

    Args:
        fn: function that returns n booleans, True for feasible designs. Its argument is a dict of
            arrays ``(n,)`` by parameter, or an array ``(n, d)`` for a box of vectors.
        name: name in messages; default: that of the function.
        vectorized: False if the function receives one design, a dict or a vector, and returns one
            boolean.
    """

    fn: Callable[[Any], Any]
    name: str = ""
    vectorized: bool = True
    vectors: bool = field(default=False, repr=False)
    """Designs are vectors; ``Box`` sets it."""

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ()

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InvalidInputError(f"Feasible: fn must be a function, got {self.fn!r:.200}")
        vars(self)["name"] = self.name or getattr(self.fn, "__name__", type(self.fn).__name__)

    def holds(self, values: Columns, widths: Mapping[str, float]) -> Mask:
        count = len(next(iter(values.values())))
        call = user_function(self.fn)
        assert call is not None
        try:
            if self.vectorized:
                answer = np.asarray(call(self._argument(values)))
            else:
                rows = [{name: one[i] for name, one in values.items()} for i in range(count)]
                answer = np.array([bool(call(self._row(row))) for row in rows], dtype=bool)
        except Exception as error:
            raise InvalidInputError(
                f"Feasible: function {self.name!r} raised {type(error).__name__}: {error}"
            ) from error
        if answer.shape != (count,) or answer.dtype != bool:
            raise InvalidInputError(
                f"Feasible: function {self.name!r} must return {count} booleans for {count} "
                f"designs, got {answer.dtype} of shape {answer.shape}. Write "
                "Feasible(fn, vectorized=False) for a function of one design"
            )
        return answer

    def _argument(self, values: Columns) -> object:
        if self.vectors:
            return np.stack([np.asarray(one, dtype=float) for one in values.values()], axis=1)
        return {name: one.copy() for name, one in values.items()}

    def _row(self, row: dict[str, Any]) -> object:
        return np.array([*row.values()], dtype=float) if self.vectors else row

    def to_json(self) -> JSON:
        found = digest(self.fn)
        return {
            "type": "feasible", "name": self.name, "sha256": None if found is None else found[0]
        }  # fmt: skip

    def __str__(self) -> str:
        return self.name


def constraint_from_json(data: JSON) -> InputConstraint | None:
    """Return the constraint of a ``to_json`` dict; None for a function, which is code.

    Raises:
        InvalidInputError: numbers or names do not fit, as in ``AtMost`` and ``AtLeast``.
    """
    if data["type"] == "linear":
        low, high = data.get("lower"), data.get("upper")
        return Linear(
            {name: float(c) for name, c in data["coefficients"].items()},
            -math.inf if low is None else float(low),
            math.inf if high is None else float(high),
        )
    if data["type"] == "count":
        of, most, least = _listed(data["of"]), data["most"], data.get("least", 0)
        most = whole_number("constraint", "most", most)
        least = whole_number("constraint", "least", least, least=0)
        return Count(of, most, least, data.get("smallest", 0.0))
    return None
