"""Table model and its formats: text, HTML, Markdown, CSV."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bo_invert.errors import printable
from bo_invert.report.csv_export import rows_csv
from bo_invert.report.statistical_tests import Spread
from bo_invert.report.templating import render

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
        limit = sys.maxsize if width is None else width
        columns = {
            j: [printable(name), *(printable(self.cell(i, j)) for i in range(len(self.rows)))]
            for j, name in enumerate(self.columns)
        }
        while _length(sizes := self._sizes(columns, limit)) > limit and len(columns) > 1:
            optional = (j for name in self.optional for j in columns if self.columns[j] == name)
            del columns[next(optional, max(columns))]
        aligns = [str.rjust if self.numeric(j) else str.ljust for j in columns]
        header, *body = (_lines(row, sizes, aligns) for row in zip(*columns.values(), strict=True))
        lines = [*header, *itertools.chain(*body)]
        lines.insert(len(header), "─" * max(map(len, lines)))
        omitted = ", ".join(name for j, name in enumerate(self.columns) if j not in columns)
        note = f"Omitted columns (formats csv and json have all): {omitted}."
        head, *foot = map(printable, (self.caption, *self.notes, *([note] if omitted else [])))
        if width is not None:
            head, *foot = (textwrap.fill(text, width) for text in (head, *foot))
        return printable("\n".join([*([head] if head else []), *lines, *foot]))

    def markdown(self) -> str:
        """Return a Markdown table."""

        def line(cells: Iterable[str]) -> str:
            escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
            return f"| {' | '.join(escaped)} |"

        indices = range(len(self.columns))
        rule = f"|{'|'.join('---:' if self.numeric(j) else '---' for j in indices)}|"
        body = [line(self.cell(i, j) for j in indices) for i in range(len(self.rows))]
        head = [f"**{self.caption}**", ""] if self.caption else []
        notes = [item for note in self.notes for item in ("", note)]
        return "\n".join([*head, line(self.columns), rule, *body, *notes])

    def csv(self) -> str:
        """Return CSV with numbers in full and three columns for median and quartiles."""
        wide = [
            any(isinstance(row[j], Spread) for row in self.rows) for j in range(len(self.columns))
        ]
        columns = [
            f"{name}{suffix}"
            for name, spreads in zip(self.columns, wide, strict=True)
            for suffix in ((" median", " 25%", " 75%") if spreads else ("",))
        ]
        pairs = (zip(row, wide, strict=True) for row in self.rows)
        return rows_csv(columns, ([c for pair in row for c in _csv_cells(*pair)] for row in pairs))

    def html(self) -> str:
        """Return a ``<table>`` with caption and header scopes, followed by its notes."""
        return render("table.html", table=self)

    def _sizes(
        self, columns: Mapping[int, Sequence[str]], limit: int, least: int = 16
    ) -> list[int]:
        """Return the widths of columns, reduced to fit a line of ``limit`` characters if possible.

        Text can be reduced to ``least`` characters, numbers not at all, headers to their words.
        """
        longest = {j: max(map(len, cells), default=0) for j, (_, *cells) in columns.items()}
        lowest = [
            max([size if self.numeric(j) else min(least, size), *map(len, columns[j][0].split())])
            for j, size in longest.items()
        ]
        sizes = [max(map(len, cells)) for cells in columns.values()]
        while (excess := _length(sizes) - limit) > 0:
            widest = max(range(len(sizes)), key=lambda at: (sizes[at] > lowest[at], sizes[at]))
            if sizes[widest] <= lowest[widest]:
                break
            sizes[widest] = max(lowest[widest], sizes[widest] - excess)
        return sizes


def _csv_cells(value: object, spreads: bool) -> Sequence[object]:
    """Return the three cells of a value in a column of spreads, otherwise one."""
    cells = value[:3] if isinstance(value, Spread) else (value, None, None)
    return cells if spreads else cells[:1]


def _length(sizes: Sequence[int]) -> int:
    """Return the length of a line with columns of these sizes."""
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def _lines(
    row: Sequence[str], sizes: Sequence[int], aligns: Sequence[Callable[[str, int], str]]
) -> list[str]:
    """Return the lines of a row: cells are wrapped and aligned to the left or the right."""
    cells = [
        textwrap.wrap(cell, size) if len(cell) > size else [cell]
        for cell, size in zip(row, sizes, strict=True)
    ]
    return [
        _GAP.join(
            align(part, n) for align, part, n in zip(aligns, parts, sizes, strict=True)
        ).rstrip()
        for parts in itertools.zip_longest(*cells, fillvalue="")
    ]


def terminal_width() -> int:
    """Return the width of the terminal, 100 if the output is no terminal."""
    return shutil.get_terminal_size((100, 24)).columns


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as ``1 problem`` or ``1,200 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def applicable(*rules: tuple[object, str]) -> tuple[str, ...]:
    """Return the sentences whose conditions are true."""
    return tuple(sentence for condition, sentence in rules if condition)


def span(counts: Sequence[int]) -> str:
    """Return several counts as ``5`` or ``3–5``; ``0`` if there are none."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low}–{high}"


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
