"""HTML reports in one file without external resources: of comparisons and of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bo_invert.report.benchmark_tables import BenchmarkRuns, benchmark_tables, calls_table
from bo_invert.report.comparison_tables import comparison_tables, runs_table
from bo_invert.report.figures import curves_figure, profiles_figure
from bo_invert.report.objective_view import Goal
from bo_invert.report.performance import contenders
from bo_invert.report.pictures import data_uri
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
    data = BenchmarkRuns(tuple(runs), (max((run.budget for run in runs), default=1),))
    labels = contenders(data.frame)
    compared, several_seeds = len(labels) > 1, len({run.seed for run in runs}) > 1
    html = render(
        "report.html",
        title=title,
        subtitle=_subtitle(runs),
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
    Path(path).write_text(html, encoding="utf-8")
    return Path(path)


def bench_html(data: BenchmarkRuns, title: str) -> str:
    """Return a page with all tables and figures of a benchmark."""
    extent = ((data.problems, "problem"), (data.labels, "method"), (data.runs, "run"))
    return render(
        "benchmark.html",
        title=title,
        subtitle=" · ".join(counted(len(things), noun) for things, noun in extent),
        tables=benchmark_tables(data),
        groups=[
            (profiles_figure(data.frame, list(ranks.means.index)), ranks) for ranks in data.groups
        ],
        profile_note=PROFILE_NOTE,
        curves=curves_figure(data.regrets),
        several_seeds=len({run.seed for run in data.runs}) > 1,
    )


def comparison_html(runs: Sequence[Run]) -> str:
    """Return summary and tables of a comparison, for a notebook."""
    return render("comparison.html", text=summary_text(runs), tables=comparison_tables(runs))


def _subtitle(runs: Sequence[Run]) -> str:
    if not runs:
        return "No runs."
    problems, labels, seeds = (
        {getattr(run, name) for run in runs} for name in ("problem", "label", "seed")
    )
    extent = f"{counted(len(labels), 'method')}, {counted(len(seeds), 'seed')}"
    if len(problems) > 1:
        return f"{len(problems)} problems · {extent}"
    goal = Goal(next((run.goal for run in runs if run.goal), {}))
    return f"{runs[0].problem} · {goal.words()} · {extent}"


def _designs(runs: Sequence[Run]) -> Table:
    fronts = bool(runs) and all(Goal(run.goal).kind == "hypervolume" for run in runs if run.goal)
    if fronts:
        return _front_designs(runs)
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


def _front_designs(runs: Sequence[Run]) -> Table:
    """Return designs spread over the front of each run, sorted by the first criterion."""
    rows = tuple(
        (run.problem, run.label, run.seed, find.number, find.plausibility,
         ", ".join(f"{v:.5g}" for v in find.y[:6]) + (", …" if len(find.y) > 6 else ""),
         find.text or None)
        for run in runs
        for find in run.finds
    )  # fmt: skip
    columns = ("problem", "method", "seed", "trial", "plausibility", "outputs", "design")
    return Table(columns, rows, "Designs of the Pareto front of each run")
