"""Benchmark report: an offline HTML page, and tables for a Markdown document."""

from __future__ import annotations

from pathlib import Path

from bo_invert.errors import InvalidInputError
from bo_invert.report.benchmark_tables import BenchmarkRuns, benchmark_tables
from bo_invert.report.curves import curves_figure
from bo_invert.report.html import PROFILE_NOTE, page_html
from bo_invert.report.profiles import profiles_figure
from bo_invert.report.provenance import MIXED
from bo_invert.report.table import counted

BEGIN, END = "<!-- tables -->", "<!-- end -->"
"""Lines of a Markdown document between which the tables are written."""


def bench_html(data: BenchmarkRuns, title: str) -> str:
    """Return a page with all tables and figures."""
    extent = ((data.problems, "problem"), (data.labels, "method"), (data.runs, "run"))
    return page_html(
        "benchmark.html",
        title,
        " · ".join(counted(len(things), noun) for things, noun in extent),
        tables=benchmark_tables(data),
        groups=[(profiles_figure(data.frame, ranks.labels), ranks) for ranks in data.groups],
        profile_note=PROFILE_NOTE,
        curves=curves_figure(data.regrets),
        several_seeds=len({run.seed for run in data.runs}) > 1,
    )


def bench_markdown(data: BenchmarkRuns) -> str:
    """Return all tables; a warning about mixed code comes first, its table last."""
    tables = benchmark_tables(data)
    first = ""
    if tables and tables[0].caption == MIXED:
        tables = [*tables[1:], tables[0]]
        first = f"**{MIXED}.** The last table lists them.\n\n"
    return first + "\n\n".join(table.markdown() for table in tables) + "\n"


def fill_page(page: str | Path, markdown: str) -> None:
    """Replace the text between the lines ``BEGIN`` and ``END`` of a Markdown document.

    Raises:
        InvalidInputError: the document does not exist, is not text, or lacks these lines.
    """
    path = Path(page)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} must be a text file: {error}") from None
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InvalidInputError(f"{path} must have the lines {BEGIN} and {END} around the tables")
    path.write_text(f"{head}{BEGIN}\n\n{markdown}\n{END}{tail}", encoding="utf-8")
