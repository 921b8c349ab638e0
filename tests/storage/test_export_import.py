"""A study as a file: whole or not at all, in both directions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import bo_invert as bi
from bo_invert.errors import SchemaTooNewError, StudyExistsError
from bo_invert.storage import export_import as transfer
from bo_invert.storage.base import SCHEMA
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.sql import SqlStore


def problem() -> bi.Problem:
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: float((x**2).sum()), bi.Minimize())


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    s = bi.Study.create("naïve 'study'", problem(), "gp", storage=made)
    s.run(8)
    s.ask()
    return made


NAME = "naïve 'study'"


def test_a_study_goes_on_in_another_storage_as_it_would_have(
    store: MemoryStore, tmp_path: Path
) -> None:
    count = export_study(store, NAME, tmp_path / "s.jsonl")
    assert (
        count == len(store.events(NAME)) == len((tmp_path / "s.jsonl").read_text().splitlines()) - 2
    )
    other = SqlStore(f"sqlite:///{tmp_path}/runs.db")
    assert import_study(other, tmp_path / "s.jsonl") == NAME
    assert (other.header(NAME), other.events(NAME)) == (store.header(NAME), store.events(NAME))
    here, there = (bi.Study.open(NAME, s, problem()) for s in (store, other))
    assert here.spent == there.spent
    assert here.ask()[0].point.tolist() == there.ask()[0].point.tolist()
    assert import_study(other, tmp_path / "s.jsonl", "again") == "again"
    with pytest.raises(StudyExistsError):
        import_study(other, tmp_path / "s.jsonl")


def test_a_torn_export_leaves_the_old_file(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.jsonl"
    export_study(store, NAME, file)
    before = file.read_bytes()
    bi.Study.open(NAME, store, problem()).run(12)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            export_study(store, NAME, file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["s.jsonl"]
    export_study(store, NAME, file)
    assert file.read_bytes() != before


def test_what_is_torn_or_no_study_is_refused_with_its_line(
    store: MemoryStore, tmp_path: Path
) -> None:
    file, other = tmp_path / "s.jsonl", MemoryStore()
    export_study(store, NAME, file)
    lines = file.read_text().splitlines()

    def refused(content: str, words: str) -> None:
        (tmp_path / "bad.jsonl").write_text(content)
        with pytest.raises(bi.InvalidInputError, match=words):
            import_study(other, tmp_path / "bad.jsonl")
        assert other.names() == []

    for cut in range(1, len(lines)):
        refused("\n".join(lines[:cut]), "incomplete")
    refused("\n".join(lines)[:-200], "incomplete")
    refused("\n".join([*lines[:-2], lines[-1]]), "incomplete")
    refused("\n".join([*lines, lines[1]]), f"after its end, in line {len(lines) + 1}")
    refused("\n".join([lines[0], lines[2], *lines[1:]]), "line 2 .* not a valid next event")
    refused(
        "\n".join([lines[0], '{"kind": "exec"}', *lines[1:]]), "line 2 .* not a valid next event"
    )
    refused("", "must be a file from an export")
    refused("[1, 2]\n", "must be a file from an export")
    refused("\x80", "cannot be read|not JSON")
    with pytest.raises(bi.InvalidInputError, match="cannot be read"):
        import_study(other, tmp_path / "missing.jsonl")
    with pytest.raises(bi.InvalidInputError, match="folder"):
        export_study(store, NAME, tmp_path / "missing" / "s.jsonl")
    newer = json.dumps({**json.loads(lines[0]), "schema": SCHEMA + 1})
    (tmp_path / "bad.jsonl").write_text("\n".join([newer, *lines[1:]]))
    with pytest.raises(SchemaTooNewError, match="newer version"):
        import_study(other, tmp_path / "bad.jsonl")


def test_the_command_line_does_the_same(store: MemoryStore, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from bo_invert.cli.main import app

    export_study(store, NAME, tmp_path / "s.jsonl")
    url, runner = f"sqlite:///{tmp_path}/runs.db", CliRunner()
    assert (
        runner.invoke(
            app, ["import", str(tmp_path / "s.jsonl"), "--storage", url, "--name", "b"]
        ).exit_code
        == 0
    )
    assert (
        runner.invoke(app, ["export", "b", str(tmp_path / "t.jsonl"), "--storage", url]).exit_code
        == 0
    )

    def events(file: str) -> list[dict[str, Any]]:
        lines = (tmp_path / file).read_text().splitlines()[1:]
        return [{**json.loads(line), "checksum": None} for line in lines]

    assert events("t.jsonl") == events("s.jsonl"), "the checksums cover the name"
    assert transfer.FORMAT in (tmp_path / "t.jsonl").read_text()
