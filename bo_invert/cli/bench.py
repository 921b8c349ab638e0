"""``bo-invert bench``: the referee's command."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bo_invert.cli.output import say, split
from bo_invert.errors import InvalidInputError

if TYPE_CHECKING:
    from bo_invert.benchmark.results import Results
    from bo_invert.benchmark.suite import SuiteProblem
    from bo_invert.report.benchmark_tables import BenchmarkRuns
    from bo_invert.types import JSON


def bench(
    problems: Annotated[
        str | None, typer.Option(help="Of the suite, separated by commas; default: all.")
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Labels of the suite, names, or label=name:{JSON}, separated by commas; default: the suite's."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, ...")
    ] = 20,
    budget: Annotated[int, typer.Option(min=1, help="Calls of each run.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Trials under way at once.")] = 4,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 2,
    results: Annotated[
        Path, typer.Option(help="Folder of the results; what is there is not run again.")
    ] = Path("bench-results"),
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Minutes after which nothing new is begun; the same line resumes."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Label that is tested against each other one; default: auto, or the first."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html and tables.md of what is there, after the runs."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Markdown page whose place between <!-- tables --> and <!-- end --> is filled."
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show problems, methods and what is there; run nothing.")
    ] = (False),
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar, and no line per run.")] = False,
) -> None:
    """Our methods and their peers on the public suite, on one ledger. The same line resumes."""
    from bo_invert.benchmark.progress import Progress
    from bo_invert.benchmark.results import Results
    from bo_invert.benchmark.runner import keys, referee
    from bo_invert.benchmark.suite import calls_of, chosen_problems, known_methods, own_labels
    from bo_invert.report.benchmark_tables import BenchmarkRuns
    from bo_invert.report.table import counted

    sources = chosen_problems(None if problems is None else split(problems))
    methods = known_methods() if strategies is None else parse_methods(strategies)
    kept = Results(results)
    champion = against or ("auto" if "auto" in methods else next(iter(methods)))
    if champion not in methods:
        raise InvalidInputError(
            f"--against {champion!r}: it is none of the methods {', '.join(methods)}"
        )
    if listing:
        _list(sources, methods, kept, seeds, budget, batch)
        return
    warnings.filterwarnings(
        "ignore", message="A worker was restarted"
    )  # an optimiser's imports take as much memory
    extent = (
        (len(sources), "problem"),
        (len(methods), "method"),
        (seeds, "seed"),
        (budget, "call"),
    )
    progress = Progress(", ".join(counted(number, noun) for number, noun in extent))
    try:
        with closing(progress):
            account = referee(
                sources, methods, range(seeds), budget=budget, batch=batch, results=kept, jobs=jobs,
                time_limit=time_limit, spectator=None if quiet else progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        say("bo-invert: interrupted; the same line resumes")
        raise typer.Exit(130) from None
    for trouble, count in Counter(account.troubles).items():
        say(f"bo-invert: {trouble}" + (f" ({count} runs)" if count > 1 else ""))
    left = f"; {account.left} left, the same line resumes" if account.left else ""
    say(
        f"{account.total - account.left} of {counted(account.total, 'run')} in {results}, {account.done} new{left}"
    )
    if report is not None or page is not None:
        runs = tuple(kept.runs(keys(list(sources), methods, range(seeds), budget, batch)).values())
        optima = {name: problem.optimum for name, problem in sources.items()}
        _write(
            BenchmarkRuns(runs, calls_of(budget), champion, optima, own_labels(methods)),
            report,
            page,
        )


def parse_methods(text: str) -> dict[str, JSON]:
    """Labels to specs, from ``auto,optuna gp,mine=gp:{"warp": true}``.

    A label of the suite stands for the suite's spec. A name alone is its own label; with options its label is all of
    it, unless one is given.

    Raises:
        InvalidInputError: the options are no JSON object, a label is there twice, or no strategy has such a name or option.
    """
    from bo_invert.benchmark.suite import METHODS
    from bo_invert.strategies.base import from_spec

    methods: dict[str, JSON] = {}
    for part in _split_outside_braces(text):
        head, colon, options = part.partition(":")
        label, equals, name = head.partition("=")
        label, name = (label.strip(), name.strip()) if equals else (part if colon else head, head)
        if label in methods:
            raise InvalidInputError(
                f"--strategies: {label!r} is given twice; tell them apart with label=name:{{...}}"
            )
        spec: JSON = METHODS.get(name, {"name": name})
        if colon:
            try:
                given = json.loads(options)
                spec = {"name": spec["name"], "options": {**spec.get("options", {}), **given}}
            except (ValueError, TypeError) as error:
                raise InvalidInputError(
                    f'--strategies: {part!r}: options are JSON, like {{"key": 1}}: {error}'
                ) from None
        from_spec(spec)
        methods[label] = spec
    if not methods:
        raise InvalidInputError("--strategies: at least one is needed")
    return methods


def _split_outside_braces(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for sign in text:
        depth += (sign in "{[") - (sign in "}]")
        if sign == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += sign
    return [part.strip() for part in [*parts, current] if part.strip()]


def _write(data: BenchmarkRuns, report: Path | None, page: Path | None) -> None:
    from bo_invert.report.benchmark_page import bench_html, bench_markdown, fill_page

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
    sources: dict[str, SuiteProblem],
    methods: dict[str, JSON],
    kept: Results,
    seeds: int,
    budget: int,
    batch: int,
) -> None:
    from bo_invert.benchmark.runner import keys
    from bo_invert.report.table import Table

    wanted = keys(list(sources), methods, range(seeds), budget, batch)
    done = kept.done(wanted)
    there = [(key.label, key.problem) for key in wanted if key.text() in done]
    rows = tuple(
        (label, json.dumps(spec), *(there.count((label, name)) for name in sources))
        for label, spec in methods.items()
    )
    print(
        Table(
            ("problem", "about"), tuple((name, problem.about) for name, problem in sources.items())
        ).text()
    )
    caption = f"Runs that are there, of {seeds} each ({budget} calls, batch {batch})"
    print("\n" + Table(("method", "spec", *sources), rows, caption).text())
