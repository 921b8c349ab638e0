"""A benchmark's report: one page that opens offline, and the tables for a Markdown document."""

from __future__ import annotations

from pathlib import Path

from bo_invert.errors import InvalidInputError
from bo_invert.report.benchmark_tables import Contests, contest_tables
from bo_invert.report.curves import curves_figure
from bo_invert.report.html import PROFILE_NOTE, figure_html, page_html, section_html
from bo_invert.report.profiles import profiles_figure
from bo_invert.report.provenance import MIXED
from bo_invert.report.table import counted

BEGIN, END = "<!-- tables -->", "<!-- end -->"


def bench_html(contests: Contests, title: str) -> str:
    """All tables and figures."""
    tables = "".join(table.html() for table in contest_tables(contests))
    sections = [section_html("Tables", tables, "tables")]
    for number, ranks in enumerate(contests.groups):
        figure = figure_html(
            profiles_figure(contests.runs, ranks.labels, contests.yards), f"profiles-{number}"
        )
        heading = f"Problems solved by calls: {len(ranks.labels)} methods"
        content = f'{figure}<p class="note">{PROFILE_NOTE} Pairs: {ranks.pairs}.</p>'
        sections.append(section_html(heading, content, f"solved-{number}"))
    figure = figure_html(curves_figure(contests.regrets), "curves")
    note = "What is missing to the optimum where it is known. Lines are medians over seeds, bands the quartiles."
    sections.append(
        section_html("Best so far", figure + f'<p class="note">{note}</p>', "best-so-far")
    )
    extent = ((contests.problems, "problem"), (contests.labels, "method"), (contests.runs, "run"))
    subtitle = " · ".join(counted(len(things), noun) for things, noun in extent)
    return page_html(title, subtitle, sections)


def bench_markdown(contests: Contests) -> str:
    """All tables; a warning comes first, what it is about last."""
    tables = contest_tables(contests)
    first = ""
    if tables and tables[0].caption == MIXED:
        tables = [*tables[1:], tables[0]]
        first = f"**{MIXED}.** The last of these tables says which.\n\n"
    return first + "\n\n".join(table.markdown() for table in tables) + "\n"


def fill_page(page: str | Path, markdown: str) -> None:
    """Replace what stands between the marks of a Markdown document.

    Raises:
        InvalidInputError: there is no such document, or it has no marks.
    """
    path = Path(page)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text: {error}") from None
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InvalidInputError(f"{path} has no lines {BEGIN} and {END} to put the tables between")
    path.write_text(f"{head}{BEGIN}\n\n{markdown}\n{END}{tail}", encoding="utf-8")
