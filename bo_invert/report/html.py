"""A report in one file that opens without a network: words, tables, curves, gallery."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bo_invert.report.benchmark_tables import Contests, hits_table
from bo_invert.report.comparison_tables import comparison_tables, runs_table
from bo_invert.report.curves import curves_figure
from bo_invert.report.objective_view import Goal
from bo_invert.report.performance import contenders
from bo_invert.report.pictures import data_uri
from bo_invert.report.profiles import profiles_figure
from bo_invert.report.ranking import fields
from bo_invert.report.runs import Run
from bo_invert.report.style import SCRIPT, STYLE
from bo_invert.report.summary import honest_paragraph
from bo_invert.report.table import Table, counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


PROFILE_NOTE = (
    "Share of the pairs of problem and seed that were solved (data profiles, Moré and Wild 2009), over the pairs that "
    "all these methods tried; what one refused it did not solve. The way is that from the median first loss of all "
    "methods to the optimum, or to the lowest loss that any of them reached where the optimum is not known."
)


def write_report(
    path: str | Path,
    runs: Sequence[Run],
    *,
    title: str,
    paragraphs: Sequence[str] | None = None,
    gallery_png: bytes | None = None,
    extra_tables: Sequence[Table] = (),
) -> Path:
    """Write a report.

    Args:
        path: of the HTML file.
        runs: what is reported.
        title: of the page.
        paragraphs: plain text at the top; default: ``honest_paragraph(runs)``.
        gallery_png: a picture of what was found, see ``gallery.gallery_png``.
        extra_tables: shown after the runs' own.

    Returns:
        The path.
    """
    target = Path(path)
    html = report_html(
        runs, title=title, paragraphs=paragraphs, gallery_png=gallery_png, extra_tables=extra_tables
    )
    target.write_text(html, encoding="utf-8")
    return target


def report_html(
    runs: Sequence[Run],
    *,
    title: str,
    paragraphs: Sequence[str] | None = None,
    gallery_png: bytes | None = None,
    extra_tables: Sequence[Table] = (),
) -> str:
    """The report as text; arguments as for ``write_report``."""
    words = [honest_paragraph(runs)] if paragraphs is None else paragraphs
    lead = "".join(f"<p>{escape(text)}</p>" for text in words)
    tables = "".join(table.html() for table in comparison_tables(runs))
    figure = figure_html(curves_figure(runs), "curves")
    sections = [section_html("What happened", f'<div class="lead">{lead}</div>', "words")]
    sections.append(section_html("Methods side by side", tables, "table-of-methods"))
    sections.append(
        section_html(
            "Best so far",
            f'{figure}<p class="note">Every call counts: failed ones and gradients too. Lines are medians over seeds, '
            "bands the quartiles.</p>",
            "best-so-far",
        )
    )
    labels = contenders(runs)
    if len(labels) > 1:
        solved = figure_html(profiles_figure(runs, labels), "profiles")
        note = f"{PROFILE_NOTE} Judged by the loss that the search could see."
        hits = hits_table(Contests(tuple(runs), (max(run.budget for run in runs),)))
        content = f'{solved}<p class="note">{note}</p>{hits.html()}'
        sections.append(section_html("Problems solved by calls", content, "solved"))
    if gallery_png is not None:
        image = f'<img src="{data_uri(gallery_png)}" alt="The best designs of each method with the nearest real ones">'
        sections.append(
            section_html("What they found", f'<figure class="gallery">{image}</figure>', "gallery")
        )
    if extra_tables:
        sections.append(
            section_html(
                "Further tables", "".join(table.html() for table in extra_tables), "further"
            )
        )
    summary = "The one run" if len(runs) == 1 else f"All {len(runs)} runs"
    every = f"<summary>{summary}</summary>{runs_table(runs).html()}{_designs(runs).html()}"
    sections.append(section_html("In detail", f"<details>{every}</details>", "detail"))
    return page_html(title, _subtitle(runs), sections)


def page_html(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A whole page that needs nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f"{''.join(sections)}<footer>Made with bo_invert on {datetime.now():%Y-%m-%d %H:%M}. "
        "Lower loss is better; a gradient is billed like a value.</footer></main>"
        f'<script type="text/plain" id="plotly">{_packed_plotly()}</script><script>{SCRIPT}</script></body></html>\n'
    )


def section_html(heading: str, content: str, key: str) -> str:
    """A section of the page; ``content`` is HTML, ``key`` its id."""
    return f'<section aria-labelledby="{key}-heading"><h2 id="{key}-heading">{heading}</h2>{content}</section>'


@cache
def _packed_plotly() -> str:
    """The library that draws the figures: 2 MB like this, 5 MB as it is."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def figure_html(figure: Figure, key: str) -> str:
    """A figure of the page, as data that the page's script draws; ``key`` is the id of its place."""
    data = str(figure.to_json()).replace("<", "\\u003c")  # nothing in it may end the element
    return (
        f'<div class="plot"><div id="{key}"></div><script type="application/json" class="figure">{data}</script></div>'
        '<noscript><p class="note">The curves need JavaScript; the tables hold '
        "their end points.</p></noscript>"
    )


def _subtitle(runs: Sequence[Run]) -> str:
    contests = fields(runs)
    if not contests:
        return "No runs."
    told = f"{counted(len({run.label for run in runs}), 'method')}, {counted(len({run.seed for run in runs}), 'seed')}"
    if len(contests) == 1:
        return f"{contests[0].problem} · {Goal(contests[0].goal).words()} · {told}"
    return f"{len(contests)} problems · {told}"


def _designs(runs: Sequence[Run]) -> Table:
    rows = tuple(
        (run.problem, run.label, run.seed, place + 1, Goal(run.goal).told(find.loss),
         None if find.judged is None else Goal(run.goal).told(find.judged), find.plausibility,
         ", ".join(f"{v:.5g}" for v in find.y[:6]) + (", …" if len(find.y) > 6 else ""), find.text or None)
        for run in runs
        for place, find in enumerate(run.finds)
    )  # fmt: skip
    columns = (
        "problem",
        "method",
        "seed",
        "place",
        "claimed",
        "judge says",
        "plausibility",
        "outputs",
        "design",
    )
    return Table(columns, rows, "Best designs")
