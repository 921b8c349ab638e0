"""Data of a box: reading, checks, bounds, digest, and the points of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.conditions import Masks, active_rows
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Float, Int, Parameter
from bo_invert.errors import InvalidInputError, warn_user
from bo_invert.types import Array, Designs
from bo_invert.user_data import missing, number, numbers
from bo_invert.user_tables import columns as columns_of, read_once, without_names

Columns = dict[str, Any]
"""Columns of data by name; each has one value per row."""

# Least number of rows. Engineering choice: with fewer, a rank among held-out rows has steps of more
# than 10 %.
MIN_ROWS = 10
# Rows that are encoded. Engineering choice: encoding is slow in Python; the fit needs fewer rows.
_ENCODED_ROWS = 5000
# Distance of a value from a bound that is rounding, in units of the range. Engineering choice: data
# in single precision have bounds in double precision.
_ROUNDING = 1e-6


def read_columns(data: Designs, names: Sequence[str] | None) -> Columns:
    """Return the columns of data.

    Args:
        data: real designs: an array ``(n, d)``, a data frame, or a list of n dicts.
        names: expected names; None for those of a data frame, or ``x0, x1, ...``.

    Raises:
        InvalidInputError: the data are not a table, have other columns, or too few rows.
    """
    if isinstance(data, (str, bytes)) or hasattr(data, "__fspath__"):
        raise InvalidInputError(
            f"Box: data must be an array (n, d), a data frame or a list of dicts, got {data!r}. "
            "Load the file first, for example with numpy.loadtxt or pandas.read_csv."
        )
    data = read_once(data)
    found = columns_of(data)
    if found is not None:
        columns: Columns = dict(found)
    elif hasattr(data, "iloc") and names is None:
        columns = {str(name): data[name].to_numpy() for name in data.columns}
    else:
        columns = _columns_of_array(without_names(data), names)
    if names is not None and set(columns) != set(names):
        missing, unknown = set(names) - set(columns), set(columns) - set(names)
        raise InvalidInputError(
            f"Box: columns of data must be {list(names)}, got missing {sorted(missing)}, unknown "
            f"{sorted(unknown)}. Select the inputs of the oracle, without its outputs."
        )
    columns = {name: columns[name] for name in names or columns}
    count = len(next(iter(columns.values()), ()))
    if count < MIN_ROWS:
        raise InvalidInputError(
            f"Box: data must have at least {MIN_ROWS} rows, got {count}. Omit data to search the "
            "box uniformly."
        )
    return columns


def _columns_of_array(data: Designs, names: Sequence[str] | None) -> Columns:
    try:
        array = numbers(data)
    except TypeError:  # text, or rows of different lengths
        try:
            array = np.asarray(data)
        except ValueError:
            array = np.empty(0, dtype=object)
    if array.ndim != 2 or (names is not None and array.shape[1] != len(names)):
        width = "d" if names is None else len(names)
        got = f"shape {array.shape}" if array.size else f"{type(data).__name__} of {len(data)}"
        raise InvalidInputError(
            f"Box: data must have shape (n, {width}), one column for each input, got {got}"
        )
    return {
        name: array[:, j]
        for j, name in enumerate(names or [f"x{i}" for i in range(array.shape[1])])
    }


def bounds_of(columns: Columns, *given: ArrayLike | None) -> tuple[ArrayLike, ArrayLike]:
    """Return lower and upper bounds, ``given`` or those of the data, shape ``(d,)``."""
    for bound in given:
        size = len(columns) if bound is None else np.size(bound)
        if size != len(columns):
            raise InvalidInputError(
                f"Box: data must have shape (n, {size}), one column for each bound, got "
                f"{len(columns)} columns"
            )
    table = [_numbers(name, values) for name, values in columns.items()]
    for name, values in zip(columns, table, strict=True):
        if np.ptp(values) == 0.0 and any(bound is None for bound in given):
            raise InvalidInputError(
                f"Box: column {name!r} of data must have two different values, got only "
                f"{values[0]:.6g}. The data do not show the effect of this input: remove it from "
                "the box and set it to this value in the oracle, or pass lower and upper."
            )
    known = (np.min(table, axis=1), np.max(table, axis=1))
    lower, upper = (
        own if bound is None else bound for own, bound in zip(known, given, strict=True)
    )
    return lower, upper


def checked(columns: Columns, parameters: Mapping[str, Parameter]) -> tuple[Columns, str]:
    """Check columns against the parameters of a box; return them and their digest.

    A warning names columns of one value.

    Raises:
        InvalidInputError: a value is not one of its parameter.
    """
    found: Columns = {}
    total = hashlib.sha256()
    constant = []
    columns, empty = _filled(columns, parameters)
    for name, parameter in parameters.items():
        if isinstance(parameter, Fixed):
            found[name] = [parameter.value] * len(columns[name])
            continue
        if isinstance(parameter, Choice):
            found[name], numbers = _choices(name, columns[name], parameter)
        else:
            found[name] = numbers = _in_range(name, _numbers(name, columns[name]), parameter)
        if np.ptp(numbers) == 0.0:
            constant.append(name)
        total.update(np.asarray(numbers, dtype="<f8").tobytes())
    for name, active in active_rows(parameters, found).items():
        if (active & empty[name]).any():
            row = int(np.flatnonzero(active & empty[name])[0])
            conditions = " and ".join(map(str, parameters[name].when))
            raise InvalidInputError(
                f"Box: column {name!r} of data is empty in row {row}, where {conditions}. Enter "
                "its value, or remove the row."
            )
    if constant:
        warn_user(
            f"Box: all rows of data have the same value of {', '.join(map(repr, constant))}. Other "
            "values are implausible, so a search hardly changes these inputs.",
        )
    return found, total.hexdigest()


def _filled(columns: Columns, parameters: Mapping[str, Parameter]) -> tuple[Columns, Masks]:
    """Fill empty cells of conditional parameters with a value; return columns and empty cells."""
    filled, empty = dict(columns), {}
    for name, parameter in parameters.items():
        if parameter.when:
            empty[name] = np.array([missing(value) for value in columns[name]], dtype=bool)
            (value,) = parameter.decode(np.full((1, parameter.width), 0.5))
            cells = zip(columns[name], empty[name], strict=True)
            filled[name] = [value if none else one for one, none in cells]
    return filled, empty


def some_rows(columns: Columns, seed: int = 0) -> Columns:
    """Return the columns of at most ``_ENCODED_ROWS`` rows, which are drawn if there are more."""
    count = len(next(iter(columns.values())))
    if count <= _ENCODED_ROWS:
        return columns
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    chosen = np.sort(rng.choice(count, _ENCODED_ROWS, replace=False))
    return {
        name: values[chosen] if isinstance(values, np.ndarray) else [values[i] for i in chosen]
        for name, values in columns.items()
    }


def _numbers(name: str, values: Sequence[object] | Array) -> Array:
    try:
        array = numbers(values)
    except TypeError:
        wrong = next((value for value in values if not _is_number(value)), values)
        raise InvalidInputError(
            f"Box: column {name!r} of data must hold numbers, got {_shown(wrong)}. Declare "
            f"categories: Box({{{name!r}: Choice(...), ...}}, data=...)."
        ) from None
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidInputError(
            f"Box: column {name!r} of data must be finite, got {array[row]} in row {row}. Remove "
            "or impute rows with missing values."
        )
    return np.asarray(array)


def _shown(value: object) -> str:
    """Return a value without the name of its numpy type."""
    return repr(np.asarray(value).item()) if isinstance(value, np.generic) else repr(value)


def _is_number(value: object) -> bool:
    try:
        number(value)
    except TypeError:
        return False
    return True


def _in_range(name: str, values: Array, parameter: Parameter) -> Array:
    assert not isinstance(parameter, (Choice, Fixed))
    margin = _ROUNDING * (parameter.high - parameter.low)
    outside = (values < parameter.low - margin) | (values > parameter.high + margin)
    if isinstance(parameter, Int):
        outside |= values != np.rint(values)
    if isinstance(parameter, Float) and parameter.grid is not None:
        # Steps bind proposals, not data; values next to a step are rounding.
        levels = np.array(parameter.grid.values(parameter.grid.positions(values)))
        values = np.where(np.abs(values - levels) > _ROUNDING * parameter.grid.step, values, levels)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        kind = "whole numbers" if isinstance(parameter, Int) else "values"
        raise InvalidInputError(
            f"Box: column {name!r} of data must hold {kind} in [{parameter.low}, "
            f"{parameter.high}], got {values[row]:.6g} in row {row} ({int(outside.sum())} of "
            f"{len(values)} rows). Widen the bounds, or remove these rows."
        )
    return np.clip(values, parameter.low, parameter.high)


def _choices(name: str, values: Sequence[Hashable], parameter: Choice) -> tuple[list[Any], Array]:
    """Return the values of a choice and their positions."""
    known = {value: (i, value) for i, value in enumerate(parameter.values)}
    try:
        pairs = [known[parameter.read(value)] for value in values]
    except InvalidInputError:
        wrong = [v for v in values if v.__hash__ is None or v not in known]
        raise InvalidInputError(
            f"Box: column {name!r} of data must hold values of {list(parameter.values)}, got "
            f"{_shown(wrong[0])} ({len(wrong)} of {len(values)} rows). Add the value to the "
            "Choice, or remove these rows."
        ) from None
    return [value for _, value in pairs], np.array([i for i, _ in pairs], dtype=np.float64)
