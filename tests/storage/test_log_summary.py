"""Summaries stored beside logs: they are those of the log, or computed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

import bo_invert as bi
from bo_invert.errors import StorageError
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.log_summary import LogSummary
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.sql import SqlStore
from bo_invert.storage.sql_tables import EVENTS, HEADS
from bo_invert.types import Cost

PROBLEM = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x.sum()), bi.Minimize())


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{tmp_path}/runs.db")


@pytest.fixture
def study(store: SqlStore) -> bi.Study:
    return bi.Study.create("s", PROBLEM, "random", storage=store)


def stored(store: SqlStore) -> LogSummary | None:
    """Return the stored summary of the only study."""
    (entry,) = store.summaries()
    return entry.summary


def of_log(store: SqlStore) -> LogSummary:
    """Return the summary computed from the events."""
    return LogSummary.of(Journal(store, "s").read())


CHANGES: dict[str, Callable[[bi.Study], object]] = {
    "ask": lambda study: study.ask(2),
    "tell": lambda study: study.tell(0, 1.0),
    "fail": lambda study: study.tell(0, bi.FailedError("no")),
    "infeasible": lambda study: study.tell(0, bi.InfeasibleError("no")),
    "add": lambda study: study.add([[0.5]], [0.1]),
    "enqueue": lambda study: study.enqueue([0.5]),
    "cancel": lambda study: study.cancel(0),
    "release": lambda study: study.journal.release(0, 0, Cost()),
    "abandon": lambda study: study.journal.abandon({0}),
    "run": lambda study: study.run(3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_stores_the_summary_of_the_log(
    store: SqlStore, study: bi.Study, change: str
) -> None:
    study.ask()
    CHANGES[change](study)
    assert stored(store) == of_log(store)
    assert stored(SqlStore(str(store), read_only=True)) == of_log(store)


def test_concurrent_writers_leave_the_summary_of_both(store: SqlStore, study: bi.Study) -> None:
    other = bi.Study.open("s", store, PROBLEM)
    for one in (study, other, study, other):
        one.tell(one.ask()[0], 1.0)
    assert stored(store) == of_log(store)


def test_a_failed_change_leaves_log_and_summary(
    store: SqlStore, study: bi.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.run(2)
    before = stored(store)

    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(LogSummary, "sealed", full)
    with pytest.raises(StorageError, match="full"):
        study.enqueue([0.5])
    monkeypatch.undo()
    assert stored(store) == before == of_log(store)
    assert len(study.trials) == 2
    assert len(study.run(3).trials) == 3


@pytest.mark.parametrize("digit", [3, 40, -4])
def test_a_damaged_summary_is_none(store: SqlStore, study: bi.Study, digit: int) -> None:
    study.run(2)
    with store.engine().begin() as connection:
        text = connection.execute(sa.select(HEADS.c.summary)).scalar_one()
        changed = list(text)
        changed[digit] = "7" if changed[digit] != "7" else "8"
        connection.execute(sa.update(HEADS).values(summary="".join(changed)))
    assert stored(store) is None
    store.summarise("s", of_log(store))
    assert stored(store) == of_log(store)


def test_a_summary_of_other_events_is_none(store: SqlStore, study: bi.Study) -> None:
    study.run(1)
    with store.engine().begin() as connection:
        old = connection.execute(sa.select(HEADS.c.summary)).scalar_one()
    earlier = of_log(store)
    study.run(2)
    with store.engine().begin() as connection:
        connection.execute(sa.update(HEADS).values(summary=old))
    assert stored(store) is None
    store.summarise("s", earlier)
    assert stored(store) is None, "the log has grown past this summary"


def test_imported_studies_have_none_until_it_is_computed(
    store: SqlStore, study: bi.Study, tmp_path: Path
) -> None:
    study.run(2)
    export_study(store, "s", tmp_path / "s.jsonl")
    other = SqlStore(f"sqlite:///{tmp_path}/other.db")
    import_study(other, tmp_path / "s.jsonl")
    assert stored(other) is None
    other.summarise("s", of_log(other))
    assert stored(other) == of_log(store)


def test_a_list_reads_no_events(store: SqlStore, study: bi.Study) -> None:
    study.run(2)
    with store.engine().begin() as connection:
        connection.execute(sa.delete(EVENTS))
    assert [(entry.name, entry.summary is None) for entry in store.summaries()] == [("s", False)]
