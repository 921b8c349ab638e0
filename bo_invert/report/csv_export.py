"""CSV export: the only place that writes trials, runs and tables as comma-separated values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bo_invert.errors import require

_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of cells that spreadsheets run (OWASP, "CSV Injection"), also as wide characters."""
_SKIPPED = "".join(map(chr, range(33))) + "\x7f\x85\xa0\u200b\u3000\ufeff"
"""Characters that readers of CSV may remove at the beginning of a cell."""

SEPARATORS = (",", ";", "\t", "|")
"""Separators of cells."""


@dataclass(frozen=True)
class CsvStyle:
    """Signs of a CSV file.

    Args:
        separator: separator of cells: comma, semicolon, tab or ``|``.
        decimal: decimal sign, point or comma.

    Raises:
        InvalidInputError: a sign is another one, or both are equal.
    """

    separator: str = ","
    decimal: str = "."

    def __post_init__(self) -> None:
        require(
            self.separator in SEPARATORS,
            f"separator must be one of {SEPARATORS}, got {self.separator!r:.80}",
        )
        require(self.decimal in (".", ","), f"decimal must be '.' or ',', got {self.decimal!r:.80}")
        require(
            self.decimal != self.separator,
            "separator must differ from the decimal sign ','. Use separator=';'",
        )

    def cell(self, value: object) -> object:
        """Return a cell as it is written."""
        if isinstance(value, float) and self.decimal != ".":
            return repr(float(value)).replace(".", self.decimal)
        return escaped(value)


PLAIN = CsvStyle()


def records_csv(records: Iterable[Mapping[str, Any]], style: CsvStyle = PLAIN) -> str:
    """Return records as CSV with one header line; missing and non-finite values are empty."""
    rows = [finite(record) for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return rows_csv(columns, ([row.get(key) for key in columns] for row in rows), style)


def rows_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], style: CsvStyle = PLAIN) -> str:
    """Return rows as CSV with one header line; None becomes an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=style.separator, lineterminator="\n")
    writer.writerow(map(escaped, columns))
    writer.writerows(map(style.cell, row) for row in rows)
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
