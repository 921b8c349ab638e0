"""``bo-invert bench``: strategies of this package and of others on the benchmark suite."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bo_invert.benchmark.progress import ProgressBar
from bo_invert.benchmark.results import Key, Results
from bo_invert.benchmark.resumable_runs import keys, run_missing
from bo_invert.benchmark.suite import (
    METHODS,
    SuiteProblem,
    calls_of,
    chosen_problems,
    known_methods,
    own_labels,
)
from bo_invert.cli.options import Jobs, Seeds
from bo_invert.cli.output import RESUME, say, show, split
from bo_invert.errors import InvalidInputError
from bo_invert.report.benchmark_tables import BenchmarkRuns, bench_markdown, fill_page
from bo_invert.report.html import bench_html
from bo_invert.report.table import Table, counted, terminal_width
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON


def bench(
    problems: Annotated[
        str | None, typer.Option(help="Comma-separated problems of the suite; default: all.")
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(help="Comma-separated labels of the suite, names or label=name:{JSON}."),
    ] = None,
    seeds: Seeds = 20,
    budget: Annotated[int, typer.Option(min=1, help="Calls of each run.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Number of concurrent trials.")] = 4,
    jobs: Jobs = 2,
    results: Annotated[
        Path, typer.Option(help="Folder of results; existing results are not recomputed.")
    ] = Path("bench-results"),
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Minutes after which no new run starts; rerun the command to resume."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Label tested against all others; default: auto, or the first."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html and tables.md.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Markdown page to update between <!-- tables --> and <!-- end -->."),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List problems, methods and existing results only.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show progress and runs.")] = False,
) -> None:
    """Run the benchmark suite.

    Compares this package's strategies with those of other packages. Rerun the same command to
    resume.
    """
    sources = chosen_problems(None if problems is None else split(problems))
    methods = known_methods() if strategies is None else parse_methods(strategies)
    stored = Results(results)
    champion = against or ("auto" if "auto" in methods else next(iter(methods)))
    if champion not in methods:
        raise InvalidInputError(
            f"--against must be one of the methods {', '.join(methods)}, got {champion!r}"
        )
    wanted = keys(list(sources), methods, range(seeds), budget, batch)
    if listing:
        there = stored.done(wanted)
        caption = f"Existing runs of {seeds} each ({budget} calls, batch {batch})"
        _list(sources, methods, [key for key in wanted if key.text() in there], caption)
        return
    # The imports of an optimiser take as much memory as the warning complains about.
    warnings.filterwarnings("ignore", message="A worker was restarted")
    extent = {"problem": len(sources), "method": len(methods), "seed": seeds, "call": budget}
    progress = ProgressBar(", ".join(counted(number, noun) for noun, number in extent.items()))
    try:
        with closing(progress):
            account = run_missing(
                sources, methods, range(seeds), budget=budget, batch=batch, results=stored,
                jobs=jobs, time_limit=time_limit, observer=None if quiet else progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        say(f"bo-invert: interrupted; {RESUME}")
        raise typer.Exit(130) from None
    for trouble, count in Counter(account.troubles).items():
        say(f"bo-invert: {trouble}" + (f" ({count} runs)" if count > 1 else ""))
    left = f"; {account.left} left, {RESUME}" if account.left else ""
    done, total = account.total - account.left, counted(account.total, "run")
    say(f"{done} of {total} in {results}, {account.done} new{left}")
    if report is not None or page is not None:
        runs = tuple(stored.runs(wanted).values())
        optima = {name: problem.optimum for name, problem in sources.items()}
        data = BenchmarkRuns(runs, calls_of(budget), champion, optima, own_labels(methods))
        _write(data, report, page)


def parse_methods(text: str) -> dict[str, JSON]:
    """Parse labels and specs such as ``auto,optuna gp,mine=gp:{"warp": true}``.

    A label of the suite has the suite's spec. A name alone is its own label. A name with options
    and no label has the whole text as its label.

    Raises:
        InvalidInputError: options are not a JSON object, a label is duplicate, or a strategy or
            option does not exist.
    """
    methods: dict[str, JSON] = {}
    for part in _split_outside_braces(text):
        head, colon, options = part.partition(":")
        label, equals, name = head.partition("=")
        label, name = (label.strip(), name.strip()) if equals else (part if colon else head, head)
        if label in methods:
            raise InvalidInputError(
                f"--strategies: {label!r} is given twice. Distinguish them: label=name:{{...}}"
            )
        spec: JSON = METHODS.get(name, {"name": name})
        if colon:
            try:
                spec = spec | {"options": {**spec.get("options", {}), **json.loads(options)}}
            except (ValueError, TypeError) as error:
                raise InvalidInputError(
                    f'--strategies: options of {part!r} must be JSON such as {{"key": 1}}: {error}'
                ) from None
        from_spec(spec)
        methods[label] = spec
    if not methods:
        raise InvalidInputError(f"--strategies must name at least one strategy, got {text!r}")
    return methods


def _split_outside_braces(text: str) -> list[str]:
    parts: list[str] = []
    for piece in text.split(","):
        if parts and parts[-1].count("{") > parts[-1].count("}"):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return [part.strip() for part in parts if part.strip()]


def _write(data: BenchmarkRuns, report: Path | None, page: Path | None) -> None:
    if not data.runs:
        raise InvalidInputError("there are no results to report")
    tables = bench_markdown(data)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.html").write_text(bench_html(data, "Benchmark"), encoding="utf-8")
        (report / "tables.md").write_text(tables, encoding="utf-8")
        say(f"written to {report}")
    if page is not None:
        fill_page(page, tables)
        say(f"written to {page}")


def _list(
    sources: dict[str, SuiteProblem], methods: dict[str, JSON], done: Sequence[Key], caption: str
) -> None:
    found = Counter((key.label, key.problem) for key in done)
    abouts = tuple((name, problem.about) for name, problem in sources.items())
    rows = tuple(
        (label, json.dumps(spec), *(found[label, name] for name in sources))
        for label, spec in methods.items()
    )
    show(Table(("problem", "about"), abouts).text(terminal_width()) + "\n")
    runs = Table(("method", "spec", *sources), rows, caption, optional=("spec",))
    show(runs.text(terminal_width()))
