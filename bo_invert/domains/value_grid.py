"""Grids of equally spaced real values, each the double nearest to its decimal number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import overload

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Indices
from bo_invert.user_data import real, whole_number

# Difference of a range from a whole number of steps that is rounding, in steps. Engineering choice.
_ROUNDING = 1e-6
# Largest number of steps. Engineering choice: below it, a double distinguishes unit coordinates.
_MAX_STEPS = 10**12
# Largest number of decimals. Engineering choice: finer grids exceed double precision.
_MAX_DIGITS = 300


@dataclass(frozen=True)
class ValueGrid(Sequence[float]):
    """Values ``low + k (high - low) / steps`` for k = 0 ... steps, computed in rational numbers.

    The sum of floating-point numbers ``0.1 + 2 * 0.1`` is 0.30000000000000004; the value of this
    grid is 0.3.

    Args:
        low: first value as a decimal number.
        high: last value as a decimal number.
        steps: number of steps between them.
    """

    low: Fraction
    high: Fraction
    steps: int

    def __len__(self) -> int:
        return self.steps + 1

    @overload
    def __getitem__(self, position: int) -> float: ...

    @overload
    def __getitem__(self, position: slice) -> list[float]: ...

    def __getitem__(self, position: int | slice) -> float | list[float]:
        if isinstance(position, slice):
            return self.values(np.arange(len(self))[position])
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        return self.values(np.array([position % len(self)]))[0]

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Return the position of a value of the grid."""
        return int(self.positions(np.array([value], dtype=float))[0])

    @property
    def step(self) -> float:
        """Difference of neighbouring values."""
        return float((self.high - self.low) / self.steps)

    def values(self, positions: Indices) -> list[float]:
        """Return the values at positions ``(n,)``."""
        slope = (self.high - self.low) / self.steps
        divisor = self.low.denominator * slope.denominator
        first = self.low.numerator * slope.denominator
        rise = slope.numerator * self.low.denominator
        # The quotient of two integers in Python is the nearest double.
        return [(first + k * rise) / divisor for k in positions.tolist()]

    def positions(self, values: Array) -> Indices:
        """Return the positions ``(n,)`` of the grid values nearest to values ``(n,)``."""
        low, high = float(self.low), float(self.high)
        k = np.rint((values - low) / (high - low) * self.steps)
        return np.clip(k, 0, self.steps).astype(np.int64)


def value_grid(
    where: str, low: float, high: float, step: float | None, digits: int | None
) -> ValueGrid | None:
    """Return the grid of a range; None without step and digits.

    Args:
        where: parameter in messages.
        low: lower bound, the first value.
        high: upper bound, the last value.
        step: difference of neighbouring values; None for 10^-digits.
        digits: number of decimals; None for any.

    Raises:
        InvalidInputError: the range is not a whole number of steps, values have more decimals, or
            there are too many steps.
    """
    if step is None and digits is None:
        return None
    first, last = _decimal(low), _decimal(high)
    unit = None if digits is None else Fraction(10) ** -digits
    given = _decimal(step) if step is not None else unit
    assert given is not None
    if step is not None and unit is not None and (given % unit or first % unit):
        raise InvalidInputError(
            f"{where}: low and step must have at most {digits} decimals. Omit digits, because "
            "values are low, low + step, low + 2 * step, ..."
        )
    if step is None and unit is not None and (first % unit or last % unit):
        raise InvalidInputError(
            f"{where}: bounds must have at most {digits} decimals, because values have. Write "
            f"{_shown(first // unit * unit)} and {_shown(-(-last // unit) * unit)}, or more digits."
        )
    exact = (last - first) / given
    steps = round(exact)
    if steps > _MAX_STEPS:
        raise InvalidInputError(
            f"{where}: there must be at most {_MAX_STEPS:g} steps, got {float(exact):.3g}. Use a "
            "larger step, or omit it."
        )
    if steps < 1 or abs(exact - steps) > _ROUNDING:
        whole = max(int(exact), 1)
        raise InvalidInputError(
            f"{where}: high - low must be a whole number of steps, got {float(exact):.6g} steps. "
            f"Write high={_shown(first + whole * given)} or high="
            f"{_shown(first + (whole + 1) * given)}."
        )
    return ValueGrid(first, last, steps)


def step_of(where: str, step: object) -> float | None:
    """Return a step as a positive number; None for none."""
    if step is None:
        return None
    found = real(where, "step", step)
    if found <= 0.0:
        raise InvalidInputError(f"{where}: step must be positive, got {step!r}")
    return found


def digits_of(where: str, digits: object) -> int | None:
    """Return a number of decimals, negative for tens and hundreds; None for any number."""
    if digits is None:
        return None
    return whole_number(where, "digits", digits, least=-_MAX_DIGITS, most=_MAX_DIGITS)


def _decimal(value: float) -> Fraction:
    """Return the decimal number that a value prints as."""
    return Fraction(str(value))


def _shown(value: Fraction) -> str:
    return repr(float(value))
