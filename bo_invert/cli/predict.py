"""``bo-invert predict``, ``outlook``, ``polish``: model of a study, refinement of its best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli.csv_options import given_decimal
from bo_invert.cli.options import (
    Batch,
    ProblemOption,
    Quiet,
    Settings,
    Shape,
    Storage,
    StudyName,
    Token,
)
from bo_invert.cli.output import best_record, emit, say, study_record
from bo_invert.cli.tables import opened

Points = Annotated[
    Path, typer.Argument(metavar="POINTS.csv", help="CSV file with one column per parameter.")
]


def predict(
    name: StudyName,
    points: Points,
    storage: Storage,
    expected: Annotated[
        bool, typer.Option("--expected", help="Expected outputs, without noise of the oracle.")
    ] = False,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Predict outputs at the designs of a CSV file, without a call.

    JSON and CSV hold mean, standard deviation and 5, 50 and 95 % quantiles of each output.
    --decimal holds for POINTS.csv, too.
    """
    study = opened(name, storage, problem, settings, token)
    found = study.predict(points, noise=not expected, decimal=given_decimal())
    say(f"study {name!r}: {found.about}")
    for note in found.notes:
        say(note)
    records = found.records()
    hidden = [key for key in records[0] if key.endswith((".mean", ".std"))]
    emit(records, how, hidden)


def outlook(
    name: StudyName,
    storage: Storage,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Estimate the gain that further calls can bring, with a 95 % bound."""
    study = opened(name, storage, problem, settings, token)
    found = study.outlook()
    emit({**found.to_json(), "ended": study.ended, "text": str(found)}, how)


def polish(
    name: StudyName,
    storage: Storage,
    budget: Annotated[int, typer.Option(min=1, help="Further calls.")] = 20,
    batch: Batch = 1,
    executor: Annotated[str | None, typer.Option(help="Executor, see `run`.")] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    quiet: Quiet = False,
    token: Token = None,
) -> None:
    """Refine the best point of a study by further calls."""
    study = opened(name, storage, problem, settings, token)
    study.polish(budget, batch=batch, executor=executor, progress=not quiet)
    best = study.best
    emit(study_record(study.journal, best, how) | best_record(study.journal, best), how)
