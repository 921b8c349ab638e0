"""Points of a domain in which one or two parameters take the values of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bo_invert.domains.parameters import Choice, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.report.charts.study_data import coordinate
from bo_invert.types import Array, Mask

_MAX_LEVELS = 60
"""Largest number of integers with a point of the grid each. Engineering choice."""
_MOVED = 1e-3
"""Largest change of a coordinate by a projection, in units of its range, at which a value counts
as possible. Engineering choice: below the width of a line."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Points of a grid.

    Args:
        points: valid points, shape ``(n, d)``.
        possible: False where the constraints on inputs exclude the values, shape ``(n,)``.
    """

    points: Array
    possible: Mask


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
    """Return all combinations of values, with the other parameters of a base point.

    Constraints on inputs may move the other parameters; a combination that they exclude is
    not possible.

    Args:
        domain: search domain.
        base: point ``(d,)``.
        named: values by parameter; the last one varies fastest.
    """
    columns = varied_columns(domain)
    parts = [
        domain.axes[name].coordinates(values) if domain.parameters else np.array(values)[:, None]
        for name, values in named.items()
    ]
    rows = list(product(*(range(len(values)) for values in named.values())))
    points = np.repeat(np.asarray(base, dtype=float)[None], len(rows), axis=0)
    wanted = points.copy()
    for k, (name, part) in enumerate(zip(named, parts, strict=True)):
        wanted[:, columns[name]] = part[[row[k] for row in rows]]
    points = np.asarray(domain.project(wanted))
    width = 1.0 if not domain.latent else 2.0 * domain.bounds[1, 0]
    change = [
        np.abs(points[:, columns[name]] - wanted[:, columns[name]]).max(axis=1) for name in named
    ]
    return Grid(points, np.max(change, axis=0) <= _MOVED * width)
