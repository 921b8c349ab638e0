"""Conditional parameters: parameters that exist only for some values of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameter_conditions import Condition
from bo_invert.domains.parameters import Choice, Float, Int, Parameter, Value
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array
from bo_invert.user_tables import record

Masks = dict[str, NDArray[np.bool_]]
"""Rows ``(n,)`` in which each conditional parameter is active."""
# Combinations of values (count) that are listed at most. Engineering choice: takes 0.1 s.
_MAX_COMBINATIONS = 100_000


@dataclass(frozen=True, init=False)
class When:
    """Parameters that exist only for some values of another parameter.

    ``When("solver", "sgd", {"momentum": Float(0, 1)})`` adds a momentum to designs with the solver
    ``"sgd"``. Other designs have no key ``"momentum"``. Inside of another ``When``, both conditions
    must hold.

    Args:
        parameter: name of the other parameter: a ``Choice``, an ``Int`` or a ``Float`` with a step.
        values: one of its values, or a list of several.
        parameters: conditional parameters by name, or a single parameter in
            ``{"momentum": When("solver", "sgd", Float(0, 1))}``.

    Raises:
        InvalidInputError: there are no values or no parameters.
    """

    parameter: str
    values: tuple[Any, ...]
    parameters: Any

    def __init__(self, parameter: str, values: object, parameters: object) -> None:
        if not isinstance(parameter, str):
            raise InvalidInputError(
                f"When: parameter must be the name of another parameter, got {parameter!r:.200}"
            )
        several = isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping))
        listed: tuple[Any, ...] = tuple(values) if several else (values,)  # type: ignore[arg-type]
        single = isinstance(parameters, (Float, Int, Choice, Fixed, When, tuple))
        named = None if single else record(parameters)
        if not listed or not (single or named):
            raise InvalidInputError(
                f"When({parameter!r}): at least one value and one parameter are required, got "
                f"{values!r:.200} and {parameters!r:.200}. Write "
                "When('solver', 'sgd', {'momentum': Float(0, 1)})."
            )
        vars(self).update(
            parameter=parameter, values=listed, parameters=parameters if single else named
        )


def flattened(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return declared parameters with those of each ``When`` in its place, with their conditions.

    The name of a group, such as ``"options"`` in ``{"options": When(...)}``, is not used.

    Raises:
        InvalidInputError: a name is declared twice, or a conditional parameter is of no known type.
    """
    found: dict[str, Any] = {}
    for name, one in _flat(declared, ()):
        if name in found:
            raise InvalidInputError(
                f"Box: parameter {name!r} is declared twice. Use different names, or one When with "
                "the list of all values."
            )
        found[name] = one
    return found


def _flat(
    declared: Mapping[str, Any], conditions: tuple[Condition, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield names and parameters under conditions, groups in their places."""
    for name, one in declared.items():
        if isinstance(one, When):
            group = one.parameters if isinstance(one.parameters, dict) else {name: one.parameters}
            yield from _flat(group, (*conditions, Condition(one.parameter, one.values)))
        else:
            yield name, _conditional(name, one, conditions) if conditions else one


def _conditional(name: str, one: object, conditions: tuple[Condition, ...]) -> Parameter:
    if isinstance(one, (Float, Int, Choice, Fixed)):
        return one.under(conditions)
    try:
        low, high = cast("tuple[float, float]", one)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"When({conditions[-1].parameter!r}): parameter {name!r} must be Float, Int, Choice, "
            f"When or (low, high), got {one!r:.200}"
        ) from None
    return Float(low, high, when=conditions)


def checked_conditions(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return parameters with conditions on values as the other parameters have them.

    Raises:
        InvalidInputError: a condition names no discrete parameter, a value is not one of it, or
            conditions depend on each other in a circle.
    """
    found = {
        name: one.under(tuple(_checked(parameters, name, condition) for condition in one.when))
        if one.when
        else one
        for name, one in parameters.items()
    }
    for name in found:
        _require_no_circle(found, name, ())
    return found


def _checked(parameters: Mapping[str, Parameter], name: str, condition: Condition) -> Condition:
    where = f"When({condition.parameter!r}) of parameter {name!r}"
    other = parameters.get(condition.parameter)
    if other is None:
        raise InvalidInputError(
            f"{where}: there is no parameter {condition.parameter!r}, only {list(parameters)}"
        )
    if other.continuous:
        raise InvalidInputError(
            f"{where}: {condition.parameter!r} must be a Choice, an Int or a Float with a step, "
            f"got {other!r}"
        )
    try:
        values = tuple(other.read(value) for value in condition.values)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None
    return Condition(condition.parameter, values)


def _require_no_circle(
    parameters: Mapping[str, Parameter], name: str, path: tuple[str, ...]
) -> None:
    if name in path:
        raise InvalidInputError(
            f"When: parameter {name!r} depends on itself, by {' -> '.join((*path, name))}. Remove "
            "one of the conditions."
        )
    for condition in parameters[name].when:
        _require_no_circle(parameters, condition.parameter, (*path, name))


def with_deciding_values(
    parameters: Mapping[str, Parameter], fixed: Mapping[str, Value]
) -> dict[str, Value]:
    """Return fixed values with those under which the fixed parameters exist.

    Raises:
        InvalidInputError: a parameter does not exist for the other values, or exists for several.
    """
    found = dict(fixed)
    for name in fixed:
        for deciding in (name, *_deciding(parameters, name)):
            for condition in parameters[deciding].when:
                value = found.get(condition.parameter)
                if value is None and len(condition.values) == 1:
                    found[condition.parameter] = condition.values[0]
                elif value not in condition.values:
                    raise InvalidInputError(
                        f"ask: fixed value of {name!r}: the parameter exists only if {condition}. "
                        f"Fix {condition.parameter!r} to such a value, too."
                    )
    return {name: found[name] for name in parameters if name in found}


def values_of_existence(
    parameters: Mapping[str, Parameter], names: Iterable[str]
) -> dict[str, tuple[Value, ...]]:
    """Return the values of deciding parameters for which all named parameters exist."""
    found: dict[str, tuple[Value, ...]] = {}
    for name in names:
        for one in (name, *_deciding(parameters, name)):
            for condition in parameters[one].when:
                known = found.get(condition.parameter, condition.values)
                both = tuple(value for value in known if value in condition.values)
                found[condition.parameter] = both
    return found


def _deciding(parameters: Mapping[str, Parameter], name: str) -> Iterator[str]:
    """Yield the parameters in the conditions of a parameter, and in the conditions of these."""
    for condition in parameters[name].when:
        yield condition.parameter
        yield from _deciding(parameters, condition.parameter)


def has_conditions(parameters: Mapping[str, Parameter]) -> bool:
    """Return True if some parameter is conditional."""
    return any(one.when for one in parameters.values())


def active_rows(parameters: Mapping[str, Parameter], columns: Mapping[str, Sequence[Any]]) -> Masks:
    """Return the rows ``(n,)`` in which each conditional parameter is active.

    A parameter is active where all parameters in its conditions are active and have one of the
    values.

    Args:
        parameters: parameters by name.
        columns: n values of each parameter in a condition, also of inactive ones.
    """
    found: Masks = {}

    def mask(name: str) -> NDArray[np.bool_]:
        if name not in found:
            rows = np.ones(1, dtype=bool)
            for condition in parameters[name].when:
                other = columns[condition.parameter]
                matching = np.array([value in condition.values for value in other], dtype=bool)
                rows = rows & matching & mask(condition.parameter)
            found[name] = rows
        return found[name]

    return {name: mask(name) for name, one in parameters.items() if one.when}


def inactive_coordinates(parameters: Mapping[str, Parameter], points: Array) -> NDArray[np.bool_]:
    """Return a mask ``(n, d)`` of the coordinates of inactive parameters of points ``(n, d)``."""
    ends = accumulate(one.width for one in parameters.values())
    places = {
        name: slice(end - one.width, end)
        for (name, one), end in zip(parameters.items(), ends, strict=True)
    }
    deciding = {condition.parameter for one in parameters.values() for condition in one.when}
    columns = {name: parameters[name].decode(points[:, places[name]]) for name in deciding}
    inactive = np.zeros(points.shape, dtype=bool)
    for name, active in active_rows(parameters, columns).items():
        inactive[:, places[name]] = ~active[:, None]
    return inactive


def default_point(parameters: Mapping[str, Parameter]) -> Array:
    """Return the coordinates ``(d,)`` that stand for inactive parameters: the middle of each.

    Models and comparisons see equal coordinates wherever a parameter is inactive, so that its value
    does not matter (imputation: Levesque et al. 2017, "Bayesian optimization for conditional
    hyperparameter spaces").
    """
    parts = [one.project(np.full((1, one.width), 0.5))[0] for one in parameters.values()]
    return np.concatenate(parts)


def design_count(parameters: Mapping[str, Parameter]) -> float:
    """Return the number of different designs of discrete parameters.

    Of too many combinations of the deciding parameters, it is an upper bound: all values of all
    parameters.
    """
    deciding = [
        name
        for name in parameters
        if any(name == condition.parameter for one in parameters.values() for condition in one.when)
    ]
    combinations = math.prod(parameters[name].levels for name in deciding)
    if not deciding or combinations > _MAX_COMBINATIONS:
        return float(math.prod(one.levels for one in parameters.values()))
    rows = list(product(*(all_values(parameters[name]) for name in deciding)))
    columns = dict(zip(deciding, zip(*rows, strict=True), strict=True))
    active = active_rows(parameters, columns)
    seen: dict[tuple[Any, ...], float] = {}
    for i, row in enumerate(rows):
        here = [name for name in parameters if name not in active or active[name][i]]
        values = tuple(v if n in here else None for n, v in zip(deciding, row, strict=True))
        seen[values] = math.prod(parameters[n].levels for n in here if n not in deciding)
    return float(sum(seen.values()))


def all_values(parameter: Parameter) -> Sequence[Any]:
    """Return all values of a discrete parameter, in order."""
    if isinstance(parameter, Choice):
        return parameter.values
    if isinstance(parameter, Fixed):
        return (parameter.value,)
    if isinstance(parameter, Int):
        return range(parameter.low, parameter.high + 1)
    assert parameter.grid is not None  # real numbers cannot be listed
    return parameter.grid
