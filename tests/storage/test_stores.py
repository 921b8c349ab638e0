"""One conformance suite for every store, and what only a database can do wrong."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import append_all, append_from_process, context, ends, make_study, start

from bo_invert.errors import (
    InvalidInputError,
    MissingExtraError,
    SchemaTooNewError,
    StorageBusyError,
    StorageConflictError,
    StorageError,
    StudyExistsError,
    StudyNotFoundError,
)
from bo_invert.storage.base import SCHEMA, Store
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_store
from bo_invert.storage.sql import SqlStore

STORES: dict[str, Callable[[Path, pytest.FixtureRequest], Store]] = {
    "memory": lambda folder, request: MemoryStore(),
    "sqlite": lambda folder, request: SqlStore(f"sqlite:///{folder}/runs.db"),
    "sqlite-in-memory": lambda folder, request: SqlStore("sqlite://"),
    "postgresql": lambda folder, request: SqlStore(request.getfixturevalue("postgres_url")),
}

NAMES = [
    "plain",
    "Grüße, 東京 🙂",
    'it\'s "quoted"',
    "x'; DROP TABLE studies; --",
    "100% _wild_ [a-z]* \\ :name ?",
    "two\nlines",
    "  spaces  ",
]


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path, request)
    for name in made.names():
        made.delete(name)
    yield made
    if isinstance(made, SqlStore):
        made.close()


def test_a_log_comes_back_as_it_was_written(store: Store) -> None:
    header = {"seed": 3, "text": "ä\u0000🙂\n", "numbers": [0.1, 1e-300, -0.0, 2**60], "none": None}
    store.create("a", header)
    assert store.header("a") == header
    assert store.events("a") == []
    events = [{"kind": "asked", "x": [0.1 + 0.2, 5e-324]}, {"kind": "told", "y": None}]
    assert store.append("a", events, 0) == 2
    assert store.append("a", [{"kind": "more"}], 2) == 3
    assert store.events("a") == [*events, {"kind": "more"}]
    assert store.events("a", after=1) == [events[1], {"kind": "more"}]
    assert store.events("a", after=3) == []
    assert store.events("a", after=1, limit=1) == [events[1]]
    assert store.events("a", limit=2) == events


def test_a_log_may_begin_with_events(store: Store) -> None:
    store.create("a", {"seed": 1}, [{"n": 1}, {"n": 2}])
    assert store.events("a") == [{"n": 1}, {"n": 2}]
    with pytest.raises(StudyExistsError):
        store.create("a", {}, [{"n": 3}])
    assert store.append("a", [{"n": 3}], 2) == 3
    with pytest.raises(ValueError, match="JSON"):
        store.create("b", {}, [{"n": math.nan}])
    assert store.names() == ["a"]


def test_signs_of_life_are_counted_by_study_and_worker(store: Store) -> None:
    store.create("a", {})
    store.create("b", {})
    assert store.beats("a") == {}
    for worker in ("w1", "w2", "w1"):
        store.beat("a", worker)
    store.beat("b", "w1")
    assert (store.beats("a"), store.beats("b")) == ({"w1": 2, "w2": 1}, {"w1": 1})
    store.delete("a")
    store.create("a", {})
    assert store.beats("a") == {}
    for call in (lambda: store.beat("c", "w1"), lambda: store.beats("c")):
        with pytest.raises(StudyNotFoundError):
            call()


def test_names_in_the_order_of_creation(store: Store) -> None:
    assert store.names() == []
    for name in NAMES:
        store.create(name, {"name": name})
    assert store.names() == NAMES
    for name in NAMES:
        assert store.header(name) == {"name": name}
        store.append(name, [{"of": name}], 0)
    assert [store.events(name) for name in NAMES] == [[{"of": name}] for name in NAMES]


def test_a_name_is_taken_once(store: Store) -> None:
    store.create("a", {"first": True})
    with pytest.raises(StudyExistsError, match="'a'"):
        store.create("a", {"first": False})
    assert store.header("a") == {"first": True}
    with pytest.raises(InvalidInputError, match="empty"):
        store.create("", {})


def test_an_unknown_name_is_answered_with_the_nearest(store: Store) -> None:
    store.create("hartmann-gp", {})
    store.create("digits", {})
    for call in (
        lambda: store.header("hartman-gp"),
        lambda: store.events("hartman-gp"),
        lambda: store.append("hartman-gp", [{}], 0),
        lambda: store.delete("hartman-gp"),
    ):
        with pytest.raises(StudyNotFoundError, match="did you mean 'hartmann-gp'"):
            call()
    with pytest.raises(StudyNotFoundError, match="It holds 'hartmann-gp', 'digits'"):
        store.header("zzz")


def test_appending_behind_the_wrong_position_changes_nothing(store: Store) -> None:
    store.create("a", {})
    store.append("a", [{"n": 1}, {"n": 2}], 0)
    for position in (0, 1, 3):
        with pytest.raises(StorageConflictError, match="2 events"):
            store.append("a", [{"n": 9}, {"n": 10}], position)
    assert store.events("a") == [{"n": 1}, {"n": 2}]
    assert store.append("a", [], 2) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, object()])
def test_what_json_has_no_word_for_is_refused_whole(store: Store, bad: object) -> None:
    store.create("a", {})
    with pytest.raises((ValueError, TypeError)):
        store.append("a", [{"fine": 1}, {"bad": bad}], 0)
    assert store.events("a") == []
    with pytest.raises((ValueError, TypeError)):
        store.create("b", {"bad": bad})
    assert store.names() == ["a"]


def test_a_deleted_study_leaves_the_others_alone(store: Store) -> None:
    for name in ("a", "b"):
        store.create(name, {})
        store.append(name, [{"of": name}], 0)
    store.delete("a")
    assert store.names() == ["b"]
    assert store.events("b") == [{"of": "b"}]
    store.create("a", {"again": True})
    assert store.events("a") == []
    assert store.names() == ["b", "a"]


def test_appends_of_four_threads_all_land_once(store: Store) -> None:
    store.create("shared", {})
    threads = [
        threading.Thread(target=append_all, args=(store, "shared", f"t{i}", 15)) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_every_append_landed_once(store, [f"t{i}" for i in range(4)], 15)


def check_every_append_landed_once(store: Store, workers: list[str], count: int) -> None:
    events = store.events("shared")
    for worker in workers:
        assert [e["number"] for e in events if e["worker"] == worker] == list(range(count))
    assert len(events) == len(workers) * count


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_appends_of_two_processes_all_land_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = (
        f"sqlite:///{tmp_path}/runs.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    store = SqlStore(url)
    if "shared" in store.names():
        store.delete("shared")
    store.create("shared", {})
    writers = [start(append_from_process, url, "shared", f"p{i}", 40) for i in range(2)]
    append_all(store, "shared", "here", 20)
    assert ends(writers) == [0, 0]
    events = store.events("shared")
    assert len(events) == 100
    for worker, count in (("p0", 40), ("p1", 40), ("here", 20)):
        assert [e["number"] for e in events if e["worker"] == worker] == list(range(count))


@pytest.mark.slow
def test_processes_that_make_one_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    barrier = context().Barrier(3)
    makers = [start(make_study, barrier, url, f"study {i}") for i in range(3)]
    assert ends(makers) == [0, 0, 0]
    assert sorted(SqlStore(url).names()) == [f"study {i}" for i in range(3)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_through_its_own_connection(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    store.create("shared", {})
    append_all(store, "shared", "parent", 3)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            append_all(store, "shared", "child", 10)
            status = 0
        finally:
            os._exit(status)
    append_all(store, "shared", "after", 10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    events = store.events("shared")
    assert sorted({e["worker"]: None for e in events}) == ["after", "child", "parent"]
    assert len(events) == 23


def test_two_urls_in_one_process_never_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    one, two, three = (
        SqlStore("sqlite:///runs.db"),
        SqlStore("sqlite:///other.db"),
        SqlStore("sqlite://"),
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    for store, name in ((one, "one"), (two, "two"), (three, "three")):
        store.create(name, {})
    assert (one.names(), two.names(), three.names()) == (["one"], ["two"], ["three"])
    assert SqlStore("sqlite://").names() == []
    assert SqlStore(tmp_path / "runs.db").names() == ["one"]


def test_another_store_on_the_same_file_sees_what_was_appended(tmp_path: Path) -> None:
    one, two = (SqlStore(f"sqlite:///{tmp_path}/runs.db") for _ in range(2))
    one.create("a", {})
    one.append("a", [{"n": 1}], 0)
    assert two.events("a") == [{"n": 1}]
    two.append("a", [{"n": 2}], 1)
    with pytest.raises(StorageConflictError):
        one.append("a", [{"n": 3}], 1)
    assert one.events("a", 1) == [{"n": 2}]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/typo.db")
    assert store.names() == []
    with pytest.raises(StudyNotFoundError, match=r"typo\.db does not exist"):
        store.events("a")
    assert list(tmp_path.iterdir()) == []


def test_sqlite_writes_ahead_and_synchronises_fully(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    store.create("a", {})
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store.engine().connect() as inside:
        assert inside.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db", patience=20.0)
    store.create("a", {})
    holder = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, holder.execute, ["COMMIT"])
    release.start()
    assert store.append("a", [{"n": 1}], 0) == 1
    release.join()
    holder.close()


def test_a_database_that_stays_locked_is_reported_and_nothing_written(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db", patience=0.1)
    store.create("a", {})
    holder = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageBusyError, match=r"runs\.db stayed locked"):
        store.append("a", [{"n": 1}], 0)
    assert store.events("a") == []  # readers are not kept waiting
    holder.execute("ROLLBACK")
    holder.close()
    assert store.append("a", [{"n": 1}], 0) == 1


def test_whoever_has_the_turn_writes_alone(tmp_path: Path) -> None:
    mine, other = (
        SqlStore(f"sqlite:///{tmp_path}/runs.db", patience=patience) for patience in (20.0, 0.1)
    )
    mine.create("a", {}, [{"n": 1}])
    with mine.turn("a"):
        assert mine.append("a", [{"n": 2}], 1) == 2
        assert mine.events("a", 1) == [{"n": 2}], "what was written in this turn can be read in it"
        assert other.events("a", 1) == [], "and nowhere else yet"
        with pytest.raises(StorageBusyError):
            other.append("a", [{"n": 9}], 1)
        assert mine.append("a", [{"n": 3}], 2) == 3
    assert other.events("a", 1) == [{"n": 2}, {"n": 3}]

    def broken() -> None:
        with mine.turn("a"):
            mine.append("a", [{"n": 4}], 3)
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        broken()
    assert mine.events("a", 3) == other.events("a", 3) == [], "all of a turn, or nothing"
    assert other.append("a", [{"n": 4}], 3) == 4


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/runs.db").create("a", {}, [{"n": 1}])
    with sqlite3.connect(tmp_path / "runs.db") as connection:  # as version 1 left it
        connection.execute("DROP TABLE beats")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    store.beat("a", "w")
    assert (store.events("a"), store.beats("a")) == ([{"n": 1}], {"w": 1})
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall() == [
            (str(SCHEMA),)
        ]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/runs.db").create("a", {})
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [str(SCHEMA + 1)])
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    for call in (store.names, lambda: store.events("a"), lambda: store.append("a", [{}], 0)):
        with pytest.raises(SchemaTooNewError, match="newer version"):
            call()


@pytest.mark.parametrize(
    "content",
    [b"this is a text file, not a database\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096],
)
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(content)
    store = SqlStore(f"sqlite:///{path}")
    for call in (store.names, lambda: store.create("a", {})):
        with pytest.raises(StorageError, match=r"notes\.db"):
            call()
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name TEXT)")
    store = SqlStore(f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(StorageError, match="another program"):
        store.create("a", {})


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no/such/folder"):
        SqlStore(f"sqlite:///{tmp_path}/no/such/folder/runs.db")
    with pytest.raises(StorageError, match="unable to open"):
        SqlStore(f"sqlite:///{tmp_path}").create("a", {})


def test_names_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    with pytest.raises(InvalidInputError, match="valid Unicode"):
        store.create("half \ud83d", {})


def test_a_password_is_never_shown() -> None:
    with pytest.raises((InvalidInputError, MissingExtraError)) as caught:
        SqlStore("nosuchdatabase://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store(None), MemoryStore)
    memory = MemoryStore()
    assert open_store(memory) is memory
    open_store("runs.db").create("a", {})
    assert open_store("sqlite:///runs.db").names() == ["a"]
    assert open_store(tmp_path / "runs.db").names() == ["a"]
    assert open_store("sqlite://").names() == []
    odd = open_store("what?really=yes#.db")  # a path is a path, not a URL
    odd.create("b", {})
    assert (tmp_path / "what?really=yes#.db").exists()


@pytest.mark.parametrize("bad", ["runs", "runs.txt", "", "nosuch://x/y", "://", 3, ["sqlite://"]])
def test_what_is_no_storage_is_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError, match="storage"):
        open_store(bad)  # type: ignore[arg-type]


def test_the_file_can_be_read_with_sqlite_alone(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/runs.db")
    store.create("a", {"seed": 1})
    store.append("a", [{"kind": "asked"}, {"kind": "told"}], 0)
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        rows = connection.execute(
            "SELECT seq, data FROM events JOIN studies ON studies.id = events.study "
            "WHERE name = 'a' ORDER BY seq"
        ).fetchall()
    assert [(seq, json.loads(data)["kind"]) for seq, data in rows] == [(1, "asked"), (2, "told")]
