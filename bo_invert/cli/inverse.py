"""``bo-invert solutions``, ``posterior``: all designs that meet a target."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bo_invert.cli.options import ProblemOption, Settings, Shape, Storage, StudyName, Token
from bo_invert.cli.output import emit, say, trial_records, why_nothing
from bo_invert.cli.tables import opened

ModelTolerance = Annotated[
    float | None,
    typer.Option(
        help="Tolerance of a target without one, in the units of the outputs; default: 1 % of the "
        "least standard deviation of the outputs."
    ),
]


def solutions(
    name: StudyName,
    storage: Storage,
    count: Annotated[int, typer.Option(min=1, help="Largest number of solutions.")] = 8,
    distance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Root mean square difference of the coordinates from which two designs of a "
            "branch are different; default: 0.02 in a box, 0.2 in a latent.",
        ),
    ] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """List different solutions, one of each branch first.

    The judge of the problem is called once for each; no ledger counts this.
    """
    study = opened(name, storage, problem, settings, token)
    found = study.solutions(count, distance=distance)
    if not found:
        say(why_nothing(study.journal))
        raise typer.Exit(1)
    rows: list[dict[str, Any]] = []
    for record, one in zip(
        trial_records(study.journal, [one.trial for one in found], how), found, strict=True
    ):
        more = {"branch": one.branch, "plausibility": one.plausibility}
        judged = {} if one.opinion is None else {"judged": one.judged, "upheld": one.upheld}
        rows.append({"number": record.pop("number"), **more, **judged, **record})
    empty = {key for key in rows[0] if all(row[key] is None for row in rows)}
    emit(rows, how, empty | _HIDDEN)
    for note in found.table().notes:
        say(note)


def posterior(
    name: StudyName,
    storage: Storage,
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 1000,
    tolerance: ModelTolerance = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of Gaussian measurement noise of the target, instead of a "
            "tolerance."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the samples.")] = 0,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Sample the designs that meet the target, without a call.

    Each sample has its predicted outputs, the probability to meet the target and its branch.
    """
    study = opened(name, storage, problem, settings, token)
    found = study.posterior(count, tolerance=tolerance, noise=noise, seed=seed)
    say(str(found))
    emit(found.records(), how)


_HIDDEN = {"state", "origin", "ask", "loss", "calls", "gradients", "seconds", "reason"}
"""Columns of trials that a table of solutions omits."""
