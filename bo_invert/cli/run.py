"""``bo-invert run``: a study of a problem."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from bo_invert.cli.best import decoded, luck, second_opinion
from bo_invert.cli.options import (
    Batch,
    Calls,
    Folder,
    OptionalStorage,
    Options,
    ProblemName,
    Quiet,
    Settings,
    Shape,
    parse_settings,
)
from bo_invert.cli.output import Format, best_record, emit, reasons, say, study_record, why_nothing
from bo_invert.cli.report import write_report_folder
from bo_invert.errors import InvalidInputError
from bo_invert.problems.loading import load_problem, problem_title
from bo_invert.storage.open import open_store
from bo_invert.strategies.base import from_spec
from bo_invert.study.study import Study
from bo_invert.types import JSON


def run(
    problem: ProblemName,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy name; default: auto, or that of the study.")
    ] = None,
    option: Options = None,
    budget: Calls = 100,
    batch: Batch = 1,
    executor: Annotated[
        str | None,
        typer.Option(
            help="auto, processes, threads, dask or slurm; default: sequential in this process."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Time limit of one attempt in seconds; requires --executor."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed; default: 0, or that of the study.")
    ] = None,
    storage: OptionalStorage = None,
    name: Annotated[
        str | None, typer.Option(help="Study name; default: from problem, strategy and seed.")
    ] = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = Format.table,
    quiet: Quiet = False,
) -> None:
    """Search for inputs of PROBLEM. With --storage, rerun the same command to resume."""
    chosen = None
    if strategy is not None or option:
        chosen = from_spec(strategy or "auto", **parse_settings(option, "--option"))
    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage)
    name = name or f"{problem_title(problem)}-{strategy or 'auto'}-{seed or 0}"
    if name in store.names():
        study = Study.open(name, store, problem=made)
        _check_same(study, None if chosen is None else chosen.spec(), seed)
        say(f"resuming study {name!r}: {study.spent}")
    else:
        study = Study.create(name, made, chosen or "auto", seed or 0, store)
    try:
        study.run(budget, batch=batch, executor=executor, progress=not quiet, timeout=timeout)
    except KeyboardInterrupt:
        _explain_interruption(study, storage)
        raise typer.Exit(130) from None
    found = study.best
    for line in [*reasons(study.journal), *luck(study)]:
        say(line)
    if out is not None:
        write_report_folder(study, out, budget)
    record = study_record(study.journal, found, how) | best_record(study.journal, found)
    emit(record | decoded(study, how) | second_opinion(study, how), how)
    if found is None:
        say(why_nothing(study.journal))
        raise typer.Exit(1)


def _check_same(study: Study, spec: JSON, seed: int | None) -> None:
    """Check that the given strategy and seed are those of the study."""
    recorded = study.strategy.spec()
    for what, given, known in (("strategy", spec, recorded), ("seed", seed, study.seed)):
        if given not in (None, known):
            raise InvalidInputError(
                f"study {study.name!r} was created with {what} {known}, got {given}. "
                "Choose another --name."
            )


def _explain_interruption(study: Study, storage: str | None) -> None:
    number = len(study.trials)
    say(f"\nbo-invert: interrupted; study {study.name!r} has {number} trials ({study.spent})")
    if storage is None:
        say("It was in memory only. With --storage sqlite:///runs.db the same command resumes.")
    else:
        options = f"--storage {quote(storage)} --name {quote(study.name)}"
        say(f"All results are saved. Rerun the same command to resume ({options}).")
