"""A study of format 4 opens with the same state; older programs name the version they need."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.errors import SchemaTooNewError, StudyDamagedError
from bo_invert.storage import export_import, sql_schema
from bo_invert.storage.export_import import import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.sql import SqlStore

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
try:
    import make_amended
finally:
    sys.path.remove(str(GOLDEN))
EXPECTED = json.loads((GOLDEN / "amended.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def versions_may_differ() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_database_and_export_have_the_recorded_state(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "amended.db", tmp_path / "runs.db")
    url = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.open("amended", url, make_amended.problem())
    assert make_amended.state(study) == EXPECTED
    store = MemoryStore()
    import_study(store, GOLDEN / "amended.jsonl")
    study = bi.Study.open("amended", store, make_amended.problem())
    assert make_amended.state(study) == EXPECTED
    assert study.amend(3, 0.55).loss == -0.55


def test_the_present_code_records_the_same_state(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    made = make_amended.state(make_amended.make(url))
    assert made["spent"].pop("asking") >= 0.0
    spent = {name: value for name, value in EXPECTED["spent"].items() if name != "asking"}
    assert made == EXPECTED | {"spent": spent}


def test_an_older_program_names_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(GOLDEN / "amended.db", tmp_path / "runs.db")
    monkeypatch.setattr(sql_schema, "SCHEMA", 3)
    monkeypatch.setattr(export_import, "SCHEMA", 3)
    with pytest.raises(SchemaTooNewError, match=r"schema 4, this one knows 3.*pip install"):
        SqlStore(tmp_path / "runs.db").names()
    with pytest.raises(SchemaTooNewError, match=r"schema 4, this one knows 3"):
        import_study(MemoryStore(), GOLDEN / "amended.jsonl")


def test_an_unknown_kind_of_event_names_the_remedy() -> None:
    store = MemoryStore()
    import_study(store, GOLDEN / "amended.jsonl")
    store.append("amended", [{"kind": "reviewed", "at": 0.0}], len(store.events("amended")))
    with pytest.raises(StudyDamagedError, match="newer version of bo_invert may have written it"):
        bi.Study.open("amended", store).trials  # noqa: B018


def test_the_upgrade_of_version_3_retains_its_checksums(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(GOLDEN / "checksums.db", path)
    with closing(sqlite3.connect(path)) as connection, connection:
        (text,) = connection.execute("SELECT data FROM events WHERE seq = 2").fetchone()
        changed = text.replace('"at": 1', '"at": 2', 1)
        assert changed != text
        connection.execute("UPDATE events SET data = ? WHERE seq = 2", (changed,))
    store = SqlStore(path)
    store.create("other", {"problem_name": "x"}, [])  # the first change upgrades the database
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    assert version == "4"
    with pytest.raises(StudyDamagedError, match="event 2"):
        SqlStore(path).events("checked")
