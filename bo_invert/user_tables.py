"""Names, records and tables in data of the user, read at one place.

A *record* is a set of values with names: a mapping, a row of a data frame, a namedtuple, a
dataclass. A *table* is a sequence of records, or columns with names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError


def record(given: object) -> dict[str, Any] | None:
    """Return the values of a record by name; None for data without names.

    A pandas Series has names if labels of its index are strings or tuples, a data frame of one row
    if its columns have names.

    Raises:
        InvalidInputError: a name occurs twice.
    """
    plain = type(given) is np.ndarray and given.dtype.names is None
    if given is None or plain or isinstance(given, (str, bytes, bool, int, float, list)):
        return None
    value: Any = _native(given)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        return None if names is None else _named(names, value)
    if isinstance(value, (np.void, np.ndarray)):
        if value.dtype.names is None or value.size != 1:
            return None
        row = value if isinstance(value, np.void) else value.reshape(-1)[0]
        return {name: row[name] for name in value.dtype.names}
    labels = getattr(value, "index", None)
    if hasattr(value, "iloc") and getattr(value, "ndim", 0) == 1 and labels is not None:
        named = any(isinstance(label, (str, tuple)) for label in labels)
        return _named(labels, [value.iloc[i] for i in range(len(labels))]) if named else None
    if hasattr(value, "columns") and len(value) == 1:
        found = columns(value)
        return None if found is None else {name: column[0] for name, column in found.items()}
    return None


def _native(given: object) -> object:
    """Return records of other packages as dicts, and tables of some as lists or data frames."""
    value: Any = given
    if isinstance(value, (Mapping, tuple, np.ndarray, np.generic)) or hasattr(value, "iloc"):
        return value
    if isinstance(value, SimpleNamespace):
        return dict(vars(value))
    kind = type(value)
    # Fields of pydantic and of msgspec.
    declared = getattr(kind, "model_fields", None) or getattr(kind, "__struct_fields__", None)
    if declared is None and is_dataclass(value) and not isinstance(value, type):
        declared = [one.name for one in fields(value)]
    if declared is None and hasattr(kind, "__attrs_attrs__"):
        declared = [one.name for one in kind.__attrs_attrs__]
    if declared is not None:
        return {name: getattr(value, name) for name in declared}
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # sqlite3.Row, ParameterDict
        return {name: value[name] for name in value.keys()}  # noqa: SIM118  # no mapping
    if hasattr(value, "to_series") and hasattr(value, "coords"):  # xarray
        return value.to_pandas() if value.ndim in (1, 2) else value
    if hasattr(value, "collect_schema") and not hasattr(value, "get_column"):  # polars, lazy
        return value.collect()
    if hasattr(value, "to_pylist") and not hasattr(value, "column_names"):  # pyarrow array
        return value.to_pylist()
    if hasattr(value, "struct") and hasattr(value, "to_list"):  # polars series
        return value.to_list()
    return value


def columns(given: object) -> dict[str, Sequence[Any]] | None:
    """Return the columns of a table by name; None for data without names.

    Tables are data frames, structured arrays, mappings of columns of equal length, and sequences of
    records.

    Raises:
        InvalidInputError: a name occurs twice, or records have different names.
    """
    value: Any = _native(given)
    if isinstance(value, Mapping):
        aligned = _aligned(list(value.values()))
        found: dict[str, Any] = {
            str(name): _column(one) for name, one in zip(value, aligned, strict=True)
        }
        sizes = {length(column) for column in found.values()}
        return found if len(sizes) == 1 and None not in sizes else None
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        flat = np.atleast_1d(value)
        return {name: flat[name] for name in value.dtype.names}
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # pandas
        labels = list(value.columns)
        if labels == list(range(len(labels))):
            return None
        series = [value.iloc[:, i] for i in range(len(labels))]
        return _named(labels, [one.to_numpy() for one in series])
    if hasattr(value, "columns") and hasattr(value, "get_column"):  # polars
        return {str(name): value.get_column(name).to_list() for name in value.columns}
    if hasattr(value, "column_names") and hasattr(value, "to_pydict"):  # pyarrow
        return dict(value.to_pydict())
    objects = getattr(getattr(value, "dtype", None), "kind", "") == "O" and value.ndim == 1
    if (
        not (objects or isinstance(value, (list, tuple, deque, ValuesView)))
        or hasattr(value, "_fields")
        or not len(value)
    ):
        return None
    rows = [record(row) for row in value]
    if all(row is None for row in rows):
        return None
    first = rows[0] or {}
    for position, row in enumerate(rows):
        if row is None or set(row) != set(first):
            given = "a row without names" if row is None else sorted(row)
            raise InvalidInputError(
                f"table: rows must have equal names, got {given} in row {position} and "
                f"{sorted(first)} in row 0"
            )
    return {name: [row[name] for row in rows if row is not None] for name in first}


def table(value: object) -> list[dict[str, Any]] | None:
    """Return the rows of a table as records; None for data without names; see ``columns``."""
    found = columns(value)
    if found is None:
        return None
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _aligned(given: list[Any]) -> list[Any]:
    """Return columns, pandas Series in the order of the row labels of the first one.

    Raises:
        InvalidInputError: Series have different row labels, or repeated ones in different order.
    """
    labels = [row_labels(one) if getattr(one, "ndim", 0) == 1 else None for one in given]
    first = next((one for one in labels if one is not None), None)
    columns = list(given)
    for i, own in enumerate(labels):
        if own is None or own == first:
            continue
        if (
            first is None
            or len(set(first)) < len(first)
            or sorted(map(repr, own)) != sorted(map(repr, first))
        ):
            raise InvalidInputError(
                f"table: columns have different row labels, {first!r} and {own!r}. Write a data "
                "frame, or arrays without labels"
            )
        columns[i] = given[i].loc[first]
    return columns


def _column(value: object) -> object:
    """Return an array ``(n, 1)`` as ``(n,)``, such as an output of a network."""
    flat = hasattr(value, "reshape") and getattr(value, "shape", ())[1:] == (1,)
    return value.reshape(-1) if flat else value  # type: ignore[attr-defined]  # checked above


def read_once(value: object) -> object:
    """Return the items of an iterator as a list; other objects as they are."""
    return list(value) if isinstance(value, Iterator) else value


def without_names(value: object) -> object:
    """Return the values of a data frame without names as an array; other objects as they are."""
    frame = hasattr(value, "iloc") and getattr(value, "ndim", 1) == 2
    return np.asarray(value) if frame else value


def row_labels(value: object) -> list[Any] | None:
    """Return the row labels of a pandas object, or of a dict of Series; None without labels."""
    if isinstance(value, Mapping):
        return next((found for one in value.values() if (found := row_labels(one))), None)
    index = getattr(value, "index", None)
    return list(index) if hasattr(value, "iloc") and index is not None else None


def require_names(where: str, expected: Iterable[str], given: Iterable[str]) -> None:
    """Raise ``InvalidInputError`` unless two sets of names are equal; the message lists both."""
    wanted, found = list(expected), list(given)
    if set(wanted) != set(found):
        raise InvalidInputError(
            f"{where}: names must be {wanted}, got {found}: missing "
            f"{sorted(set(wanted) - set(found))}, unknown {sorted(set(found) - set(wanted))}. "
            "Rename them, or pass values without names"
        )


def _named(names: Iterable[Any], values: Iterable[Any]) -> dict[str, Any]:
    listed = [
        str(name[0] if isinstance(name, tuple) and len(name) == 1 else name) for name in names
    ]
    if len(set(listed)) != len(listed):
        twice = sorted({name for name in listed if listed.count(name) > 1})
        raise InvalidInputError(f"data: names must be different, got {twice} more than once")
    return dict(zip(listed, values, strict=True))


def length(value: object) -> int | None:
    """Return the length of a column; None for a scalar, text or an array of other dimensions."""
    if isinstance(value, (str, bytes, Mapping, Set)) or getattr(value, "ndim", 1) != 1:
        return None
    return len(value) if hasattr(value, "__len__") else None
