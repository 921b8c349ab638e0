"""Tests of the commands in docs/service.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from servers import Served

import bo_invert as bi
from bo_invert.service.registered_problems import RegisteredProblems

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.mark.service
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_whole_search_with_curl(tmp_path: Path, server: Served) -> None:
    (script,) = (block for block in blocks("sh") if "curl" in block)
    script = script.replace("http://127.0.0.1:8765", server.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TOKEN": server.token},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)["best"]
    assert bi.Study.open("kettle", server.url, token=server.token).spent.values == 12
    assert best["feasible"]
    assert best["loss"] < 60.0, "a little water and many watts boil within a minute"


@pytest.mark.service
def test_python_there_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Served) -> None:
    """The blocks of the page, with fewer calls and the address of this server."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    shared, remote, tracked = blocks("python")
    run(shared.replace("budget=20", "budget=6"), scope)
    run(tracked.replace("budget=30", "budget=10"), scope)
    assert isinstance(scope["study"], bi.Study)
    assert scope["study"].spent.values == 10
    assert len(mlflow.MlflowClient("sqlite:///mlflow.db").search_runs(["1"])) == 11
    remote = remote.replace("http://127.0.0.1:8765", server.url)
    run(remote.replace('"..."', repr(server.token)).replace("budget=100", "budget=16"), scope)
    study = scope["study"]
    assert isinstance(study, bi.Study)
    assert study.spent.values == 16


def run(source: str, scope: dict[str, object]) -> None:
    exec(compile(source, "docs/service.md", "exec"), scope)


def test_the_configuration_there_is_one(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    assert tomllib.loads(text)
    (tmp_path / "serve.toml").write_text(text)
    registered = RegisteredProblems.load(tmp_path / "serve.toml")
    assert registered.sources["digits"]["settings"] == {"oracle": "forest"}
