"""``bo-invert front``: the Pareto front of a study with several criteria."""

from __future__ import annotations

from typing import Any

import typer

from bo_invert.cli.options import (
    ProblemOption,
    Settings,
    Shape,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import emit, say, trial_records, why_nothing
from bo_invert.errors import BoInvertError
from bo_invert.history import History
from bo_invert.storage.base import Store
from bo_invert.storage.open import open_existing
from bo_invert.storage.reader import JournalReader
from bo_invert.study.front import ParetoFront, pareto_front, stored_objective
from bo_invert.study.recommendation import known_noisy
from bo_invert.study.study import Study


def front(
    name: StudyName,
    storage: Storage,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
) -> None:
    """Show the Pareto front of a study with several criteria.

    For a noisy oracle, a model of all observations determines the front; this needs the problem.
    """
    store = open_existing(storage)
    journal = JournalReader(store, name)
    found = _found(store, journal, problem, settings)
    if not len(found):
        say(why_nothing(journal))
        raise typer.Exit(1)
    emit(front_rows(journal, found), how)
    for note in found.table().notes:
        say(note)


def front_rows(journal: JournalReader, found: ParetoFront) -> list[dict[str, Any]]:
    """Return number, criteria and parameters of the trials of a front."""
    rows = []
    records = trial_records(journal, found.trials)
    for record, values in zip(records, found.values.tolist(), strict=True):
        keys = list(record)
        criteria = dict(zip(found.labels, values, strict=True))
        named = {key: record[key] for key in keys[keys.index("ask") + 1 : keys.index("loss")]}
        rows.append({"number": record["number"], **criteria, **(named | criteria)})
    return rows


def front_record(journal: JournalReader) -> dict[str, Any]:
    """Return size and hypervolume of the observed front; empty for other objectives."""
    problem = journal.header["problem"]
    if problem["objective"]["type"] != "pareto":
        return {}
    try:
        found = pareto_front(stored_objective(problem, "front"), History(journal.trials))
    except BoInvertError:  # a criterion is code
        return {}
    return {"front": len(found), "hypervolume": found.hypervolume}


def _found(
    store: Store, journal: JournalReader, source: str | None, settings: list[str] | None
) -> ParetoFront:
    history = History(journal.trials)
    noisy = known_noisy(journal.header["strategy"], history) and len(history.completed) > 1
    if noisy or source is not None:
        try:
            made = stored_problem(store, journal.name, source, parse_settings(settings, "--set"))
            return Study.open(journal.name, store, problem=made).front
        except BoInvertError as reason:
            if source is not None or settings:
                raise
            say(f"The oracle is noisy: observed values are biased. No model: {reason}")
    return pareto_front(stored_objective(journal.header["problem"], "front"), history)
