"""``bo-invert show``: one study and its provenance."""

from __future__ import annotations

from bo_invert.cli.options import Shape, Storage, StudyName
from bo_invert.cli.output import Format, best_record, emit, study_record


def show_study(name: StudyName, storage: Storage, how: Shape = Format.table) -> None:
    """Show a study: problem, best trial, cost and versions."""
    from bo_invert.problems.provenance import noted, provenance_rows
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader

    journal = JournalReader(open_store(storage), name)
    best = journal.best
    record = study_record(journal, best, how) | best_record(journal, best)
    known = journal.header.get("provenance")
    made = (
        {"provenance": noted(known) or None} if how is Format.json else dict(provenance_rows(known))
    )
    emit(record | made, how)
