"""``bo-invert export`` and ``import``: a study as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli_options import Storage, StudyName
from bo_invert.cli_output import say


def export(
    name: StudyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="For example study.jsonl.")],
    storage: Storage,
) -> None:
    """Write a study to one JSON-lines file."""
    from bo_invert.stores.open import open_store
    from bo_invert.transfer import export_study

    say(f"written to {file}: {export_study(open_store(storage), name, file)} events")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="That export wrote.")],
    storage: Storage,
    name: Annotated[str | None, typer.Option(help="Of the study; default: the one it had.")] = None,
) -> None:
    """Take a study from a file into a storage."""
    from bo_invert.stores.open import open_store
    from bo_invert.transfer import import_study

    say(f"study {import_study(open_store(storage), file, name)!r} is in {storage}")
