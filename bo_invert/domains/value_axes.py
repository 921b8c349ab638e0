"""Scaled values of numeric parameters: linear constraints are linear in them.

A scaled value is ``w = (v - low) / (high - low)`` of a value v. It equals the unit coordinate of a
real parameter without a log scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Float, Parameter, VariedParameter
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Mask


@dataclass(frozen=True, eq=False)
class ValueAxis:
    """Scaled values of one parameter, whose values are numbers.

    Args:
        name: name of the parameter.
        parameter: the parameter.
        columns: columns of its unit coordinates.
    """

    name: str
    parameter: VariedParameter
    columns: slice

    @cached_property
    def low(self) -> float:
        """Least value."""
        p = self.parameter
        return float(min(p.values) if isinstance(p, Choice) else p.low)

    @cached_property
    def span(self) -> float:
        """Difference of the largest and the least value."""
        p = self.parameter
        return float(max(p.values) - self.low if isinstance(p, Choice) else p.high - p.low)

    @cached_property
    def _values(self) -> Array:
        """Values of a choice, in its order."""
        return np.array(getattr(self.parameter, "values", ()), dtype=np.float64)

    @cached_property
    def discrete(self) -> bool:
        """True if the parameter has finitely many values."""
        return bool(np.isfinite(self.parameter.levels))

    @cached_property
    def plain(self) -> bool:
        """True if scaled values are unit coordinates."""
        p = self.parameter
        return isinstance(p, Float) and not p.log and not self.discrete

    @cached_property
    def zero(self) -> float:
        """Scaled value of 0."""
        return -self.low / self.span

    def read(self, coordinates: Array) -> Array:
        """Return the scaled values ``(n,)`` of unit coordinates ``(n, w)``."""
        if self.plain:
            return coordinates[:, 0]
        p = self.parameter
        if isinstance(p, Float) and not self.discrete:
            ratio = np.log(p.high / p.low)
            with np.errstate(over="ignore"):
                return np.asarray(np.expm1(coordinates[:, 0] * ratio) / np.expm1(ratio))
        if isinstance(p, Choice):
            values = self._values[p.positions(coordinates)]
        else:
            values = p.numbers(coordinates)
        return np.asarray((values - self.low) / self.span)

    def relaxed(self, coordinates: Array) -> Array:
        """Return the scaled values ``(n,)`` of unit coordinates that are not rounded."""
        p = self.parameter
        if self.plain or isinstance(p, Choice) or (p.continuous and p.log):
            return self.read(coordinates)
        low, high = p.edges()
        value = low + coordinates[:, 0] * (high - low)
        value = np.exp(value) if p.log else value
        return np.asarray(np.clip((value - self.low) / self.span, 0.0, 1.0))

    def write(self, scaled: Array) -> Array:
        """Return the unit coordinates ``(n, w)`` of the values nearest to scaled ones ``(n,)``."""
        if self.plain:
            return scaled[:, None]
        p = self.parameter
        if isinstance(p, Choice):
            near = np.abs(self.low + scaled[:, None] * self.span - self._values).argmin(axis=1)
            return p.codes(near)
        if isinstance(p, Float) and not self.discrete:
            ratio = np.log(p.high / p.low)
            unit = np.clip(np.log1p(scaled * np.expm1(ratio)) / ratio, 0.0, 1.0)
            return np.asarray(unit[:, None])
        value = np.clip(self.low + scaled * self.span, p.low, p.high)
        if isinstance(p, Float):
            low, high = p.edges()
            unit = ((np.log(value) if p.log else value) - low) / (high - low)
            return p.project(unit[:, None])
        return p.coordinates(np.rint(value))

    def slope(self, coordinates: Array) -> Array:
        """Return the derivatives ``du/dw`` ``(n,)`` at unit coordinates ``(n,)`` of a float."""
        p = self.parameter
        if self.plain or not isinstance(p, Float):
            return np.ones(len(coordinates))
        ratio = np.log(p.high / p.low)
        return np.asarray(np.expm1(ratio) / (ratio * np.exp(coordinates * ratio)))

    def neighbour(self, scaled: Array, step: int) -> Array:
        """Return the scaled values ``(n,)`` of the next value of a discrete parameter.

        Args:
            scaled: scaled values, shape ``(n,)``.
            step: 1 for the next larger value, -1 for the next smaller one.
        """
        p = self.parameter
        if isinstance(p, Choice):
            values = (np.sort(self._values) - self.low) / self.span
            near = np.abs(scaled[:, None] - values).argmin(axis=1)
            return np.asarray(values[np.clip(near + step, 0, len(values) - 1)])
        gap = 1.0 / (p.levels - 1)
        return np.clip(scaled + step * gap, 0.0, 1.0)


def value_axis(parameters: Mapping[str, Parameter], columns: slice, name: str) -> ValueAxis:
    """Return the scaled values of a parameter.

    Raises:
        InvalidInputError: its values are texts.
    """
    parameter = parameters[name]
    assert not isinstance(parameter, Fixed)  # constants are part of the bounds
    if isinstance(parameter, Choice) and any(isinstance(value, str) for value in parameter.values):
        raise InvalidInputError(
            f"Box: a linear constraint needs numbers, and parameter {name!r} has the values "
            f"{list(parameter.values)}. Write Feasible(fn) with a function of the designs"
        )
    return ValueAxis(name, parameter, columns)


def discrete_mask(axes: list[ValueAxis]) -> Mask:
    """Return the mask ``(q,)`` of parameters with finitely many values."""
    return np.array([axis.discrete for axis in axes], dtype=bool)
