"""Points of a domain in which one or two parameters take the values of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bo_invert.domains.completions import complete
from bo_invert.domains.parameters import Choice, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.report.charts.study_data import coordinate
from bo_invert.types import Array, Mask

_MAX_LEVELS = 60
"""Largest number of integers with a point of the grid each. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Points of a grid.

    Args:
        points: valid points, shape ``(n, d)``.
        possible: False where the constraints on inputs exclude the values, shape ``(n,)``.
        exists: False where a conditional parameter does not exist, shape ``(n,)``.
    """

    points: Array
    possible: Mask
    exists: Mask


def grid_values(parameter: VariedParameter, count: int) -> list[Any]:
    """Return at most ``count`` values of a parameter, evenly on its scale; all of a choice."""
    if isinstance(parameter, Choice):
        return list(parameter.values)
    if isinstance(parameter, Int) and parameter.levels <= max(count, _MAX_LEVELS):
        return list(range(parameter.low, parameter.high + 1))
    steps = np.linspace(0.0, 1.0, count)[:, None]
    return list(dict.fromkeys(parameter.decode(steps)))


def grid_positions(parameter: VariedParameter, values: Sequence[Any]) -> Array:
    """Return the positions of values on the axis of a parameter, shape ``(k,)``."""
    return np.array([coordinate(parameter, value) for value in values])


def varied_columns(domain: Domain) -> dict[str, slice]:
    """Return the columns of the coordinates of each parameter that varies."""
    if not domain.parameters:
        return {name: slice(i, i + 1) for i, name in enumerate(domain.axes)}
    columns = domain.columns
    return {name: columns[name] for name in domain.axes}


def grid(domain: Domain, base: Array, named: Mapping[str, Sequence[Any]]) -> Grid:
    """Return all combinations of values as ``completed`` does; the last name varies fastest.

    Args:
        domain: search domain.
        base: point ``(d,)``.
        named: values by parameter.
    """
    rows = list(zip(*product(*named.values()), strict=True))
    return completed(domain, base, dict(zip(named, rows, strict=True)))


def completed(
    domain: Domain, base: Array, named: Mapping[str, Sequence[Any]], unmoved: Sequence[str] = ()
) -> Grid:
    """Return points with the given values, whose other parameters are those of a base point.

    The other parameters follow the constraints on inputs as in ``domains.completions``. A
    conditional parameter exists: the parameters that decide on it, unless they have given values
    themselves, take a value under which it does.

    Args:
        domain: search domain.
        base: point ``(d,)``.
        named: n values for each parameter.
        unmoved: parameters that do not follow the constraints.
    """
    columns = varied_columns(domain)
    start = np.asarray(base, dtype=float).copy()
    held = np.zeros(len(start), dtype=bool)
    for name in unmoved:
        held[columns[name]] = True
    for name, value in _deciding_values(domain, start, named).items():
        start[columns[name]] = domain.parameters[name].coordinates([value])[0]
        held[columns[name]] = True
    points = np.repeat(start[None], len(next(iter(named.values()))), axis=0)
    for name, values in named.items():
        listed = np.asarray(values, dtype=float)[:, None] if not domain.parameters else None
        points[:, columns[name]] = (
            domain.axes[name].coordinates(list(values)) if listed is None else listed
        )
        held[columns[name]] = True
    wanted = np.repeat(held[None], len(points), axis=0)
    exists = np.ones(len(points), dtype=bool)
    if domain.conditional:
        inactive = domain.inactive(points)
        exists = ~np.any([inactive[:, columns[name]].any(axis=1) for name in named], axis=0)
        wanted &= ~inactive
    found, done = complete(domain, points, wanted)
    return Grid(found, done & exists, exists)


def _deciding_values(
    domain: Domain, base: Array, named: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Return values of other parameters under which the parameters of a grid exist."""
    found: dict[str, Any] = {}
    present = domain.values(base[None])[0] if domain.conditional else {}
    waiting = [one for name in named if domain.parameters for one in domain.axes[name].when]
    while waiting:
        condition = waiting.pop()
        name = condition.parameter
        if name in named or name in found or not domain.parameters[name].width:
            continue
        known = present.get(name)
        found[name] = known if known in condition.values else condition.values[0]
        waiting += domain.parameters[name].when
    return found


def grid_conditions(domain: Domain, base: Array, names: Sequence[str]) -> list[str]:
    """Return texts of the values that other parameters take on a grid and not at its base."""
    if not domain.conditional:
        return []
    present = domain.values(np.asarray(base, dtype=float)[None])[0]
    decided = _deciding_values(domain, np.asarray(base, dtype=float), dict.fromkeys(names, ()))
    return [f"{name} = {value}" for name, value in decided.items() if present.get(name) != value]
