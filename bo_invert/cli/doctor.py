"""``bo-invert doctor``: checks of a problem before a study, and advice on strategies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from bo_invert.cli.messages import command_text
from bo_invert.cli.options import ProblemName, Quiet, Settings, parse_settings
from bo_invert.cli.output import say, show
from bo_invert.errors import InvalidInputError
from bo_invert.problem_doctor.doctor import doctor as check
from bo_invert.problem_doctor.findings import DoctorReport
from bo_invert.problems.loading import load_problem
from bo_invert.problems.problem import Problem
from bo_invert.storage.open import open_store
from bo_invert.study.study import Study


def doctor(
    problem: ProblemName,
    calls: Annotated[
        int,
        typer.Option(
            min=0,
            help="Maximum of oracle calls, gradients included; 5 cover the main checks, 0 uses "
            "the trials of --study alone.",
        ),
    ] = 30,
    timeout: Annotated[
        float | None, typer.Option(help="Time limit of one call in seconds.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the tested designs.")] = 0,
    settings: Settings = None,
    storage: Annotated[str | None, typer.Option(help="Database URL of --study.")] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Study whose trials replace calls; it records new calls."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check a problem before a study.

    Calls the oracle to check shapes, noise, time, failures and gradients, then advises a strategy.
    The exit code is 1 if a study would fail or give misleading results.
    """
    if (study is None) != (storage is None):
        raise InvalidInputError("--study and --storage must be given together")
    made = load_problem(problem, parse_settings(settings, "--set"))
    record = None if study is None or storage is None else _study(study, storage, made)
    report = check(made, calls, seed=seed, timeout=timeout, study=record, progress=not quiet)
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    show(text if as_json else repr(_with_options(report)))
    if record is not None:
        say(f"recorded in study {record.name!r}: {record.spent}")
    if report.interrupted:
        raise typer.Exit(130)
    if report.hopeless:
        raise typer.Exit(1)


def _with_options(report: DoctorReport) -> DoctorReport:
    """Return a report whose findings name options of the command line."""
    found = [
        replace(one, message=command_text(one.message), remedy=command_text(one.remedy))
        for one in report.findings
    ]
    return replace(report, findings=tuple(found))


def _study(name: str, storage: str, problem: Problem) -> Study:
    """Open the study of this name, or create it."""
    store = open_store(storage)
    known = name in store.names()
    return Study.open(name, store, problem) if known else Study.create(name, problem, storage=store)
