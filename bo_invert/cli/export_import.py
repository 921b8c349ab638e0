"""``bo-invert export`` and ``import``: a study as one file."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli.options import Storage, StudyName
from bo_invert.cli.output import say


def export(
    name: StudyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="For example study.jsonl.")],
    storage: Storage,
) -> None:
    """Write a study to one JSON-lines file."""
    from bo_invert.storage.jsonl_export import export_study
    from bo_invert.storage.open import open_store

    say(f"written to {file}: {export_study(open_store(storage), name, file)} events")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="That export wrote.")],
    storage: Storage,
    name: Annotated[str | None, typer.Option(help="Of the study; default: the one it had.")] = None,
) -> None:
    """Take a study from a file into a storage."""
    from bo_invert.storage.jsonl_export import import_study
    from bo_invert.storage.open import open_store

    say(f"study {import_study(open_store(storage), file, name)!r} is in {storage}")


def mirror(
    name: StudyName,
    storage: Annotated[
        str, typer.Option(help="Where it lives: sqlite:///runs.db, runs.db or a server's URL.")
    ],
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="MLFLOW_TRACKING_URI",
            help="Of MLflow: http://host:5000 or sqlite:///mlflow.db; default: its own.",
        ),
    ] = None,
    experiment: Annotated[
        str, typer.Option(help="In MLflow; made if it is not there.")
    ] = "bo-invert",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks, with --follow.")
    ] = 5.0,
    token: Annotated[
        str | None, typer.Option(envvar="BO_INVERT_TOKEN", help="Of the server.")
    ] = None,
) -> None:
    """Bring MLflow up to date with a study; said again, it adds only what is new. Prints the id of the study's run."""
    from bo_invert.report.mlflow.tracking import mlflow_tracking, to_mlflow
    from bo_invert.study.study import Study

    study = Study.open(name, storage, token=token)
    if not follow:
        print(to_mlflow(study, experiment, tracking_uri))
        return
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    say(f"bo-invert: MLflow follows study {name!r}; Ctrl-C ends it")
    with mlflow_tracking(study, experiment, tracking_uri, every=every) as tracking:
        ended.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(
                number, signal.SIG_DFL
            )  # whoever asks twice does not want to wait for the rest
    if tracking.error is not None:
        raise tracking.error
    print(tracking.run_id)
