"""One table model, and its faces: text, HTML, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bo_invert.report.statistics import Spread
from bo_invert.report.templating import table_html
from bo_invert.types import printable

Cell = str | int | float | Spread | None
"""Value of a cell: text, a number, or median and quartiles."""

UNCONFIRMED, IMPLAUSIBLE = "unconfirmed", "implausible"
_SIGNS = {UNCONFIRMED: "!", IMPLAUSIBLE: "?"}


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of plain values.

    Args:
        columns: headings.
        rows: cells are text, numbers, ``Spread`` or None.
        caption: above the table.
        notes: below the table, one sentence each.
        marks: (row, column) to ``"fooled"`` or ``"implausible"``: cells to be read with care.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def plain(self, row: int, column: int) -> str:
        """Return a cell as text, without its mark."""
        return shown(self.rows[row][column])

    def cell(self, row: int, column: int) -> str:
        """Return a cell as text, with the sign of its mark."""
        sign = _SIGNS.get(self.marks.get((row, column), ""), "")
        return self.plain(row, column) + (f" {sign}" if sign else "")

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers and is set flush right."""
        return any(isinstance(row[column], (int, float, Spread)) for row in self.rows)

    def text(self) -> str:
        """For a terminal: aligned columns."""
        cells = [
            list(self.columns),
            *([self.cell(i, j) for j in range(len(self.columns))] for i in self._indices),
        ]
        grid = [[printable(cell) for cell in row] for row in cells]
        widths = [max(len(row[j]) for row in grid) for j in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(width) if self.numeric(j) else cell.ljust(width)
                for j, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in grid
        ]
        rule = "─" * max(len(line) for line in lines)
        head, *foot = (printable(text) for text in (self.caption, *self.notes))
        return "\n".join([*([head] if head else []), lines[0], rule, *lines[1:], *foot])

    def markdown(self) -> str:
        """For a Markdown document."""

        def line(cells: Sequence[str]) -> str:
            return (
                "| "
                + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
                + " |"
            )

        rule = (
            "|"
            + "|".join("---:" if self.numeric(j) else "---" for j in range(len(self.columns)))
            + "|"
        )
        body = [line([self.cell(i, j) for j in range(len(self.columns))]) for i in self._indices]
        head = [f"**{self.caption}**", ""] if self.caption else []
        notes = [item for note in self.notes for item in ("", note)]
        return "\n".join([*head, line(self.columns), rule, *body, *notes])

    def csv(self) -> str:
        """For other programs: numbers in full, a spread as three columns."""
        spreads = [
            any(isinstance(row[j], Spread) for row in self.rows) for j in range(len(self.columns))
        ]
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        heads = [[f"{c} {q}" for q in ("median", "25%", "75%")] if s else [c]
                 for c, s in zip(self.columns, spreads, strict=True)]  # fmt: skip
        writer.writerow([name for group in heads for name in group])
        for row in self.rows:
            cells: list[Any] = []
            for value, wide in zip(row, spreads, strict=True):
                if isinstance(value, Spread):
                    cells += [value.median, value.low, value.high]
                else:
                    cells += ["" if value is None else value] + [""] * (2 * wide)
            writer.writerow(cells)
        return stream.getvalue()

    def html(self) -> str:
        """Return a ``<table>`` with caption and header scopes, followed by its notes."""
        return table_html(self)

    @property
    def _indices(self) -> range:
        return range(len(self.rows))


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the plural where it belongs: ``1 problem``, ``1,200 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def span(counts: Sequence[int]) -> str:
    """Several counts as one: ``5``, or ``3–5``; ``0`` when there are none."""
    if not counts:
        return "0"
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def shown(value: Any) -> str:
    """A value as people read it: four digits; spreads with three, as ``median [quartile, quartile]``."""
    if value is None:
        return "–"
    if isinstance(value, Spread):
        if value.n == 1 or value.low == value.high:
            return shown(value.median)
        median, low, high = (f"{v:.3g}" if math.isfinite(v) else "none" for v in value[:3])
        return f"{median} [{low}, {high}]"
    if isinstance(value, float):
        return "none feasible" if math.isinf(value) else f"{value:.4g}"
    return str(value)
