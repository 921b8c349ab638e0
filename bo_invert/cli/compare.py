"""``bo-invert compare``: strategies on the same problems."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from bo_invert.benchmark.compare import compare as compare_methods
from bo_invert.cli.options import (
    Batch,
    Calls,
    Folder,
    Jobs,
    OptionalStorage,
    Quiet,
    Seeds,
    Settings,
    Shape,
    parse_settings,
)
from bo_invert.cli.output import RESUME, emit, require_result, say, show, split
from bo_invert.errors import InvalidInputError
from bo_invert.problems.loading import load_problem, load_varied_problem, problem_title
from bo_invert.report.table import terminal_width


def compare(
    problems: Annotated[
        list[str], typer.Argument(help="Ready problems or file.py:name.", metavar="PROBLEM...")
    ],
    strategies: Annotated[
        str, typer.Option(help="Comma-separated strategy names.")
    ] = "auto,gp,cmaes,prior,random",
    seeds: Seeds = 5,
    budget: Calls = 100,
    batch: Batch = 1,
    jobs: Jobs = 1,
    vary: Annotated[
        str | None, typer.Option(help="Option of the problem that takes the value of the seed.")
    ] = None,
    storage: OptionalStorage = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = "table",
    quiet: Quiet = False,
) -> None:
    """Compare strategies on the same problems, seeds and budget."""
    given = parse_settings(settings, "--set")
    sources: dict[str, Any] = {}
    for source in problems:
        title = problem_title(source)
        if title in sources:
            raise InvalidInputError(f"problem {title!r} is given twice")
        sources[title] = load_problem(source, given if vary is None else {**given, vary: 0})
        if vary is not None:
            sources[title] = partial(load_varied_problem, source, given, vary)
    try:
        comparison = compare_methods(
            sources,
            split(strategies),
            budget,
            range(seeds),
            batch=batch,
            jobs=jobs,
            progress=not quiet,
            storage=storage,
        )
    except KeyboardInterrupt:
        hint = "with --storage sqlite:///runs.db the same command would resume"
        say(f"bo-invert: interrupted; {hint if storage is None else RESUME}")
        raise typer.Exit(130) from None
    if out is not None:
        say(f"written to {comparison.save(out)}")
    if how == "table":
        show(comparison.table(terminal_width()))
    else:
        emit(comparison.records(), how)
    require_result(comparison)
