"""Damaged studies: each damage is detected and named, and other studies stay usable."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from inside import Inside
from typer.testing import CliRunner

import bo_invert as bi
from bo_invert.cli.main import app
from bo_invert.errors import BoInvertError, StudyDamagedError
from bo_invert.storage.backup import backup
from bo_invert.storage.base import SCHEMA
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_store
from bo_invert.storage.reader import JournalReader, readers
from bo_invert.storage.sql import SqlStore

GOLDEN = Path(__file__).parents[1] / "golden"
VICTIM = 2
"""Id of the study that is damaged."""
OTHERS = ("first", "last")


def problem() -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), lambda x: float(x.sum()), bi.Minimize())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of three studies with 12 events each."""
    path = tmp_path_factory.mktemp("original") / "runs.db"
    for name in ("first", "victim", "last"):
        bi.Study.create(name, problem(), "random", storage=f"sqlite:///{path}").run(4)
    backup(SqlStore(path), path.with_name("copy.db"))
    return path.with_name("copy.db")


def replace_in(old: str, new: str, seq: int) -> Callable[[sqlite3.Connection], object]:
    """Return a damage that replaces a text in the event at a position."""

    def damage(connection: sqlite3.Connection) -> None:
        where = (VICTIM, seq)
        (text,) = connection.execute(
            "SELECT data FROM events WHERE study = ? AND seq = ?", where
        ).fetchone()
        assert old in text
        query = "UPDATE events SET data = ? WHERE study = ? AND seq = ?"
        connection.execute(query, (text.replace(old, new, 1), *where))

    return damage


def sql(*statements: str) -> Callable[[sqlite3.Connection], object]:
    """Return a damage that executes statements; ``:id`` stands for the id of the study."""

    def damage(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement, {"id": VICTIM})

    return damage


OF = "WHERE study = :id AND seq"
DAMAGES: dict[str, tuple[Callable[[sqlite3.Connection], object], str]] = {
    "another value": (replace_in('"loss": ', '"loss": 1', 6), "event 6 does not match"),
    "another time in the first": (replace_in('"at": 1', '"at": 2', 1), "event 1 does not match"),
    "another value in the last": (replace_in('"loss": ', '"loss": 1', 12), "event 12 does not"),
    "no JSON": (replace_in('{"', "{", 5), "event 5 does not match"),
    "no checksum": (replace_in("checksum", "checksun", 5), "event 5 or a later one up to event 6"),
    "no checksum in the last": (replace_in("checksum", "checksun", 12), "event 12 does not match"),
    "no UTF-8": (
        sql(f"UPDATE events SET data = CAST(X'7B22FF' AS TEXT) {OF} = 5"),
        "event 5 is no JSON object",
    ),
    "empty": (sql(f"UPDATE events SET data = '' {OF} = 5"), "event 5 is no JSON object"),
    "blob": (
        sql(f"UPDATE events SET data = CAST(data AS BLOB) {OF} = 5"),
        "event 5 is not stored as text",
    ),
    "blob in the last": (
        sql(f"UPDATE events SET data = CAST(data AS BLOB) {OF} = 12"),
        "event 12 is not stored as text",
    ),
    "number": (sql(f"UPDATE events SET data = 5 {OF} = 5"), "event 5 is no JSON object"),
    "blob as header": (
        sql("UPDATE studies SET header = CAST(header AS BLOB) WHERE id = :id"),
        "its header does not match",
    ),
    "blobs as head": (
        sql("UPDATE heads SET checksum = CAST(checksum AS BLOB) WHERE study = :id"),
        "event 12 does not match",
    ),
    "deleted": (sql(f"DELETE FROM events {OF} = 5"), "event 5 is missing"),
    "first deleted": (sql(f"DELETE FROM events {OF} = 1"), "event 1 is missing"),
    "last deleted": (sql(f"DELETE FROM events {OF} = 12"), "event 12 is missing"),
    "last three deleted": (sql(f"DELETE FROM events {OF} > 9"), "event 10 is missing"),
    "all deleted": (sql("DELETE FROM events WHERE study = :id"), "event 1 is missing"),
    "deleted and renumbered": (
        sql(
            f"DELETE FROM events {OF} = 5",
            f"UPDATE events SET seq = -seq {OF} > 5",
            f"UPDATE events SET seq = -seq - 1 {OF} < 0",
        ),
        "event 5 does not match",
    ),
    "swapped": (
        sql(
            f"UPDATE events SET seq = 0 {OF} = 5",
            f"UPDATE events SET seq = 5 {OF} = 6",
            f"UPDATE events SET seq = 6 {OF} = 0",
        ),
        "event 5 does not match",
    ),
    "inserted": (
        sql("INSERT INTO events SELECT study, 13, data FROM events WHERE study = :id AND seq = 12"),
        "event 13 does not match",
    ),
    "of another study": (
        sql(
            f"DELETE FROM events {OF} = 5",
            "INSERT INTO events SELECT :id, 5, data FROM events WHERE study = 1 AND seq = 5",
        ),
        "event 5 does not match",
    ),
    "header": (
        sql("UPDATE studies SET header = replace(header, 'random', 'sobol') WHERE id = :id"),
        "its header does not match",
    ),
    "header that is no JSON": (
        sql("UPDATE studies SET header = '{' WHERE id = :id"),
        "its header does not match",
    ),
    "header of another study": (
        sql("UPDATE studies SET header = (SELECT header FROM studies WHERE id = 1) WHERE id = :id"),
        "its header does not match",
    ),
    "head deleted": (sql("DELETE FROM heads WHERE study = :id"), "has no stored checksum"),
    "head moved": (
        sql("UPDATE heads SET seq = seq + 1 WHERE study = :id"),
        "event 13 is missing",
    ),
    "head of another chain": (
        sql("UPDATE heads SET checksum = '0123456789abcdef' WHERE study = :id"),
        "event 12 does not match",
    ),
}
CALLS: dict[str, Callable[[Path], object]] = {
    "trials": lambda path: bi.Study.open("victim", f"sqlite:///{path}").trials,
    "best": lambda path: JournalReader(SqlStore(path), "victim").best,
    "ask": lambda path: bi.Study.open("victim", f"sqlite:///{path}", problem()).ask(),
    "run": lambda path: bi.Study.open("victim", f"sqlite:///{path}", problem()).run(9),
    "export": lambda path: export_study(SqlStore(path), "victim", path.with_name("s.jsonl")),
}
COMMANDS = ("show victim", "trials victim", "best victim", "export victim out.jsonl")
ROUTES = ("", "/trials", "/columns", "/best", "/curve", "/log", "/solutions", "/gallery")


def damaged(original: Path, folder: Path, damage: str) -> Path:
    path = folder / "runs.db"
    shutil.copy(original, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        DAMAGES[damage][0](connection)
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_named_and_affects_one_study(
    damage: str, original: Path, tmp_path: Path
) -> None:
    path = damaged(original, tmp_path, damage)
    expected = DAMAGES[damage][1]
    for what, call in CALLS.items():
        with pytest.raises(StudyDamagedError) as caught:
            call(path)
        message = str(caught.value)
        for part in (str(path), "'victim'", expected, "Restore a backup", "not affected"):
            assert part in message, what
    for name in OTHERS:
        study = bi.Study.open(name, f"sqlite:///{path}", problem())
        assert [t.point.tolist() for t in study.trials] == points(original, name)
        assert study.run(6).spent.values == 6


def points(path: Path, name: str) -> list[list[float]]:
    return [t.point.tolist() for t in bi.Study.open(name, f"sqlite:///{path}").trials]


@pytest.mark.parametrize("damage", DAMAGES)
def test_lists_show_the_other_studies(damage: str, original: Path, tmp_path: Path) -> None:
    path = damaged(original, tmp_path, damage)
    found = dict(readers(SqlStore(path)))
    assert isinstance(found["victim"], StudyDamagedError)
    assert [name for name, one in found.items() if isinstance(one, JournalReader)] == [*OTHERS]
    for shape in ("table", "json", "csv"):
        command = ["list", "--storage", str(path), "--format", shape]
        listed = CliRunner().invoke(app, command)
        assert listed.exit_code == 0
        assert all(name in listed.stdout for name in ("first", "damaged", "last"))
        assert "study 'victim' is damaged" in listed.output
    server = Inside(tmp_path)
    page = server.request("GET", "/v1/studies")
    assert page.status_code == 200
    assert {one["name"] for one in page.json()["studies"]} >= set(OTHERS)
    for route in ROUTES:
        answer = server.request("GET", f"/v1/studies/victim{route}")
        assert answer.status_code == 500, route
        assert DAMAGES[damage][1] in answer.json()["detail"], route
        assert server.request("GET", f"/v1/studies/last{route}").status_code == 200
    assert server.request("DELETE", "/v1/studies/victim").status_code == 204
    assert SqlStore(path).names() == [*OTHERS], "a damaged study can be deleted"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_the_damage(
    command: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = damaged(original, tmp_path, "another value")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command.split(), "--storage", str(path)])
    assert isinstance(done.exception, StudyDamagedError)
    assert "event 6 does not match its checksum" in str(done.exception)
    assert "bo-invert export 'victim' FILE --intact" in str(done.exception)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_intact_events_can_be_exported(damage: str, original: Path, tmp_path: Path) -> None:
    path, file = damaged(original, tmp_path, damage), tmp_path / "intact.jsonl"
    with pytest.raises(StudyDamagedError) as caught:
        JournalReader(SqlStore(path), "victim").read()
    if caught.value.event is None:
        with pytest.raises(StudyDamagedError, match="header"):
            export_study(SqlStore(path), "victim", file, intact=True)
        return
    intact = caught.value.event - 1
    assert export_study(SqlStore(path), "victim", file, intact=True) == intact
    assert export_study(SqlStore(path), "first", tmp_path / "all.jsonl", intact=True) == 12
    store = MemoryStore()
    import_study(store, file)
    assert store.events("victim") == SqlStore(original).events("victim", limit=intact)


def test_a_damaged_name_is_listed_as_damaged(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    data = original.read_bytes()
    start = data.index(b"victim{")  # the name and the header in the row of the study
    path.write_bytes(data[:start] + b"vic\xf4im" + data[start + 6 :])
    found = dict(readers(SqlStore(path)))
    assert [name for name, one in found.items() if isinstance(one, JournalReader)] == [*OTHERS]
    (error,) = [one for one in found.values() if isinstance(one, StudyDamagedError)]
    assert "cannot be found by its name" in str(error)
    assert CliRunner().invoke(app, ["list", "--storage", str(path)]).exit_code == 0
    assert Inside(tmp_path).request("GET", "/v1/studies").status_code == 200


def test_an_open_study_notices_the_damage_at_its_next_read(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(original, path)
    study = bi.Study.open("victim", f"sqlite:///{path}", problem())
    other = bi.Study.open("victim", f"sqlite:///{path}", problem())
    assert len(study.trials) == 4
    other.run(6)
    with closing(sqlite3.connect(path)) as connection, connection:
        replace_in('"loss": ', '"loss": 1', 15)(connection)
    with pytest.raises(StudyDamagedError, match="event 15 does not match"):
        study.trials  # noqa: B018


OLD = ("studies.db", "served.db")


@pytest.mark.parametrize("file", OLD)
def test_an_older_database_gets_checksums_at_its_first_change(file: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(GOLDEN / file, path)
    before = path.read_bytes()
    store = SqlStore(path)
    names = store.names()
    events = {name: store.events(name) for name in names}
    assert all(isinstance(one, JournalReader) for _, one in readers(store))
    store.close()
    assert path.read_bytes() == before, "reading changes nothing"
    SqlStore(path).append(names[0], [{"kind": "n"}], len(events[names[0]]))
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        heads = connection.execute("SELECT study, seq FROM heads ORDER BY study").fetchall()
        texts = connection.execute("SELECT data FROM events ORDER BY study, seq").fetchall()
    assert version == str(SCHEMA)
    counts = [len(events[name]) for name in names]
    assert [seq for _, seq in heads] == [counts[0] + 1, *counts[1:]]
    sealed = [text for (text,) in texts if '"checksum"' in text]
    assert sealed == [text for (text,) in texts if text.startswith('{"kind": "n"')]
    for name in names[1:]:
        assert SqlStore(path).events(name) == events[name]


@pytest.mark.parametrize("seq", [1, 5, 20])
def test_old_events_are_covered_by_later_checksums(seq: int, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(GOLDEN / "studies.db", path)
    store = SqlStore(path)
    name = "every event"
    count = len(store.events(name))
    for number in range(3):
        store.append(name, [{"kind": "n", "number": number}], count + number)
    assert len(SqlStore(path).events(name)) == count + 3
    with closing(sqlite3.connect(path)) as connection, connection:
        query = "SELECT data FROM events WHERE study = 1 AND seq = ?"
        (text,) = connection.execute(query, (seq,)).fetchone()
        changed = text.replace('"at": 1', '"at": 2', 1)
        connection.execute("UPDATE events SET data = ? WHERE study = 1 AND seq = ?", (changed, seq))
    with pytest.raises(StudyDamagedError, match=rf"event 1 or a later one up to event {count + 1}"):
        SqlStore(path).events(name)


def test_events_of_an_older_program_are_accepted_and_covered(tmp_path: Path) -> None:
    """A program of an older version may have the database open during the upgrade."""
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {}, [{"n": 1}])
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute("INSERT INTO events VALUES (1, 2, '{\"n\": 2}')")
    assert store.events("s") == [{"n": 1}, {"n": 2}]
    assert store.append("s", [{"n": 3}], 2) == 3
    assert SqlStore(tmp_path / "runs.db").events("s") == [{"n": 1}, {"n": 2}, {"n": 3}]
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute("UPDATE events SET data = '{\"n\": 5}' WHERE seq = 2")
    with pytest.raises(StudyDamagedError, match="event 2"):
        SqlStore(tmp_path / "runs.db").events("s")


@pytest.mark.parametrize("file", ["checksums.db", "checksums.jsonl"])
def test_golden_checksums_are_those_of_this_version(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    shutil.copy(GOLDEN / file, path)
    if file.endswith(".jsonl"):
        store = open_store(tmp_path / "runs.db")
        import_study(store, path)
    else:
        store = open_store(path)
    expected = json.loads((GOLDEN / "checksums.json").read_text())
    manual = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), None, bi.Minimize())
    study = bi.Study.open("checked", store, manual)
    assert [t.point.tolist() for t in study.trials] == expected["points"]
    place = tmp_path / ("runs.db" if file.endswith(".jsonl") else file)
    with closing(sqlite3.connect(place)) as connection:
        texts = connection.execute("SELECT data FROM events ORDER BY seq").fetchall()
    sums = [re.search(r'"checksum": "(\w{16})"\}$', text) for (text,) in texts]
    assert [one and one[1] for one in sums] == expected["checksums"]
    (trial,) = study.ask()
    assert study.tell(trial, 1.0).number == 6


def test_a_store_without_checksums_names_an_invalid_event() -> None:
    store = MemoryStore()
    bi.Study.create("s", problem(), "random", storage=store).run(2)
    store.append("s", [{"kind": "started", "at": 0.0, "trial": 99}], 6)
    with pytest.raises(StudyDamagedError, match=r"event 7 is invalid.*trial must be below 2"):
        bi.Study.open("s", store).trials  # noqa: B018
    assert isinstance(dict(readers(store))["s"], BoInvertError)
