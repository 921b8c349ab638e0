"""``bo-invert run`` and ``report``: a study of a problem and its HTML report."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from bo_invert.benchmark.compare import Comparison, summarize
from bo_invert.cli.best import decoded, luck, second_opinion
from bo_invert.cli.csv_options import csv_style
from bo_invert.cli.front import front_record
from bo_invert.cli.options import (
    Batch,
    Calls,
    Find,
    Fix,
    Folder,
    Noisy,
    OptionalStorage,
    Options,
    ProblemName,
    ProblemOption,
    Quiet,
    ReportPath,
    Settings,
    Shape,
    Stop,
    Storage,
    StudyName,
    parse_settings,
    readable_study,
    strategy_options,
)
from bo_invert.cli.output import (
    best_record,
    emit,
    reasons,
    say,
    study_record,
    trial_records,
    why_nothing,
)
from bo_invert.errors import InvalidInputError
from bo_invert.problems.loading import load_problem, problem_title
from bo_invert.report.csv_export import records_csv
from bo_invert.storage.open import open_store
from bo_invert.strategies.base import from_spec
from bo_invert.study.retargeting import logged_problem
from bo_invert.study.study import Study
from bo_invert.types import JSON, State


def run(
    problem: ProblemName,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy name; default: auto, or that of the study.")
    ] = None,
    option: Options = None,
    noisy: Noisy = None,
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
    unpause: Annotated[
        bool, typer.Option("--unpause", help="Evaluate trials again that paused the study.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Study name; default: from problem, strategy and seed.")
    ] = None,
    stop: Stop = None,
    find: Find = None,
    fix: Fix = None,
    out: Folder = None,
    settings: Settings = None,
    how: Shape = "table",
    quiet: Quiet = False,
) -> None:
    """Search for inputs of PROBLEM. With --storage, rerun the same command to resume."""
    chosen = None
    options = strategy_options(option, noisy)
    if strategy is not None or options:
        chosen = from_spec(strategy or "auto", **options)
    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage)
    name = name or f"{problem_title(problem)}-{strategy or 'auto'}-{seed or 0}"
    if name in store.names():
        study = Study.open(name, store, problem=logged_problem(store.header(name), made))
        _check_same(study, None if chosen is None else chosen.spec(), seed)
        say(f"resuming study {name!r}: {study.spent}")
    else:
        study = Study.create(name, made, chosen or "auto", seed or 0, store)
    for trial in study.trials if unpause else ():
        if trial.state is State.LOST:
            study.retry(trial)
    try:
        study.run(
            budget, batch=batch, executor=executor, progress=not quiet, timeout=timeout, stop=stop,
            find=find, fixed=parse_settings(fix, "--fix"),
        )  # fmt: skip
    except KeyboardInterrupt:
        _explain_interruption(study, storage)
        raise typer.Exit(130) from None
    except SystemExit:  # SIGTERM
        _explain_interruption(study, storage)
        raise
    if study.ended:
        say(f"stopped: {study.ended}")
    found = study.best
    for line in [*reasons(study.journal), *luck(study)]:
        say(line)
    if out is not None:
        _write_report(study, out, budget)
    record = study_record(study.journal, found, how) | best_record(study.journal, found)
    record |= front_record(study.journal)
    emit(record | decoded(study, how) | second_opinion(study, how), how)
    if found is None:
        say(why_nothing(study.journal))
        raise typer.Exit(1)


def report(
    name: StudyName,
    storage: Storage,
    out: ReportPath = Path("report"),
    problem: ProblemOption = None,
    settings: Settings = None,
) -> None:
    """Write an offline HTML report of a study."""
    study = readable_study(name, storage, problem, settings)
    _write_report(study, out, None)


def _write_report(study: Study, out: Path, budget: int | None) -> None:
    """Write the report of a study to an HTML file, or with its data to a folder."""
    if out.suffix.lower() in (".html", ".htm"):
        say(f"written to {study.report(out)}")
        return
    out.mkdir(parents=True, exist_ok=True)
    study.report(out / "report.html")
    if study.problem is not None:
        run = summarize(study, budget=budget, keep=8)
        Comparison((run,)).save_data(out)
    trials = records_csv(trial_records(study.journal, study.trials), csv_style())
    (out / "trials.csv").write_text(trials, encoding="utf-8")
    say(f"written to {out}")


def _check_same(study: Study, spec: JSON, seed: int | None) -> None:
    """Check that the given strategy and seed are those of the study."""
    pairs = (("strategy", spec, study.strategy.spec()), ("seed", seed, study.seed))
    for what, given, known in pairs:
        if given not in (None, known):
            raise InvalidInputError(
                f"study {study.name!r} was created with {what} {known}, got {given}. "
                "Choose another --name."
            )


def _explain_interruption(study: Study, storage: str | None) -> None:
    known = f"study {study.name!r} has {len(study.trials)} trials ({study.spent})"
    hint = "It was in memory only. With --storage sqlite:///runs.db the same command resumes."
    if storage is not None:
        options = f"--storage {quote(storage)} --name {quote(study.name)}"
        hint = f"All results are saved. Rerun the same command to resume ({options})."
    say(f"\nbo-invert: interrupted; {known}\n{hint}")
