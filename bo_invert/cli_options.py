"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli_output import Format


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
    typer.Argument(metavar="PROBLEM", help="digits, arm, sine, shell, hartmann6, ackley10 ... or file.py:name."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the problem; repeatable.")
]
Options = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the strategy; repeatable.")]
StudyName = Annotated[str, typer.Argument(metavar="NAME", help="Of the study.")]
Storage = Annotated[
    str,
    typer.Option(
        help="Where studies live: sqlite:///runs.db, runs.db, postgresql+psycopg://... or the URL of a server "
        "(with $BO_INVERT_TOKEN)."
    ),
]
Shape = Annotated[Format, typer.Option("--format", help="Of what is printed.")]
Folder = Annotated[Path | None, typer.Option("--out", help="Folder for report.html, data and tables.")]
Calls = Annotated[int, typer.Option(min=1, help="Calls: oracle values plus gradients, failures included.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Batch = Annotated[int, typer.Option(min=1, help="Trials under way at once.")]
Seed = Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")]
Kept = Annotated[str | None, typer.Option("--storage", help="Keeps all trials, so that the same line resumes.")]
ReportFolder = Annotated[Path, typer.Option("--out", help="Folder for report.html, data and tables.")]
