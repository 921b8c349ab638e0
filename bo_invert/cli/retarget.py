"""``bo-invert retarget``, ``predicted``, ``tolerances``: further targets, limits of a design."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Any

import typer

from bo_invert.cli.inverse import ModelTolerance
from bo_invert.cli.options import (
    ProblemOption,
    Settings,
    Shape,
    Storage,
    StudyName,
    Token,
    parse_settings,
)
from bo_invert.cli.output import emit, say, why_nothing
from bo_invert.cli.tables import opened
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.study.study import Study
from bo_invert.study.tolerances import CHECK
from bo_invert.types import Trial


def retarget(
    name: StudyName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Name of the new study.")],
    storage: Storage,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT=VALUE",
            help="Wanted value of an output, or range such as y=[1,2]; repeatable.",
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OUTPUT=]VALUE",
            help="Tolerance of the target, or of one output, repeatable; default: as before.",
        ),
    ] = None,
    minimize: Annotated[
        str | None, typer.Option(metavar="OUTPUT", help="Output to minimise, instead of a target.")
    ] = None,
    maximize: Annotated[
        str | None, typer.Option(metavar="OUTPUT", help="Output to maximise, instead of a target.")
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE", help="Bound such as 'lift >= 2.5', repeatable; default: as before."
        ),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy; default: that of the study.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed; default: the next.")] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    token: Token = None,
) -> None:
    """Create a study for another target, with all observations of a study and without a call.

    `bo-invert run` or `worker` continues it with the problem of the first study.
    """
    study = opened(name, storage, problem, settings, token)
    wanted = _objective(target, minimize, maximize)
    if tolerance and not target:
        raise InvalidInputError("retarget: --tolerance needs --target")
    made = study.retarget(
        wanted, new, strategy=strategy, constraints=constraint or None,
        tolerance=_tolerance(tolerance), seed=seed,
    )  # fmt: skip
    command = f"bo-invert predicted {quote(new)} --storage {quote(storage)}"
    say(f"study {new!r} created with {len(made.trials)} trials of study {name!r}; next: {command}")


def predicted(
    name: StudyName,
    storage: Storage,
    tolerance: ModelTolerance = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the search.")] = 0,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Show the design that most probably meets the target, without a call.

    JSON and CSV hold the 90 % interval of each output.
    """
    study = opened(name, storage, problem, settings, token)
    found = study.predicted_solution(tolerance=tolerance, seed=seed)
    say(str(found).partition("\n")[0])
    record: dict[str, Any] = {"hit": found.hit, "trial": found.trial}
    record |= study.statement.domain.named(found.point, measured=True)
    for output, (low, middle, high) in found.outputs.items():
        record |= {output: middle, f"{output}.low": low, f"{output}.high": high}
    emit(record, how, ("trial",))


def tolerances(
    name: StudyName,
    storage: Storage,
    trial: Annotated[
        int | None,
        typer.Option(
            min=0, help="Trial that meets the target; default: the best one that is no check."
        ),
    ] = None,
    probability: Annotated[
        float, typer.Option(help="Share of the box that meets the target, in (0, 1).")
    ] = 0.95,
    calls: Annotated[
        int, typer.Option(min=0, help="Largest number of checks; 0: the model only.")
    ] = 20,
    executor: Annotated[str | None, typer.Option(help="Executor, see `run`.")] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Show by how much each parameter may move while the outputs stay within the target.

    Checks are trials of the study. The same command again makes no further ones.
    """
    study = opened(name, storage, problem, settings, token)
    design = _design(study) if trial is None else trial
    if design is None:
        say(why_nothing(study.journal))
        raise typer.Exit(1)
    found = study.tolerances(design, probability, calls, executor=executor)
    for line in (found.table().caption, *found.table().notes):
        say(line)
    named = [one for one in found.to_measure if isinstance(one, dict)]
    if how == "json":
        emit({**found.to_json(), "to_measure": named}, how)
        return
    for one in named:
        say("to measure: " + ", ".join(f"{key}={value}" for key, value in one.items()))
    emit(found.records(), how)


def _design(study: Study) -> Trial | None:
    """Return the best trial that is no check, so that the same command continues."""
    best = (one for one in study.history.ranking if one.feasible and CHECK not in one.query.meta)
    return next(best, None)


def _objective(
    target: list[str] | None, minimize: str | None, maximize: str | None
) -> Objective | dict[str, Any]:
    """Return the new objective, or the values of a target.

    Raises:
        InvalidInputError: There is none, or more than one.
    """
    given = [one for one in (target or None, minimize, maximize) if one is not None]
    if len(given) != 1:
        raise InvalidInputError("retarget: give --target, --minimize or --maximize, one of them")
    if minimize is not None:
        return Minimize(minimize)
    return parse_settings(target, "--target") if maximize is None else Maximize(maximize)


def _tolerance(given: list[str] | None) -> float | dict[str, Any] | None:
    """Return the tolerance of a target: one number, one by output, or None.

    Raises:
        InvalidInputError: It is neither.
    """
    if not given:
        return None
    if len(given) > 1 or "=" in given[0]:
        return parse_settings(given, "--tolerance")
    try:
        return float(given[0])
    except ValueError:
        raise InvalidInputError(
            f"--tolerance must be a number or OUTPUT=NUMBER, got {given[0]!r}"
        ) from None
