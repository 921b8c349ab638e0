"""``bo-invert show``, ``trials``, ``list``: studies of a storage; ``problems``: ready problems."""

from __future__ import annotations

import inspect
from typing import Any

from bo_invert import registry
from bo_invert.cli.front import front_record
from bo_invert.cli.options import Shape, Storage, StudyName
from bo_invert.cli.output import (
    OPTIONAL_STUDY_KEYS,
    OPTIONAL_TRIAL_KEYS,
    best_record,
    emit,
    say,
    study_record,
    trial_records,
)
from bo_invert.errors import StudyDamagedError
from bo_invert.problems.recorded_versions import noted, provenance_rows
from bo_invert.storage.open import open_existing
from bo_invert.storage.reader import JournalReader, readers


def show_study(name: StudyName, storage: Storage, how: Shape = "table") -> None:
    """Show a study: problem, best trial, cost and versions."""
    journal = JournalReader(open_existing(storage), name)
    best = journal.best
    record = study_record(journal, best, how) | best_record(journal, best) | front_record(journal)
    known = journal.header.get("provenance")
    made = {"provenance": noted(known) or None} if how == "json" else dict(provenance_rows(known))
    emit(record | made, how)


def trials(name: StudyName, storage: Storage, how: Shape = "table") -> None:
    """List the trials of a study."""
    journal = JournalReader(open_existing(storage), name)
    records = trial_records(journal, journal.trials, how)
    hidden = ["why"]
    if journal.trials and len(journal.trials[0].point) > 8:  # a table cannot show long points
        hidden += [f"z{i}" for i in range(len(journal.trials[0].point))]
    emit(records, how, hidden, OPTIONAL_TRIAL_KEYS)


def list_studies(storage: Storage, how: Shape = "table") -> None:
    """List the studies of a storage. A damaged study is listed as such."""
    records = []
    for name, found in readers(open_existing(storage)):
        if isinstance(found, StudyDamagedError):
            say(f"bo-invert: {found}")
            records.append({"study": name, "problem": "damaged"})
        else:
            records.append(study_record(found, found.best, how))
    if records or how != "table":
        emit(records, how, ("created", "asking"), OPTIONAL_STUDY_KEYS)
    else:
        say(f"{storage} has no studies")


def list_problems(how: Shape = "table") -> None:
    """List the ready problems and their options for --set."""
    emit([_described(name) for name in registry.names("problems")], how)


def _described(name: str) -> dict[str, Any]:
    try:
        make = registry.resolve("problems", name)
    except ImportError as error:  # a broken plug-in must not hide the other problems
        return {"problem": name, "about": f"cannot be imported: {error}", "options": ""}
    about = (inspect.getdoc(make) or "").partition("\n")[0]
    parameters = inspect.signature(make).parameters.values()
    options = ", ".join(f"{one.name}={one.default!r}" for one in parameters)
    return {"problem": name, "about": about, "options": options}
