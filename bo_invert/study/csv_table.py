"""Tables of the user: CSV files as spreadsheets write them, data frames, lists of dicts."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Parameter
from bo_invert.errors import InvalidInputError, require
from bo_invert.study.cell_numbers import AS_WRITTEN, NumberReader, Signs, plain_text
from bo_invert.study.column_names import ColumnNames, composed
from bo_invert.study.csv_quotes import check_quotes
from bo_invert.user_data import scalar
from bo_invert.user_tables import columns, read_once, record, row_labels

_DELIMITERS = (",", ";", "\t", "|")
_MISSING = frozenset({"", "-", "--", "–", "—", "?", "na", "n/a", "n.a.", "nan", "none", "null"})
"""Texts of a cell without a value, in lower case."""


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")
"""Characters that no text has; older programs write 0x1a at the end of a file."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: Its name for the user, such as ``row 8`` (the header of a CSV file is row 1).
        cells: Value of each column by name; None without a value.
        why: Reason why it cannot be read; empty otherwise.
        words: Texts of the cells without a value, such as "none"; empty cells have none.
    """

    label: str
    cells: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    words: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(label: str, given: Mapping[str, object]) -> Row:
        """Return the row of the cells of a user."""
        cells = {name: _cell(value) for name, value in given.items()}
        words = {
            name: value.strip()
            for name, value in given.items()
            if cells[name] is None and isinstance(value, str) and value.strip()
        }
        return Row(label, cells, words=words)

    def values(self, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
        """Return the cells; a word such as "none" is a value of a parameter with this level.

        Texts match levels in either Unicode form.
        """
        cells = {
            name: _level(parameters.get(name), cell) if isinstance(cell, str) else cell
            for name, cell in self.cells.items()
        }
        levels = {
            name: word for name, word in self.words.items() if word in _levels(parameters.get(name))
        }
        return {**cells, **levels}


def _level(parameter: Parameter | None, text: str) -> str:
    """Return the level that a text is in another Unicode form; others as written."""
    levels = [one for one in _levels(parameter) if isinstance(one, str)]
    same = (one for one in levels if composed(one) == composed(text))
    return text if text in levels else next(same, text)


def _levels(parameter: Parameter | None) -> Sequence[object]:
    if isinstance(parameter, Fixed):
        return (parameter.value,)
    return parameter.values if isinstance(parameter, Choice) else ()


@dataclass(frozen=True)
class Table:
    """Table of the user.

    Args:
        names: Names of the columns in order.
        rows: Rows in order.
        reader: Reader of its numbers in text.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    reader: NumberReader = AS_WRITTEN

    def number(self, cell: object, column: str = "") -> float | None:
        """Return a number in the text of a column; see ``NumberReader.number``."""
        return self.reader.number(cell, column)


def read_table(
    given: object,
    expected: Sequence[str],
    rename: Mapping[str, str],
    numbers: NumberReader = AS_WRITTEN,
    units: Mapping[str, str] | None = None,
) -> Table:
    """Read a table of the user.

    Args:
        given: Path of a CSV file, a data frame, a list of dicts, or one dict.
        expected: Names by which the delimiter of a file is recognised.
        rename: New name of each column that has another one.
        numbers: Options of its numbers in text.
        units: Declared units, which names of columns may contain; see ``ColumnNames``.

    Raises:
        InvalidInputError: It is no table, cannot be read, or a column has no or a repeated name.
    """
    if isinstance(given, (str, os.PathLike)):
        return csv_table(_file_text(Path(given)), [*expected, *rename], rename, numbers, units)
    given = read_once(given)
    require_rows(given)
    listed = isinstance(given, (list, tuple)) and not hasattr(given, "_fields")
    labels: Iterable[object]
    if listed:  # rows may have different names
        records = [record(row) for row in cast("Sequence[object]", given)]
        kind, labels = "item", range(len(records))
    else:
        found = columns(given)
        one = record(given) if found is None else None
        if found is not None:
            records = [
                dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)
            ]
        else:
            records = [one]
        index = row_labels(given)
        labels = range(len(records)) if index is None or len(index) != len(records) else index
        kind = "row" if index is None else "index"
    names = dict.fromkeys(name for one in records for name in one or ())
    rows = [
        Row(f"{kind} {label}", why="it has no names; write a dict")
        if one is None
        else Row.of(f"{kind} {label}", one)
        for label, one in zip(labels, records, strict=True)
    ]
    return _table(list(names), rows, rename, ColumnNames(expected, units or {}), numbers)


def require_rows(given: object) -> None:
    """Check that a value is a table with rows, and no file.

    Raises:
        InvalidInputError: It is no table, its columns have no names, or it has no rows.
    """
    listed = isinstance(given, (list, tuple)) and not hasattr(given, "_fields")
    named = listed and any(record(row) is not None for row in cast("Sequence[object]", given))
    found = None if named else columns(given)
    empty = hasattr(given, "__len__") and not isinstance(given, (str, bytes)) and not len(given)
    require(
        not empty and (found is None or any(map(len, found.values()))),
        "table: it has no rows",
    )
    require(
        named or found is not None or (not listed and record(given) is not None),
        "table: must be a data frame with named columns, the path of a CSV file, or a list of "
        f"dicts, got {_described(given)}",
    )


def _described(given: object) -> str:
    """Return the type of a value; that of its first item, too, in a list."""
    kind = type(given).__name__
    if isinstance(given, (list, tuple)):
        return f"a {kind} of {type(given[0]).__name__}"
    return f"{kind} {given!r}" if isinstance(given, (bool, int, float)) else kind


def has_other_columns(given: object, names: Iterable[str]) -> bool:
    """Return True for a path, and for a table with a column that is not among these names."""
    if isinstance(given, (str, os.PathLike)):
        return True
    if isinstance(given, (list, tuple)) and not hasattr(given, "_fields"):
        records = [record(one) for one in given]
        found = {name for one in records for name in one or ()}
    else:
        found = set(record(given) or columns(given) or ())
    return bool(found - set(names))


def csv_table(
    text: str,
    expected: Sequence[str],
    rename: Mapping[str, str] | None = None,
    numbers: NumberReader = AS_WRITTEN,
    units: Mapping[str, str] | None = None,
) -> Table:
    """Read the text of a CSV file; see ``read_table``.

    The delimiter is the one of ``, ; tab |`` that divides the header into the most expected names.
    Rows count as in a spreadsheet: the header is row 1, and blank lines count.
    """
    text = text.lstrip("\ufeff")
    named = re.match(r"sep=(.)\r?\n", text)  # Excel
    text = text[named.end() :] if named else text
    known = ColumnNames(expected, units or {})

    def score(delimiter: str) -> tuple[int, int]:
        header = next((row for row in _cells(text, delimiter) if any(map(str.strip, row))), [])
        return len({known.named(cell) for cell in header} - {None}), len(header)

    delimiter = named[1] if named else max(_DELIMITERS, key=score)
    offset = 2 if named else 1
    width = score(delimiter)[1]
    check_quotes(text, delimiter, width, offset)
    lines = list(_cells(text, delimiter))
    first = next((i for i, cells in enumerate(lines) if any(map(str.strip, cells))), None)
    require(first is not None, "table: the file must have a header, and is empty")
    assert first is not None
    header = [composed(cell.strip()) for cell in lines[first]]
    while header and not header[-1]:
        header.pop()
    names = [name or f"column {i}" for i, name in enumerate(header, start=1)]
    rows = []
    for number, cells in enumerate(lines[first + 1 :], start=first + 1 + offset):
        if not any(map(str.strip, cells)):
            continue
        label = f"row {number}"
        if any(map(str.strip, cells[len(names) :])):
            rows.append(
                Row(
                    label,
                    why=f"it has {len(cells)} cells and the header has {len(names)}. Write numbers "
                    "with a decimal point, or put cells in quotes",
                )
            )
            continue
        padded = [*cells, *[""] * len(names)]
        rows.append(Row.of(label, dict(zip(names, padded, strict=False))))
    empty = {
        name
        for name, given in zip(names, header, strict=True)
        if not given and all(row.cells.get(name) is None for row in rows)
    }
    names = [name for name in names if name not in empty]
    return _table(names, rows, rename or {}, known, replace(numbers, delimiter=delimiter))


def _cells(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="")
    try:
        yield from csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t")
    except csv.Error as error:
        raise InvalidInputError(f"table: the file is no CSV: {error}") from None


def _table(
    names: list[str],
    rows: Sequence[Row],
    rename: Mapping[str, str],
    known: ColumnNames,
    numbers: NumberReader,
) -> Table:
    """Return a table with renamed columns; expected ones show how its numbers are written."""
    written = {composed(name): name for name in names}
    rename = {written.get(composed(name), name): new for name, new in rename.items()}
    unknown = [name for name in rename if name not in names]
    require(not unknown, f"columns: the table has no column {unknown}; it has {names}")
    new = known.of_table([rename.get(name, name).strip() for name in names])
    twice = sorted({name for name in new if new.count(name) > 1})
    require(not twice, f"table: columns must have different names, got {twice} more than once")
    renamed = dict(zip(names, new, strict=True))
    rows = [
        Row(
            row.label,
            {renamed[name]: cell for name, cell in row.cells.items() if name in renamed},
            row.why,
            {renamed[name]: word for name, word in row.words.items() if name in renamed},
        )
        for row in rows
    ]
    whole = [name for name in new if name in set(known.expected)] or new
    texts = {name: [row.cells.get(name) for row in rows] for name in new}
    columns = {
        name: Signs.of(plain_text(cell) for cell in cells if isinstance(cell, str))
        for name, cells in texts.items()
    }
    reader = replace(numbers, columns=columns, whole=whole)
    return Table(tuple(new), tuple(rows), reader)


def _cell(value: object) -> object:
    """Return a cell; None without a value. Texts lose the apostrophe of ``csv_export.escaped``."""
    if not isinstance(value, str):
        plain = scalar(value)
        return None if isinstance(plain, float) and math.isnan(plain) else value
    text = value.strip()
    if text.lower() in _MISSING:
        return None
    return text[1:] if re.match(r"'\s*[=+\-@]", text) else text


def _file_text(path: Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 or, as older spreadsheets write, Windows-1252."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"table: the file {str(path)!r} cannot be read: {error.strerror or error}"
        ) from None
    require(
        not data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")),
        f"table: {str(path)!r} is a workbook. Save it as CSV, or pass pandas.read_excel(path)",
    )
    wide = data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff"))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) and not wide:
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    require(
        not wide and not _CONTROL.search(text),
        f"table: {str(path)!r} is binary, or in another encoding than UTF-8, UTF-16 with a byte "
        "order mark and Windows-1252. Save it as CSV in UTF-8",
    )
    return text
