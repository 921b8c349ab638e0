"""HTML report in one file without external resources: summary, tables, curves, gallery."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from bo_invert.report.benchmark_tables import BenchmarkRuns, calls_table
from bo_invert.report.comparison_tables import comparison_tables, runs_table
from bo_invert.report.curves import curves_figure
from bo_invert.report.objective_view import Goal
from bo_invert.report.performance import contenders
from bo_invert.report.pictures import data_uri
from bo_invert.report.profiles import profiles_figure
from bo_invert.report.runs import Run
from bo_invert.report.summary import summary_table, summary_text
from bo_invert.report.table import Table, counted
from bo_invert.report.templating import render

PROFILE_NOTE = (
    "Data profiles (Moré and Wild 2009): share of solved pairs of problem and seed, over the pairs "
    "that all these methods ran; refused runs count as unsolved. The improvement is the way from "
    "the median first loss of all methods to the optimum, or to the lowest loss of any method if "
    "the optimum is not known."
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
    """Write a report to an HTML file.

    Args:
        path: path of the file.
        runs: the runs to report.
        title: title of the page.
        paragraphs: plain text at the top; default: ``summary_text(runs)``.
        gallery_png: picture of the best designs, see ``gallery.gallery_png``.
        extra_tables: tables after those of the runs.

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
    """Return the report as text; arguments as for ``write_report``."""
    data = BenchmarkRuns(tuple(runs), (max((run.budget for run in runs), default=1),))
    labels = contenders(data.frame)
    compared, several_seeds = len(labels) > 1, len({run.seed for run in runs}) > 1
    return page_html(
        "report.html",
        title,
        _subtitle(runs),
        paragraphs=[summary_text(runs)] if paragraphs is None else paragraphs,
        best=summary_table(runs) if len(data.problems) > 1 else None,
        methods=comparison_tables(runs),
        curves=curves_figure(runs),
        several_seeds=several_seeds,
        profiles=profiles_figure(data.frame, labels) if compared and several_seeds else None,
        profile_note=PROFILE_NOTE,
        calls=calls_table(data) if compared else None,
        gallery=None if gallery_png is None else data_uri(gallery_png),
        extra_tables=extra_tables,
        details=(runs_table(runs), _designs(runs)),
    )


def page_html(template: str, title: str, subtitle: str, **values: object) -> str:
    """Render a page that needs no external resources."""
    return render(
        template,
        title=title,
        subtitle=subtitle,
        created=datetime.now(),
        plotly=_packed_plotly(),
        **values,
    )


@cache
def _packed_plotly() -> str:
    """Return plotly.js as gzip in base64: 2 MB instead of 5 MB."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _subtitle(runs: Sequence[Run]) -> str:
    goals = {run.problem: Goal(run.goal).words() for run in reversed(runs) if run.goal}
    problems = dict.fromkeys(run.problem for run in runs)
    if not problems:
        return "No runs."
    labels, seeds = {run.label for run in runs}, {run.seed for run in runs}
    extent = f"{counted(len(labels), 'method')}, {counted(len(seeds), 'seed')}"
    if len(problems) == 1:
        (problem,) = problems
        return f"{problem} · {goals.get(problem, Goal({}).words())} · {extent}"
    return f"{len(problems)} problems · {extent}"


def _designs(runs: Sequence[Run]) -> Table:
    rows = tuple(
        (run.problem, run.label, run.seed, place + 1, Goal(run.goal).shown(find.loss),
         None if find.judged is None else Goal(run.goal).shown(find.judged), find.plausibility,
         ", ".join(f"{v:.5g}" for v in find.y[:6]) + (", …" if len(find.y) > 6 else ""),
         find.text or None)
        for run in runs
        for place, find in enumerate(run.finds)
    )  # fmt: skip
    columns = ("problem", "method", "seed", "place", "claimed", "judged", "plausibility",
               "outputs", "design")  # fmt: skip
    return Table(columns, rows, "Best designs")
