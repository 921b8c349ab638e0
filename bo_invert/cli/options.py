"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_invert import registry
from bo_invert.cli.output import Format
from bo_invert.errors import InvalidInputError

if TYPE_CHECKING:
    from bo_invert.problems.problem import Problem
    from bo_invert.storage.base import Store


class Goal(StrEnum):
    """What to do with a property that has no target."""

    minimize = "minimize"
    maximize = "maximize"


class Regressor(StrEnum):
    """What the demo inverts."""

    forest = "forest"
    network = "network"


ProblemName = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEM", help="digits, arm, sine, shell, hartmann6, ackley10 ... or file.py:name."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the problem; repeatable."),
]
Options = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the strategy; repeatable.")
]
StudyName = Annotated[str, typer.Argument(metavar="NAME", help="Of the study.")]
Storage = Annotated[
    str,
    typer.Option(
        help="Where studies live: sqlite:///runs.db, runs.db, postgresql+psycopg://... or the URL of a server "
        "(with $BO_INVERT_TOKEN)."
    ),
]
Shape = Annotated[Format, typer.Option("--format", help="Of what is printed.")]
Folder = Annotated[
    Path | None, typer.Option("--out", help="Folder for report.html, data and tables.")
]
Calls = Annotated[
    int, typer.Option(min=1, help="Calls: oracle values plus gradients, failures included.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Batch = Annotated[int, typer.Option(min=1, help="Trials under way at once.")]
Seed = Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")]
Kept = Annotated[
    str | None, typer.Option("--storage", help="Keeps all trials, so that the same line resumes.")
]
ReportFolder = Annotated[
    Path, typer.Option("--out", help="Folder for report.html, data and tables.")
]


def parse_settings(pairs: Iterable[str] | None, flag: str) -> dict[str, Any]:
    """``key=value`` pairs; values are read as JSON where they can be (``3``, ``[0.1, 0.2]``, ``true``), else as text.

    Raises:
        InvalidInputError: a pair has no equals sign; ``flag`` says where it was written.
    """
    settings = {}
    for pair in pairs or ():
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise InvalidInputError(f"{flag} {pair!r}: expected key=value")
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings


def stored_problem(
    store: Store, name: str, source: str | None, settings: Mapping[str, Any]
) -> Problem:
    """The problem of a stored study: from ``source``, or from its name in the log where it is a ready one.

    Raises:
        InvalidInputError: it is none and no source is given, or there is no such problem.
        StudyNotFoundError: there is no such study.
    """
    from bo_invert.problems.loading import load_problem

    known = store.header(name)["problem_name"]
    if source is None and known not in registry.names("problems"):
        raise InvalidInputError(
            f"study {name!r} is about {known!r}, which is no ready problem; pass --problem file.py:name"
        )
    return load_problem(source or known, settings)
