"""SQLite files: names with special characters, access rights, read-only places, backups."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bo_invert.cli.main import app
from bo_invert.errors import InvalidInputError, StorageError, StudyNotFoundError
from bo_invert.storage.backup import backup
from bo_invert.storage.base import Store
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_existing, open_store
from bo_invert.storage.reader import readers
from bo_invert.storage.sql import SqlStore

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = [
    "a?b.db", "a%20b.db", "a b.db", "a#b.db", "a%3Fb.db", "a&b=c.db", "a;b.db", "ä🙂.db",
    "file:a.db", ":memory:.db", "a'b\".db", "a\\b.db", "?.db", "%.db", "a@b:c.db", " .db",
    "a?b=c.db",
]  # fmt: skip
OPENINGS: dict[str, Callable[[Path], Store]] = {
    "path": open_store,
    "text of a path": lambda path: open_store(str(path)),
    "URL": lambda path: open_store(f"sqlite:///{path}"),
    "URL with a driver": lambda path: SqlStore(f"sqlite+pysqlite:///{path}"),
    "existing": open_existing,
    "relative URL": lambda path: open_store(f"sqlite:///{os.path.relpath(path)}"),
    "text of a store": lambda path: open_store(str(open_store(path))),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opening", OPENINGS)
def test_a_path_leads_to_the_file_of_this_name_alone(
    opening: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if opening == "existing" or "b=c" in name:
        sqlite3.connect(path).close()
        path.touch()
    store = OPENINGS[opening](path)
    store.create("s", {"n": 1}, [{"n": 1}])
    assert store.events("s") == [{"n": 1}]
    assert {file.name for file in tmp_path.iterdir()} == {name, f"{name}-wal", f"{name}-shm"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM studies").fetchall() == [("s",)]


@pytest.mark.parametrize("options", ["?timeout=5", "?mode=ro&uri=true", "?cache=shared"])
def test_options_of_a_url_are_refused(options: str, tmp_path: Path) -> None:
    for place in (
        f"sqlite:///{tmp_path}/a.db{options}",
        f"sqlite:///file:{tmp_path}/a.db{options}",
    ):
        with pytest.raises(InvalidInputError, match="path without options") as refused:
            SqlStore(place)
        assert options in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_two_slashes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Write sqlite:///runs.db"):
        SqlStore("sqlite://runs.db")


def test_a_new_database_belongs_to_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqlStore(tmp_path / "runs.db")
        store.create("s", {})
        backup(store, tmp_path / "copy.db")
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(modes) == {"runs.db", "runs.db-wal", "runs.db-shm", "copy.db"}
    assert set(modes.values()) == {0o600}


def test_the_mode_of_an_existing_file_remains(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch(0o640)
    (tmp_path / "runs.db").chmod(0o640)
    SqlStore(tmp_path / "runs.db").create("s", {})
    assert stat.S_IMODE((tmp_path / "runs.db").stat().st_mode) == 0o640


READS: dict[str, Callable[[SqlStore], object]] = {
    "names": lambda store: store.names(),
    "header": lambda store: store.header("s"),
    "events": lambda store: store.events("s"),
    "beats": lambda store: store.beats("s"),
    "summaries": lambda store: store.summaries(),
    "readers": lambda store: list(readers(store)),
}
WRITES: dict[str, Callable[[SqlStore], object]] = {
    "append": lambda store: store.append("s", [{"n": 1}], 1),
    "beat": lambda store: store.beat("s", "w"),
    "delete": lambda store: store.delete("s"),
    "turn": lambda store: store.turn("s").__enter__(),
}


@pytest.mark.parametrize("call", READS | WRITES)
@pytest.mark.parametrize("content", [None, b""])
def test_no_call_on_a_study_creates_a_database(
    call: str, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "typo.db"
    if content is not None:
        path.write_bytes(content)
    store = SqlStore(path)
    if call in ("names", "summaries", "readers"):
        assert READS[call](store) == []
    else:
        with pytest.raises(StudyNotFoundError, match="no study named 's'"):
            (READS | WRITES)[call](store)
    store.close()
    assert path.exists() == (content is not None)
    if content is not None and call in READS:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    ["list", "show s", "trials s", "best s", "report s", "export s s.jsonl", "backup copy.db"],
)
def test_commands_report_a_missing_file(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SqlStore(tmp_path / "runs.db").create("s", {})
    done = CliRunner().invoke(app, [*line.split(), "--storage", "rums.db"])
    assert isinstance(done.exception, StorageError)
    assert "rums.db does not exist" in str(done.exception)
    assert "Did you mean 'runs.db'?" in str(done.exception)
    assert not (tmp_path / "rums.db").exists()
    assert not (tmp_path / "copy.db").exists()


READ = """
import os, sys
from pathlib import Path
from bo_invert.errors import StorageError
from bo_invert.storage.reader import readers
from bo_invert.storage.sql import SqlStore
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)  # the rights of root would hide those of the file
path = Path(sys.argv[1])
names = sorted(os.listdir(path.parent))
store = SqlStore(path)
print(*(f"{name}: {len(found.trials)}" for name, found in readers(store)), sep=", ")
for change in (lambda: store.create("t", {}), lambda: store.append("bowl", [{"n": 1}], 0)):
    try:
        change()
    except StorageError as error:
        assert "is read-only; nothing was written" in str(error), error
    else:
        raise AssertionError("written")
assert sorted(os.listdir(path.parent)) == names
"""
PLACES = ("folder", "file")
STATES = ("closed", "with -wal", "with -wal and -shm", "golden", "backup")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("state", STATES)
def test_a_database_is_readable_without_write_permission(place: str, state: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bo_invert-test-") as root:  # others can enter it
        Path(root).chmod(0o755)
        live, folder = Path(root) / "live", Path(root) / "read"
        live.mkdir()
        folder.mkdir()
        if state == "golden":
            shutil.copy(GOLDEN / "served.db", folder / "runs.db")
            expected = "served: 19, served auto: 13"
        else:
            study_of_three(live / "runs.db")
            store = SqlStore(live / "runs.db")
            store.beat("s", "w")
            if state == "backup":
                backup(store, folder / "runs.db")
            elif state == "closed":
                checkpoint(live / "runs.db")
            suffixes = {"with -wal": ("", "-wal"), "with -wal and -shm": ("", "-wal", "-shm")}
            for suffix in () if state == "backup" else suffixes.get(state, ("",)):
                shutil.copy(live / f"runs.db{suffix}", folder / f"runs.db{suffix}")
            expected = "s: 3"
        for file in folder.iterdir():
            file.chmod(0o444)
        if place == "folder":
            folder.chmod(0o555)
        elif os.getuid() == 0:
            folder.chmod(0o777)
        ran = subprocess.run(
            [sys.executable, "-c", READ, str(folder / "runs.db")], capture_output=True, text=True
        )
        folder.chmod(0o755)
        assert (ran.returncode, ran.stdout.strip()) == (0, expected), ran.stderr


def checkpoint(path: Path) -> None:
    """Move the content of the ``-wal`` file to the main file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def study_of_three(path: Path) -> None:
    import bo_invert as bi

    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), lambda x: float(x.sum()), bi.Minimize())
    bi.Study.create("s", problem, "random", storage=f"sqlite:///{path}").run(3)


def test_a_backup_is_the_state_of_one_moment(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("a", {})
    store.create("b", {})
    ended = threading.Event()

    def write() -> None:
        writer, number = SqlStore(tmp_path / "runs.db"), 0
        while not ended.is_set():
            writer.append("a", [{"n": number}], number)
            writer.append("b", [{"n": number}], number)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy {number}.db"
            backup(store, copy)
            saved = SqlStore(copy, read_only=True)
            a, b = len(saved.events("a")), len(saved.events("b"))
            assert a - b in (0, 1)
            saved.close()
            assert not copy.with_name(f"{copy.name}-wal").exists()
    finally:
        ended.set()
        thread.join()
    assert not list(tmp_path.glob(".*")), "no temporary file remains"
    again = SqlStore(copy)
    assert again.append("a", [{"n": -1}], a) == a + 1, "the copy is a storage"


def test_backups_that_would_harm_are_refused(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "runs.db")
    store.create("s", {"n": 1})
    (tmp_path / "old.db").write_text("old")
    with pytest.raises(InvalidInputError, match=r"must not exist.*--overwrite"):
        backup(store, tmp_path / "old.db")
    backup(store, tmp_path / "old.db", overwrite=True)
    assert SqlStore(tmp_path / "old.db").header("s") == {"n": 1}
    for overwrite in (False, True):
        with pytest.raises(InvalidInputError, match="must not exist"):
            backup(store, tmp_path / "runs.db", overwrite=overwrite)
    used = SqlStore(tmp_path / "used.db")
    used.create("t", {})
    with pytest.raises(InvalidInputError, match="a program uses or used this database"):
        backup(store, tmp_path / "used.db", overwrite=True)
    with pytest.raises(InvalidInputError, match="folder"):
        backup(store, tmp_path / "no" / "copy.db")
    with pytest.raises(StorageError, match="does not exist"):
        backup(SqlStore(tmp_path / "none.db"), tmp_path / "copy.db")
    with pytest.raises(InvalidInputError, match=r"must be an SQLite file.*pg_dump"):
        backup(MemoryStore(), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_damaged_file_is_not_copied(tmp_path: Path) -> None:
    study_of_three(tmp_path / "runs.db")
    store = SqlStore(tmp_path / "runs.db")
    store.beat("s", "w")
    store.close()
    checkpoint(tmp_path / "runs.db")
    data = bytearray((tmp_path / "runs.db").read_bytes())
    page = int.from_bytes(data[16:18], "big")
    data[page : page + 64] = b"\xff" * 64
    (tmp_path / "runs.db").write_bytes(data)
    with pytest.raises(StorageError, match=r"damaged|cannot be copied"):
        backup(SqlStore(tmp_path / "runs.db"), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_the_command_backup(tmp_path: Path) -> None:
    study_of_three(tmp_path / "runs.db")
    url = f"sqlite:///{tmp_path}/runs.db"
    copy = str(tmp_path / "copy.db")
    done = CliRunner().invoke(app, ["backup", copy, "--storage", url])
    assert (done.exit_code, done.output.strip()) == (
        0,
        f"1 study copied to {copy}, 0 damaged",
    )
    SqlStore(url).append("s", [{"kind": "nonsense", "at": 0.0}], len(SqlStore(url).events("s")))
    done = CliRunner().invoke(app, ["backup", copy, "--storage", url, "--overwrite"])
    assert done.exit_code == 1
    assert "study 's' is damaged: event" in done.output
    assert "1 study copied" in done.output
