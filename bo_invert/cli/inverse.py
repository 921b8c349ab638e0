"""``bo-invert solutions``, ``posterior``, ``verdict``, ``reachable``: inversion of a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bo_invert.cli.csv_options import given_decimal
from bo_invert.cli.options import (
    ProblemOption,
    Settings,
    Shape,
    Storage,
    StudyName,
    Token,
    parse_settings,
)
from bo_invert.cli.output import emit, say, split, trial_records, why_nothing
from bo_invert.cli.tables import opened
from bo_invert.errors import InvalidInputError
from bo_invert.study.cell_numbers import NumberReader
from bo_invert.study.posterior import require_target
from bo_invert.study.table_designs import table_numbers

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


def verdict(
    name: StudyName,
    storage: Storage,
    alpha: Annotated[
        float, typer.Option(help="Largest probability of an unreachable target, up to 0.5.")
    ] = 0.05,
    tolerance: ModelTolerance = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Judge whether the target can be reached, without a call.

    `bo-invert run --stop verdict` also tries the designs that most probably meet the target.
    """
    study = opened(name, storage, problem, settings, token)
    found = study.verdict(alpha=alpha, tolerance=tolerance)
    say(f"study {name!r}: {found.reason}")
    record: dict[str, Any] = {
        "study": name, "status": found.status, "probability": found.probability,
        "calls": found.calls, "limited_by": "; ".join(found.limited_by), "why": found.why,
    }  # fmt: skip
    near = found.nearest
    if near is not None:
        record |= {"trial": near.trial, "excess": near.excess}
        values = found.domain.named(near.point, measured=True)
        record |= {f"nearest.{key}": value for key, value in values.items()}
        for output, value in near.outputs.items():
            record |= {
                f"wanted.{output}": near.wanted.get(output), f"nearest.{output}": value,
                f"std.{output}": near.spread.get(output),
            }  # fmt: skip
    emit(record, how, {key for key, value in record.items() if value in (None, "")})


def reachable(
    name: StudyName,
    storage: Storage,
    values: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT=VALUE,...",
            help="One target, such as y=0.7 or y=0.7,z=2; or a CSV file with one target per row "
            "and one column per output. Repeatable. Default for one and two outputs: a grid.",
        ),
    ] = None,
    tolerance: ModelTolerance = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Estimate for many targets whether they can be reached, without a call.

    --decimal holds for a CSV file of targets, too.
    """
    study = opened(name, storage, problem, settings, token)
    names = require_target(study.statement, "reachable").entries.wanted_names
    targets = [one for text in values or () for one in _targets(text, names)]
    found = study.reachable(targets or None, tolerance=tolerance)
    widths = zip(found.names, found.tolerances.tolist(), strict=True)
    say("tolerances: " + ", ".join(f"{output} {width:.3g}" for output, width in widths))
    if found.why:
        say(found.why)
    emit(found.records(), how)


def _targets(text: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the targets of one ``--values``: a target, or those of a file.

    Raises:
        InvalidInputError: The file has no column of an output, no number, or no row.
    """
    if "=" in text:
        return [parse_settings(split(text), "--values")]
    found = table_numbers(Path(text), names, "--values", NumberReader(given_decimal()))
    if not found:
        raise InvalidInputError(f"--values: {text} must have at least one row below its header")
    return found


_HIDDEN = {"state", "origin", "ask", "loss", "calls", "gradients", "seconds", "reason"}
"""Columns of trials that a table of solutions omits."""
