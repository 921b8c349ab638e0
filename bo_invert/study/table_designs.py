"""Designs in a table of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.study.cell_numbers import NumberReader
from bo_invert.study.csv_table import Table, read_table


def designs_of_file(
    X: object,
    points: object,
    domain: Domain | None,
    decimal: str | None = None,
    units: Mapping[str, str] | None = None,
) -> tuple[object, object]:
    """Return designs and points of the user, those of a CSV file as rows.

    Args:
        X: Designs, or the path of a CSV file.
        points: Points, or None.
        domain: Search domain; None if it is unknown.
        decimal: Decimal sign of numbers in text; None to recognise it.
        units: Declared units, which names of columns may contain.

    Raises:
        InvalidInputError: A column is missing, or a row cannot be read; the message names it.
    """
    text = isinstance(X, str) and X.lower().endswith((".csv", ".tsv", ".txt"))
    if domain is None or not (text or isinstance(X, Path)):
        return X, points
    rows = table_designs(X, domain, "predict", NumberReader(decimal), units)
    return (None, rows) if domain.latent else (rows, points)


def table_numbers(
    given: object, names: Sequence[str], where: str, numbers: NumberReader
) -> list[dict[str, float]]:
    """Return the numbers in some columns of a table, one dictionary for each row.

    Args:
        given: Path of a CSV file.
        names: Names of the columns; others are ignored.
        where: Argument that received the table, for messages.
        numbers: Options of numbers in text.

    Raises:
        InvalidInputError: A column is missing, or a cell has no number; the message names it.
    """
    table = read_table(given, names, {}, numbers)
    _require_columns(table, names, where)
    found = []
    for row in table.rows:
        if row.why:
            raise InvalidInputError(f"{where}: {row.label}: {row.why}")
        cells = {name: table.number(row.cells.get(name), name) for name in names}
        wrong = [name for name, value in cells.items() if value is None]
        if wrong:
            raise InvalidInputError(
                f"{where}: {row.label}: {wrong[0]} must be a number, got "
                f"{row.cells.get(wrong[0])!r}"
            )
        found.append({name: value for name, value in cells.items() if value is not None})
    return found


def _require_columns(table: Table, names: Sequence[str], where: str) -> None:
    """Raise ``InvalidInputError`` unless a table has these columns."""
    missing = [name for name in names if name not in table.names]
    if missing:
        raise InvalidInputError(
            f"{where}: columns {missing} are missing; the table has {list(table.names)}"
        )


def table_designs(
    given: object,
    domain: Domain,
    where: str,
    numbers: NumberReader,
    units: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the values of the axes in a table, one dictionary for each row.

    Other columns are ignored, so that exported trials can be read, too.

    Args:
        given: Path of a CSV file.
        domain: Search domain.
        where: Function that received it, for messages.
        numbers: Options of numbers in text.
        units: Declared units, which names of columns may contain.

    Raises:
        InvalidInputError: A column is missing, or a row cannot be read; the message names it.
    """
    names = list(domain.axes)
    table = read_table(given, names, {}, numbers, units)
    optional = {name for name, one in domain.axes.items() if getattr(one, "when", None)}
    _require_columns(table, [name for name in names if name not in optional], where)
    found = []
    for row in table.rows:
        if row.why:
            raise InvalidInputError(f"{where}: {row.label}: {row.why}")
        values, cells = {}, row.values(domain.parameters)
        for name in names:
            cell = cells.get(name)
            if cell is None and name in optional:
                continue
            try:
                number = table.number(cell, name) if isinstance(cell, str) else None
            except InvalidInputError as error:
                raise InvalidInputError(f"{where}: {row.label}: {name}: {error}") from None
            values[name] = cell if number is None else number
        found.append(values)
    return found
