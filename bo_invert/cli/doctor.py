"""``bo-invert doctor``: looks at a problem before money is spent, and advises a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bo_invert.cli.options import Kept, ProblemName, Quiet, Settings, parse_settings
from bo_invert.cli.output import say, show
from bo_invert.errors import InvalidInputError

if TYPE_CHECKING:
    from bo_invert.problems.problem import Problem
    from bo_invert.study.study import Study


def doctor(
    problem: ProblemName,
    calls: Annotated[
        int,
        typer.Option(
            min=1,
            help="Of the oracle at most, gradients included; 5 do for the most important things.",
        ),
    ] = 30,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one call may take; then it ends.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the designs that are asked for.")] = 0,
    settings: Settings = None,
    storage: Kept = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="Keep the answers in this study of the storage, which is billed for the calls."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    quiet: Quiet = False,
) -> None:
    """Look at PROBLEM's space and oracle: shapes, noise, time, failures, gradients; and say which strategy suits.

    Exit code 1 if a study of it would fail or be misled.
    """
    import json

    from bo_invert.problem_doctor.doctor import doctor as look
    from bo_invert.problems.loading import load_problem

    if (study is None) != (storage is None):
        raise InvalidInputError(
            "--study and --storage go together: the study's name, and where it lives"
        )
    made = load_problem(problem, parse_settings(settings, "--set"))
    kept = None if study is None or storage is None else _kept(study, storage, made)
    found = look(made, calls, seed=seed, timeout=timeout, study=kept, progress=not quiet)
    show(
        json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        if as_json
        else repr(found)
    )
    if kept is not None:
        say(f"kept in study {kept.name!r}: {kept.spent}")
    if found.interrupted:
        raise typer.Exit(130)
    if found.hopeless:
        raise typer.Exit(1)


def _kept(name: str, storage: str, problem: Problem) -> Study:
    """The study of this name; a new one if there is none."""
    from bo_invert.storage.open import open_store
    from bo_invert.study.study import Study

    store = open_store(storage)
    if name in store.names():
        return Study.open(name, store, problem=problem)
    return Study.create(name, problem, storage=store)
