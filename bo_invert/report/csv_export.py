"""CSV export: the only place that writes trials, runs and tables as comma-separated values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of cells that spreadsheets run (OWASP, "CSV Injection"), also as wide characters."""
_SKIPPED = "".join(map(chr, range(33))) + "\x7f\x85\xa0\u200b\u3000\ufeff"
"""Characters that readers of CSV may remove at the beginning of a cell."""


def records_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Return records as CSV with one header line; missing and non-finite values are empty."""
    rows = [finite(record) for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return rows_csv(columns, ([row.get(key) for key in columns] for row in rows))


def rows_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV with one header line; None becomes an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(escaped, columns))
    writer.writerows(map(escaped, row) for row in rows)
    return stream.getvalue()


def escaped(cell: object) -> object:
    """Return a text that a spreadsheet would run as a formula with an apostrophe before it.

    Numbers, also as text, stay as they are. Line breaks of text become line feeds, since readers
    end a row at an unquoted carriage return.
    """
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    if not cell.lstrip(_SKIPPED).startswith(_FORMULA) and not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinite values and NaN, which JSON cannot represent, by None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
