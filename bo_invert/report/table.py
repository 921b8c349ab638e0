"""Table model and its formats: text, HTML, Markdown, CSV."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bo_invert.report.csv_export import rows_csv
from bo_invert.report.statistics import Spread
from bo_invert.report.templating import table_html
from bo_invert.types import printable

Cell = str | int | float | Spread | None
"""Value of a cell: text, a number, or median and quartiles."""

UNCONFIRMED, IMPLAUSIBLE = "unconfirmed", "implausible"
_SIGNS = {UNCONFIRMED: "!", IMPLAUSIBLE: "?"}

_GAP = "  "
"""Space between two columns of text."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of plain values.

    Args:
        columns: column headers.
        rows: rows of cells.
        caption: title above the table.
        notes: sentences below the table.
        marks: (row, column) to ``"unconfirmed"`` or ``"implausible"``.
        optional: columns that a narrow text omits, least important first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()

    def plain(self, row: int, column: int) -> str:
        """Return a cell as text, without its mark."""
        return shown(self.rows[row][column])

    def cell(self, row: int, column: int) -> str:
        """Return a cell as text, with the sign of its mark."""
        sign = _SIGNS.get(self.marks.get((row, column), ""), "")
        return self.plain(row, column) + (f" {sign}" if sign else "")

    def numeric(self, column: int) -> bool:
        """Return True if a column holds numbers, which are aligned to the right."""
        return any(isinstance(row[column], (int, float, Spread)) for row in self.rows)

    def text(self, width: int | None = None) -> str:
        """Return aligned columns for a terminal.

        Args:
            width: number of characters of a line. Long text cells are wrapped; if that is not
                enough, columns are omitted and named below the table. None: no limit.
        """
        fitted = self
        while width is not None and len(fitted.columns) > 1 and sum(fitted._widths(width)) > width:
            fitted = fitted._without(
                next((name for name in self.optional if name in fitted.columns), fitted.columns[-1])
            )
        notes = list(self.notes)
        omitted = [name for name in self.columns if name not in fitted.columns]
        if omitted:
            notes.append(f"Omitted columns (formats csv and json have all): {', '.join(omitted)}.")
        header, *body = fitted._lines(width)
        head, *foot = (printable(text) for text in (self.caption, *notes))
        if width is not None:
            head, foot = textwrap.fill(head, width), [textwrap.fill(note, width) for note in foot]
        lines = [*header, *(line for row in body for line in row)]
        lines.insert(len(header), "─" * max(map(len, lines)))
        return "\n".join([*([head] if head else []), *lines, *foot])

    def markdown(self) -> str:
        """Return a Markdown table."""

        def line(cells: Sequence[str]) -> str:
            escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
            return f"| {' | '.join(escaped)} |"

        indices = range(len(self.columns))
        rule = f"|{'|'.join('---:' if self.numeric(j) else '---' for j in indices)}|"
        body = [line([self.cell(i, j) for j in indices]) for i in range(len(self.rows))]
        head = [f"**{self.caption}**", ""] if self.caption else []
        notes = [item for note in self.notes for item in ("", note)]
        return "\n".join([*head, line(self.columns), rule, *body, *notes])

    def csv(self) -> str:
        """Return CSV with numbers in full and three columns for median and quartiles."""
        wide = [
            any(isinstance(row[j], Spread) for row in self.rows) for j in range(len(self.columns))
        ]
        columns: list[str] = []
        for name, spreads in zip(self.columns, wide, strict=True):
            columns += [f"{name} {q}" for q in ("median", "25%", "75%")] if spreads else [name]
        rows = []
        for row in self.rows:
            cells: list[object] = []
            for value, spreads in zip(row, wide, strict=True):
                if isinstance(value, Spread):
                    cells += [value.median, value.low, value.high]
                else:
                    cells += [value] + [None] * (2 * spreads)
            rows.append(cells)
        return rows_csv(columns, rows)

    def html(self) -> str:
        """Return a ``<table>`` with caption and header scopes, followed by its notes."""
        return table_html(self)

    def _without(self, name: str) -> Table:
        """Return the table without one column."""
        at = self.columns.index(name)
        rows = tuple(row[:at] + row[at + 1 :] for row in self.rows)
        marks = {(i, j - (j > at)): mark for (i, j), mark in self.marks.items() if j != at}
        columns = self.columns[:at] + self.columns[at + 1 :]
        return replace(self, columns=columns, rows=rows, marks=marks)

    def _grid(self) -> list[list[str]]:
        """Return headers and cells as text."""
        body = [[self.cell(i, j) for j in range(len(self.columns))] for i in range(len(self.rows))]
        return [[printable(cell) for cell in row] for row in [list(self.columns), *body]]

    def _widths(self, width: int | None, least: int = 16) -> list[int]:
        """Return the widths of columns with their gaps, reduced to fit the line if possible.

        Text can be reduced to ``least`` characters, numbers not at all, headers to their words.
        """
        header, *body = self._grid()
        columns = range(len(header))
        gaps = [len(_GAP) * (j < len(header) - 1) for j in columns]
        longest = [max([0, *(len(row[j]) for row in body)]) for j in columns]
        widths = [max(len(header[j]), longest[j]) + gaps[j] for j in columns]
        limits = [
            max([
                longest[j] if self.numeric(j) else min(least, longest[j]),
                *map(len, header[j].split()),
            ]) + gaps[j]
            for j in columns
        ]  # fmt: skip
        while width is not None and (excess := sum(widths) - width) > 0:
            widest = max(columns, key=lambda j: (widths[j] > limits[j], widths[j]))
            if widths[widest] <= limits[widest]:
                break
            widths[widest] = max(limits[widest], widths[widest] - excess)
        return widths

    def _lines(self, width: int | None) -> list[list[str]]:
        """Return the lines of the header and of each row."""
        sizes = [size - len(_GAP) for size in self._widths(width)]
        sizes[-1] += len(_GAP)
        rows = []
        for row in self._grid():
            cells = [
                [cell] if len(cell) <= size else textwrap.wrap(cell, size)
                for cell, size in zip(row, sizes, strict=True)
            ]
            height = max(map(len, cells))
            aligned = [
                [line.rjust(size) if self.numeric(j) else line.ljust(size) for line in cell]
                + [" " * size] * (height - len(cell))
                for j, (cell, size) in enumerate(zip(cells, sizes, strict=True))
            ]
            rows.append([_GAP.join(parts).rstrip() for parts in zip(*aligned, strict=True)])
        return rows


def terminal_width() -> int:
    """Return the width of the terminal, 100 if the output is no terminal."""
    return shutil.get_terminal_size((100, 24)).columns


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as ``1 problem`` or ``1,200 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def span(counts: Sequence[int]) -> str:
    """Return several counts as ``5`` or ``3–5``; ``0`` if there are none."""
    if not counts:
        return "0"
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def shown(value: object) -> str:
    """Format a value with four digits, a spread with three as ``median [quartile, quartile]``."""
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
