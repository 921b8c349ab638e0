"""Names of columns: in either Unicode form, and with the declared unit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_UNIT = re.compile(r"\s*[\[({<](?P<a>.*)[\])}>]|\s*(?:[/,;:_-]|\bin\s)(?P<b>.*)|\s+(?P<c>.*)")


def composed(text: str) -> str:
    """Return text in Unicode form NFC; file names and texts of macOS often are in form NFD."""
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns of a table.

    Args:
        expected: Names of parameters, outputs and others.
        units: Declared unit of some of them.
    """

    expected: Sequence[str]
    units: Mapping[str, str] = field(default_factory=dict)

    def named(self, column: str) -> str | None:
        """Return the expected name of a column; None for another column.

        A column may have the declared unit in its name: ``temperature [°C]``, ``temperature (°C)``,
        ``temperature / °C``, ``temperature_°C``.
        """
        text = composed(column).strip()
        for name in self.expected:
            if text == composed(name).strip():
                return name
        for name, unit in self.units.items():
            start = composed(name).strip()
            found = _UNIT.fullmatch(text[len(start) :]) if text.startswith(start) else None
            if (
                found
                and name in self.expected
                and _plain(found[found.lastgroup or 0]) == _plain(unit)
            ):
                return name
        return None

    def of_table(self, columns: Sequence[str]) -> list[str]:
        """Return the names of all columns; others, and repetitions with a unit, stay as written."""
        found = [self.named(column) for column in columns]
        exact = {
            name for name, column in zip(found, columns, strict=True)
            if name is not None and composed(column).strip() == composed(name).strip()
        }  # fmt: skip
        return [
            column
            if name is None or (name in exact and composed(column) != composed(name))
            else name
            for name, column in zip(found, columns, strict=True)
        ]


def _plain(unit: str) -> str:
    """Return a unit without blanks and brackets; equal signs, such as both micro signs, are one."""
    return re.sub(r"[\s\[\](){}<>]", "", unicodedata.normalize("NFKC", unit))
