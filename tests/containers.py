"""Containers of values with names: records and tables of many packages.

Packages that are not installed are left out. All data hold the names in another order than the
problems of the tests, so that a match by position is seen.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
from collections import ChainMap, deque, namedtuple
from collections.abc import Callable
from contextlib import suppress
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pydantic
import torch

Values = dict[str, float]


def structured(values: Values) -> np.ndarray:
    """Return a structured array of one row."""
    return np.array([tuple(values.values())], dtype=[(name, "f8") for name in values])


def columns(rows: list[Values]) -> dict[str, list[float]]:
    """Return the columns of rows."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def sqlite_row(values: Values) -> Any:
    """Return a row of a query."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    selected = ", ".join(f"{value!r} AS {name}" for name, value in values.items())
    return connection.execute(f"SELECT {selected}").fetchone()


def labelled(values: Values, index: Any) -> Any:
    return pd.Series(list(values.values()), index=index)


RECORDS: dict[str, Callable[[Values], Any]] = {
    "dict": dict,
    "mapping": MappingProxyType,
    "chain": ChainMap,
    "series": pd.Series,
    "series of nullable numbers": lambda values: pd.Series(values, dtype="Float64"),
    "series, categories": lambda values: labelled(values, pd.CategoricalIndex(list(values))),
    "series, levels": lambda values: labelled(values, pd.MultiIndex.from_product([list(values)])),
    "row of a frame": lambda values: pd.DataFrame([values, values]).iloc[1],
    "frame of one row": lambda values: pd.DataFrame([values]),
    "namedtuple": lambda values: namedtuple("Row", values)(**values),
    "dataclass": lambda values: dataclasses.make_dataclass("Row", values, slots=True)(**values),
    "namespace": lambda values: SimpleNamespace(**values),
    "structured scalar": lambda values: structured(values)[0],
    "structured array": structured,
    "attrs": lambda values: attrs.make_class("Row", list(values))(**values),
    "pydantic": lambda values: pydantic.create_model("Row", **dict.fromkeys(values, (float, ...)))(
        **values
    ),
    "sqlite": sqlite_row,
    "parameters": lambda values: torch.nn.ParameterDict(
        {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    ),
}
_OWN_TABLES: dict[str, Callable[[list[Values]], Any]] = {
    "frame": pd.DataFrame,
    "frame of nullable numbers": lambda rows: pd.DataFrame(rows).astype("Float64"),
    "structured array": lambda rows: np.concatenate([structured(row) for row in rows]),
    "dict of columns": lambda rows: {
        name: np.array(column) for name, column in columns(rows).items()
    },
    "dict of columns (n, 1)": lambda rows: {
        name: torch.tensor(column, dtype=torch.float64)[:, None]
        for name, column in columns(rows).items()
    },
    "series of dicts": pd.Series,
    "array of dicts": lambda rows: np.array(rows, dtype=object),
    "queue": deque,
    "view": lambda rows: dict(enumerate(rows)).values(),
    "iterator": iter,
}
with suppress(ImportError):
    import msgspec

    RECORDS["msgspec"] = lambda values: msgspec.defstruct("Row", [(n, float) for n in values])(
        **values
    )
with suppress(ImportError):
    import polars

    RECORDS["polars frame"] = lambda values: polars.DataFrame([values])
    RECORDS["polars column"] = lambda values: polars.DataFrame([values]).to_struct("row")
    _OWN_TABLES["polars frame"] = polars.DataFrame
    _OWN_TABLES["polars, lazy"] = lambda rows: polars.DataFrame(rows).lazy()
    _OWN_TABLES["polars column"] = lambda rows: polars.DataFrame(rows).to_struct("row")
with suppress(ImportError):
    import pyarrow

    RECORDS["pyarrow scalar"] = pyarrow.scalar
    _OWN_TABLES["pyarrow table"] = lambda rows: pyarrow.table(columns(rows))
    _OWN_TABLES["pyarrow array"] = pyarrow.array
with suppress(ImportError):
    import xarray

    RECORDS["xarray set"] = xarray.Dataset
    RECORDS["xarray array"] = lambda values: xarray.DataArray(
        list(values.values()), dims="name", coords={"name": list(values)}
    )
    _OWN_TABLES["xarray array"] = lambda rows: xarray.DataArray(
        np.transpose(list(columns(rows).values())), dims=("row", "name"),
        coords={"name": list(rows[0])},
    )  # fmt: skip

_TABLES_OF_ONE = ("frame of one row", "structured array", "polars frame", "polars column")
TABLES: dict[str, Callable[[list[Values]], Any]] = {
    **_OWN_TABLES,
    **{
        f"list of {name}": lambda rows, make=make: [make(row) for row in rows]
        for name, make in RECORDS.items()
        if name not in _TABLES_OF_ONE
    },
}
COLUMNS: dict[str, Callable[[str, list[float]], Any]] = {
    "pandas": lambda name, column: pd.Series(column, name=name),
}
"""Columns with a name."""
if "polars" in sys.modules:
    COLUMNS["polars"] = lambda name, column: sys.modules["polars"].Series(name, column)
if "xarray" in sys.modules:
    COLUMNS["xarray"] = lambda name, column: sys.modules["xarray"].DataArray(column, name=name)
