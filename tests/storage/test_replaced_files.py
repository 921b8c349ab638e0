"""Files that are moved, deleted or replaced while a program uses them: the next call is refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.errors import (
    BoInvertError,
    StorageError,
    StorageReplacedError,
    StudyNotFoundError,
)
from bo_invert.storage.backup import backup
from bo_invert.storage.log_replay import Log
from bo_invert.storage.log_summary import LogSummary
from bo_invert.storage.sql import SqlStore

MAIN, ALL = ("runs.db",), ("runs.db", "runs.db-wal", "runs.db-shm")
COMPANIONS = ALL[1:]
COUNT = 70
"""Number of events of the study in use."""


def event(number: int) -> dict[str, object]:
    return {"kind": "n", "number": number, "text": "x" * 1200}


def copied(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def moved_away(live: Path, _: Path, names: tuple[str, ...]) -> None:
    (live / "elsewhere").mkdir()
    for name in names:
        os.rename(live / name, live / "elsewhere" / name)


def moved_and_copied(live: Path, copy: Path, names: tuple[str, ...]) -> None:
    moved_away(live, copy, names)
    copied(copy, live, names)


def copied_over(live: Path, copy: Path, names: tuple[str, ...]) -> None:
    copied(copy, live, names)


def replaced(live: Path, copy: Path, names: tuple[str, ...]) -> None:
    for name in names:
        os.replace(copy / name, live / name)


def deleted(live: Path, _: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (live / name).unlink()


def restored(live: Path, copy: Path, names: tuple[str, ...]) -> None:
    copied(copy, live, names)
    deleted(live, copy, COMPANIONS)


CHANGES: dict[str, tuple[Callable[[Path, Path, tuple[str, ...]], None], tuple[str, ...]]] = {
    **{
        f"{change.__name__} {len(names)}": (change, names)
        for change in (moved_away, moved_and_copied, copied_over, replaced, deleted)
        for names in (MAIN, ALL)
    },
    "restored": (restored, MAIN),
    "companions deleted": (deleted, COMPANIONS),
    "wal deleted": (deleted, ALL[1:2]),
}
CALLS: dict[str, Callable[[SqlStore], object]] = {
    "header": lambda store: store.header("s"),
    "events": lambda store: store.events("s", COUNT),
    "all events": lambda store: store.events("s"),
    "append": lambda store: store.append("s", [event(COUNT)], COUNT),
    "beat": lambda store: store.beat("s", "w"),
    "beats": lambda store: store.beats("s"),
    "turn": lambda store: store.turn("s").__enter__(),
    "summarise": lambda store: store.summarise("s", LogSummary.of(Log())),
}
"""Calls about one study: they compare its last known event."""
FILE_CALLS: dict[str, Callable[[SqlStore], object]] = {
    "names": lambda store: store.names(),
    "create": lambda store: store.create("t", {}),
    "delete": lambda store: store.delete("s"),
    "summaries": lambda store: store.summaries(),
}
"""Calls about the whole file: they compare its identity."""


def prepared(folder: Path) -> tuple[SqlStore, Path, Path]:
    """Return a store in use, the folder of its file, and the folder of an older copy."""
    live, copy = folder / "live", folder / "copy"
    live.mkdir()
    copy.mkdir()
    store = SqlStore(live / "runs.db")
    store.create("s", {"id": "1"})
    store.append("s", [event(number) for number in range(10)], 0)
    copied(live, copy, ALL)
    store.append("s", [event(number) for number in range(10, 60)], 10)
    with closing(sqlite3.connect(live / "runs.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")  # the -wal file begins again
    store.append("s", [event(number) for number in range(60, 70)], 60)
    return store, live, copy


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("call", CALLS)
def test_a_changed_file_is_refused_by_every_call(change: str, call: str, tmp_path: Path) -> None:
    store, live, copy = prepared(tmp_path)
    function, names = CHANGES[change]
    function(live, copy, names)
    with pytest.raises(StorageReplacedError, match=r"runs\.db.*while this program used it"):
        CALLS[call](store)
    with pytest.raises(StorageReplacedError, match=r"-wal"):
        CALLS[call](store)


@pytest.mark.parametrize("call", FILE_CALLS)
@pytest.mark.parametrize(
    "change", ["moved_and_copied 1", "replaced 3", "deleted 1", "moved_away 3"]
)
def test_another_file_is_refused_by_every_call(change: str, call: str, tmp_path: Path) -> None:
    store, live, copy = prepared(tmp_path)
    function, names = CHANGES[change]
    function(live, copy, names)
    with pytest.raises(StorageReplacedError, match=r"runs\.db.*while this program used it"):
        FILE_CALLS[call](store)


def test_a_file_that_is_put_back_is_used_again(tmp_path: Path) -> None:
    store, live, copy = prepared(tmp_path)
    moved_away(live, copy, ALL)
    with pytest.raises(StorageReplacedError, match=r"put .* back together with .*-wal"):
        store.append("s", [event(COUNT)], COUNT)
    for name in ALL:
        os.rename(live / "elsewhere" / name, live / name)
    assert store.append("s", [event(COUNT)], COUNT) == COUNT + 1
    assert len(SqlStore(live / "runs.db").events("s")) == COUNT + 1


def test_a_write_that_meets_the_replacement_is_not_reported_as_stored(tmp_path: Path) -> None:
    store, live, copy = prepared(tmp_path)

    def write() -> None:
        with store.transaction(writing=True):
            store.append("s", [event(COUNT)], COUNT)
            replaced(live, copy, MAIN)

    with pytest.raises(StorageReplacedError, match="not stored in the present file"):
        write()


@pytest.mark.parametrize("complete", [True, False])
def test_a_copy_over_a_short_log_is_refused(complete: bool, tmp_path: Path) -> None:
    """The ``-wal`` file still has all events, so nothing is lost, but the copy had no effect."""
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {}, [event(0), event(1)])
    if complete:
        backup(store, tmp_path / "copy.db")
    else:
        shutil.copyfile(tmp_path / "runs.db", tmp_path / "copy.db")
    store.append("s", [event(2)], 2)
    shutil.copyfile(tmp_path / "copy.db", tmp_path / "runs.db")
    with pytest.raises(StorageReplacedError, match="older copy was put back"):
        store.append("s", [event(3)], 3)


def test_a_checkpoint_of_another_program_is_no_replacement(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {}, [event(0)])
    for number, mode in enumerate(("PASSIVE", "FULL", "RESTART", "TRUNCATE"), start=1):
        with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
            connection.execute(f"PRAGMA wal_checkpoint({mode})")
        assert store.append("s", [event(number)], number) == number + 1


def problem() -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), lambda x: float(x.sum()), bi.Minimize())


def test_a_study_keeps_its_answers_and_continues_from_the_copy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create("s", problem(), "random", storage=url).run(3)
    backup(SqlStore(url), tmp_path / "copy.db")
    study.run(6)
    (trial,) = study.ask()
    os.replace(tmp_path / "copy.db", tmp_path / "runs.db")
    for refused in (lambda: study.tell(trial, 1.0), study.ask, lambda: study.run(20)):
        with pytest.raises(StorageReplacedError, match="open the storage again"):
            refused()
    for name in COMPANIONS:
        (tmp_path / name).unlink()
    again = bi.Study.open("s", url, problem())
    assert len(again.trials) == 3
    assert again.run(5).spent.values == 5


def test_a_computed_answer_is_in_the_notes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    answers: list[float] = []

    def oracle(x: object) -> float:
        if len(answers) == 2:
            shutil.move(tmp_path / "runs.db", tmp_path / "moved.db")
        answers.append(float(len(answers)))
        return answers[-1]

    whole = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), oracle, bi.Minimize())
    study = bi.Study.create("s", whole, "random", storage=url)
    with pytest.raises(StorageReplacedError, match="moved or deleted") as caught:
        study.run(8)
    assert "tell(2, [2.0], attempt=0)" in "\n".join(caught.value.__notes__)


def test_an_older_copy_that_has_grown_is_refused(tmp_path: Path) -> None:
    """The file and the number of events are the same; the events differ."""
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {"id": "1"}, [event(1), event(2)])
    other = SqlStore(tmp_path / "runs.db")
    other.delete("s")
    other.create("s", {"id": "1"}, [event(1), event(3)])
    for call in (lambda: store.append("s", [event(4)], 2), lambda: store.events("s", 2)):
        with pytest.raises(StorageReplacedError, match="had 2 events and now has other ones"):
            call()
    other.append("s", [event(5)], 2)
    with pytest.raises(StorageReplacedError, match="older copy was put back"):
        store.events("s", 2)


def test_a_new_study_of_a_deleted_name_is_no_older_copy(tmp_path: Path) -> None:
    store, other = SqlStore(tmp_path / "runs.db"), SqlStore(tmp_path / "runs.db")
    store.create("s", {"id": "1"}, [event(1), event(2)])
    other.delete("s")
    other.create("s", {"id": "2"}, [event(1)])
    with pytest.raises(StudyNotFoundError, match="deleted, and another one of this name"):
        store.append("s", [event(3)], 2)
    assert store.header("s") == {"id": "2"}
    assert store.append("s", [event(3)], 1) == 2


def test_checkpoints_of_others_are_no_replacement(tmp_path: Path) -> None:
    """Two stores write in turns; each sees a main file that the other one changed."""
    stores = [SqlStore(tmp_path / "runs.db") for _ in range(2)]
    stores[0].create("s", {})
    sizes = set()
    for number in range(600):
        store = stores[number // 7 % 2]
        assert store.append("s", [event(number)], number) == number + 1
        sizes.add((tmp_path / "runs.db").stat().st_size)
    assert len(sizes) > 1, "a checkpoint has happened"
    assert [e["number"] for e in stores[0].events("s")] == list(range(600))


def test_a_forked_process_has_files_of_its_own(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.append("s", [event(1)], 0)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.append("s", [event(2)], 1) == 2


def test_threads_do_not_mistake_each_other_for_a_copy(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {})
    errors: list[BoInvertError] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                store.events("s")
        except BoInvertError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(150):
        store.append("s", [event(number)], number)
    ended.set()
    reader.join()
    assert errors == []


def test_another_name_of_a_file_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SqlStore(path)
    store.create("s", {})
    os.link(path, tmp_path / "other.db")
    with pytest.raises(StorageError, match="one of 2 names"):
        SqlStore(tmp_path / "other.db").create("t", {})
    (tmp_path / "other.db").unlink()
    store.append("s", [event(0)], after=0)
    assert store.names() == ["s"]
