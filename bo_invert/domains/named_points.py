"""Points of named values, and named values of points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.conditions import (
    active_rows,
    default_point,
    has_conditions,
    inactive_coordinates,
)
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.measured_values import decode_measured, read_measured
from bo_invert.domains.parameters import Parameter
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array
from bo_invert.user_data import missing
from bo_invert.user_tables import length, record, require_names, table, without_names


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
    varied = [(p, place) for p, place in zip(parameters.values(), columns, strict=True) if p.width]
    for column, (parameter, place) in zip(u.T, varied, strict=True):
        if parameter.width == 1:
            points[:, place.start] = column
        else:
            value = np.minimum((column * parameter.width).astype(int), parameter.width - 1)
            points[np.arange(len(u)), place.start + value] = 1.0
    return points


def decode_columns(
    parameters: Mapping[str, Parameter], points: Array, measured: bool = False
) -> dict[str, list[Any]]:
    """Decode points ``(n, d)`` to n values of each parameter, also of inactive ones.

    Args:
        parameters: parameters by name.
        points: points ``(n, d)``.
        measured: values between the steps of a parameter stay as they are.
    """
    columns = parameter_columns(parameters)
    if measured:
        return {
            name: decode_measured(p, points[:, columns[name]]) for name, p in parameters.items()
        }
    return {name: p.decode(points[:, columns[name]]) for name, p in parameters.items()}


def decode_named(
    parameters: Mapping[str, Parameter], points: Array, measured: bool = False
) -> list[dict[str, Any]]:
    """Decode points ``(n, d)`` to named values of the active parameters; see ``decode_columns``."""
    decoded = decode_columns(parameters, points, measured)
    rows = [{name: column[i] for name, column in decoded.items()} for i in range(len(points))]
    if not has_conditions(parameters):
        return rows
    active = active_rows(parameters, decoded)
    return [
        {name: value for name, value in row.items() if name not in active or active[name][i]}
        for i, row in enumerate(rows)
    ]


def project_named(
    parameters: Mapping[str, Parameter], points: Array, measured: bool = False
) -> Array:
    """Return the nearest points ``(n, d)`` of levels; inactive parameters have their default.

    Args:
        parameters: parameters by name.
        points: points ``(n, d)``.
        measured: values between the steps of a parameter stay as they are.
    """
    if measured:
        levels = coordinates(parameters, decode_columns(parameters, points, measured))
    else:
        columns = parameter_columns(parameters)
        parts = [one.project(points[:, columns[name]]) for name, one in parameters.items()]
        levels = np.concatenate(parts, axis=1)
    if not has_conditions(parameters):
        return levels
    inactive = inactive_coordinates(parameters, levels)
    return np.where(inactive, default_point(parameters), levels)


def encode_named(parameters: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]) -> Array:
    """Encode named values as points ``(n, d)``; steps do not bind values of the user.

    Raises:
        InvalidInputError: a name is missing or unknown, or a value is out of range.
    """
    rows = read_named(parameters, values)
    if not has_conditions(parameters):
        return coordinates(parameters, {name: [row[name] for row in rows] for name in parameters})
    points = np.tile(default_point(parameters), (len(rows), 1))
    columns = parameter_columns(parameters)
    for name, one in parameters.items():
        active = [i for i, row in enumerate(rows) if name in row]
        if active:
            points[active, columns[name]] = one.coordinates([rows[i][name] for i in active])
    return points


def coordinates(parameters: Mapping[str, Parameter], columns: Mapping[str, Sequence[Any]]) -> Array:
    """Return the points ``(n, d)`` of columns of values that parameters have read."""
    return np.concatenate(
        [one.coordinates(columns[name]) for name, one in parameters.items()], axis=1
    )


def nearest_point(parameters: Mapping[str, Parameter], named: Mapping[str, Any]) -> Array:
    """Return the point ``(d,)`` of the values nearest to given ones; inactive ones may be missing.

    Other optimisers return values with rounding errors.
    """
    parts = [
        np.full(one.width, 0.5)
        if name not in named and (one.when or not one.width)
        else one.coordinates([one.nearest(named[name])])[0]
        for name, one in parameters.items()
    ]
    return np.concatenate(parts)


def read_named(
    parameters: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return named values of the user as values of the parameters, in their order.

    Values of inactive parameters do not matter and are left out. Those of ``Fixed`` ones may be
    missing.

    Raises:
        InvalidInputError: a name is missing or unknown, or a value is out of range.
    """
    constants = {name: one.value for name, one in parameters.items() if isinstance(one, Fixed)}
    if constants:
        values = [{**constants, **row} for row in values]
    if has_conditions(parameters):
        return [_read_active(parameters, row) for row in values]
    for row in values:
        require_names("parameters", parameters, row)
    columns = {
        name: _read(name, one, [row[name] for row in values]) for name, one in parameters.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _read_active(parameters: Mapping[str, Parameter], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the active parameters of a design."""
    found: dict[str, Any] = {}

    def active(name: str) -> bool:
        """Return True for an active parameter, after the values that decide on it are read."""
        return all(
            active(one.parameter) and value(one.parameter) in one.values
            for one in parameters[name].when
        )

    def value(name: str) -> object:
        if name not in found:
            if name not in row or missing(row[name]):
                belongs = " and ".join(map(str, parameters[name].when))
                raise InvalidInputError(
                    f"parameters: {name!r} is missing"
                    + (f", which belongs to {belongs}" if belongs else "")
                    + f"; got {dict(row)!r:.200}"
                )
            (found[name],) = _read(name, parameters[name], [row[name]])
        return found[name]

    unknown = sorted(set(map(str, row)) - set(parameters))
    if unknown:
        raise InvalidInputError(f"parameters: names must be of {list(parameters)}, got {unknown}")
    return {name: value(name) for name in parameters if active(name)}


def _read(name: str, parameter: Parameter, values: Sequence[object]) -> Sequence[Any]:
    try:
        return read_measured(parameter, values)
    except InvalidInputError as error:
        raise InvalidInputError(f"parameter {name!r}: {error}") from None


def named_rows(
    parameters: Mapping[str, Parameter], designs: object, vectors: bool
) -> list[dict[str, Any]]:
    """Return designs of the user as named values: records by name, vectors by position.

    Args:
        parameters: parameters of the designs.
        designs: n records, a table of n rows, or an array ``(n, p)``.
        vectors: vectors are designs, too.

    Raises:
        InvalidInputError: a name is missing or unknown, or an array has another shape.
    """
    named = _records(designs) if has_conditions(parameters) else None
    named = table(designs) if named is None else named
    if named is not None:
        return named
    listed = without_names(designs)
    if type(listed) is np.ndarray and listed.dtype == np.float64 and listed.ndim == 2:
        listed = listed.tolist()  # numbers of Python are read faster
    ordered = isinstance(listed, Iterable) and not isinstance(listed, Set)
    rows: list[Any] = list(cast("Iterable[Any]", listed)) if ordered else [listed]
    if not vectors:
        raise InvalidInputError(f"Box: designs must be dicts with the keys {list(parameters)}")
    for row in rows:
        if length(row) != len(parameters):
            raise InvalidInputError(
                f"Box: designs must have shape (n, {len(parameters)}), got {_shape(designs)}"
            )
    return [dict(zip(parameters, row, strict=True)) for row in rows]


def _records(designs: object) -> list[dict[str, Any]] | None:
    """Return records whose names may differ; None for designs of another kind."""
    if isinstance(designs, Mapping) or hasattr(designs, "columns"):
        return None
    rows = [record(row) for row in designs] if isinstance(designs, Iterable) else [None]
    named = [row for row in rows if row is not None]
    return named if rows and len(named) == len(rows) else None


def _shape(designs: object) -> object:
    try:
        return np.shape(cast("ArrayLike", designs))
    except ValueError:  # rows of different lengths
        return "rows of different lengths"
