"""Points of named values, and named values of points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.parameters import Parameter
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array
from bo_invert.user_tables import length, require_names, table, without_names


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
    rows = read_named(parameters, values)
    return coordinates(parameters, {name: [row[name] for row in rows] for name in parameters})


def coordinates(parameters: Mapping[str, Parameter], columns: Mapping[str, Sequence[Any]]) -> Array:
    """Return the points ``(n, d)`` of columns of values that parameters have read."""
    return np.concatenate(
        [one.coordinates(columns[name]) for name, one in parameters.items()], axis=1
    )


def read_named(
    parameters: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return named values of the user as values of the parameters, in their order.

    Raises:
        InvalidInputError: a name is missing or unknown, or a value is out of range.
    """
    for row in values:
        require_names("parameters", parameters, row)
    columns = {
        name: _read(name, one, [row[name] for row in values]) for name, one in parameters.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _read(name: str, parameter: Parameter, values: Sequence[object]) -> Sequence[Any]:
    try:
        return parameter.read_all(values)
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
    named = table(designs)
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


def _shape(designs: object) -> object:
    try:
        return np.shape(cast("ArrayLike", designs))
    except ValueError:  # rows of different lengths
        return "rows of different lengths"
