"""Designs in a table of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.study.csv_table import read_table


def table_designs(given: str | Path, domain: Domain, where: str) -> list[dict[str, Any]]:
    """Return the values of the axes in a CSV file, one dictionary for each row.

    Other columns are ignored, so that exported trials can be read, too.

    Args:
        given: Path of the file.
        domain: Search domain.
        where: Function that received it, for messages.

    Raises:
        InvalidInputError: A column is missing, or a row cannot be read; the message names it.
    """
    names = list(domain.axes)
    table = read_table(given, names, {})
    missing = [name for name in names if name not in table.names]
    if missing:
        raise InvalidInputError(
            f"{where}: columns {missing} are missing; the table has {list(table.names)}"
        )
    found = []
    for row in table.rows:
        if row.why:
            raise InvalidInputError(f"{where}: {row.label}: {row.why}")
        values, cells = {}, row.values(domain.parameters)
        for name in names:
            cell = cells.get(name)
            number = table.number(cell) if isinstance(cell, str) else None
            values[name] = cell if number is None else number
        found.append(values)
    return found
