"""``bo-invert export``, ``import``, ``backup`` and ``mlflow``: copies of studies elsewhere."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli.options import Storage, StudyName, Token
from bo_invert.cli.output import say, show
from bo_invert.errors import StudyDamagedError
from bo_invert.report.mlflow.tracking import mlflow_tracking, to_mlflow
from bo_invert.storage.backup import backup as copy_database
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.open import open_existing, open_store
from bo_invert.storage.reader import readers
from bo_invert.storage.sql import SqlStore
from bo_invert.study.study import Study


def export(
    name: StudyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output file, e.g. study.jsonl.")],
    storage: Storage,
    intact: Annotated[
        bool,
        typer.Option("--intact", help="Of a damaged study, write the events before the damage."),
    ] = False,
) -> None:
    """Write a study to a JSON-lines file."""
    count = export_study(open_existing(storage), name, file, intact=intact)
    say(f"{count} events written to {file}")


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File written by `bo-invert export`.")
    ],
    storage: Storage,
    name: Annotated[
        str | None, typer.Option(help="Study name; default: the name in the file.")
    ] = None,
) -> None:
    """Import a study from a file into a storage."""
    say(f"study {import_study(open_store(storage), file, name)!r} imported into {storage}")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Copy of the database.")],
    storage: Annotated[str, typer.Option(help="URL of an SQLite database, or file ending in .db.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing FILE.")
    ] = False,
) -> None:
    """Copy an SQLite database while programs use it.

    The copy is one complete file. Damaged studies are reported, and copied as they are.
    """
    copy_database(open_existing(storage), file, overwrite=overwrite)
    found = list(readers(SqlStore(file, read_only=True)))
    damaged = [one for _, one in found if isinstance(one, StudyDamagedError)]
    for error in damaged:
        say(f"bo-invert: {error}")
    studies = "1 study" if len(found) == 1 else f"{len(found)} studies"
    say(f"{studies} copied to {file}, {len(damaged)} damaged")
    if damaged:
        raise typer.Exit(1)


def mirror(
    name: StudyName,
    storage: Annotated[str, typer.Option(help="Database URL, file ending in .db, or server URL.")],
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="MLFLOW_TRACKING_URI",
            help="MLflow address, e.g. http://host:5000 or sqlite:///mlflow.db.",
        ),
    ] = None,
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment.")] = "bo-invert",
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep updating until SIGTERM or Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between updates with --follow.")
    ] = 5.0,
    token: Token = None,
) -> None:
    """Copy a study to MLflow.

    Prints the id of the MLflow run. A repeated command adds what is new.
    """
    study = Study.open(name, storage, token=token)
    if not follow:
        show(to_mlflow(study, experiment, tracking_uri))
        return
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    say(f"bo-invert: copying study {name!r} to MLflow until Ctrl-C")
    with mlflow_tracking(study, experiment, tracking_uri, every=every) as tracking:
        while not ended.wait(1.0):  # a signal just before an unlimited wait would not end it
            pass
        for number in (signal.SIGINT, signal.SIGTERM):
            # A second signal ends the process without the final update.
            signal.signal(number, signal.SIG_DFL)
    if tracking.error is not None:
        raise tracking.error
    show(str(tracking.run_id))
