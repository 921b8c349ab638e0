"""``bo-invert run --find all``, ``solutions``, ``posterior`` and workers that search all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from command_line import Command

AT = ("--storage", "sqlite:///runs.db")
PROBLEM = """
import bo_invert as bi

space = bi.Box({"a": bi.Float(-2.0, 2.0)})
problem = bi.Problem(space, lambda d: {"y": d["a"] ** 2}, bi.Target({"y": 1.0}, tolerance=0.05))
"""


@pytest.fixture
def bo(command: Command, tmp_path: Path) -> Command:
    """The command line in a folder with a problem that has two solutions."""
    (tmp_path / "square.py").write_text(PROBLEM)
    return command


def test_all_solutions_of_a_run(bo: Command) -> None:
    shown = bo("run", "square.py:problem", *AT, "--name", "s", "--find", "all", "--budget", "60",
               "--quiet", "--format", "json")  # fmt: skip
    assert shown.code == 0
    assert "cover nearly all" in shown.err
    found = json.loads(bo("solutions", "s", *AT, "--count", "2", "--format", "json").out)
    assert sorted(round(one["a"]) for one in found) == [-1, 1]
    assert sorted(one["branch"] for one in found) == [0, 1]
    table = bo("solutions", "s", *AT)
    assert "branch" in table.out
    assert "near a verified design" in table.err
    samples = bo("posterior", "s", *AT, "--count", "50", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(samples.out)))
    assert len(rows) == 50
    assert {round(float(row["a"])) for row in rows} == {-1, 1}
    assert "50 samples" in samples.err


def test_a_worker_continues_after_the_first_solution(bo: Command) -> None:
    work = ("worker", AT[1], "w", "square.py:problem", "--executor", "serial", "--budget", "60")
    shown = bo(*work, "--create", "--strategy", "gp", "--find", "all")
    assert shown.code == 0
    assert "cover nearly all" in shown.err
    found = json.loads(bo("solutions", "w", *AT, "--count", "2", "--format", "json").out)
    assert sorted(round(one["a"]) for one in found) == [-1, 1]


def test_other_values_and_objectives_are_refused(bo: Command) -> None:
    run = ("run", "hartmann6", "--budget", "5", "--quiet")
    shown = bo(*run, "--find", "all")
    assert shown.code != 0
    assert "needs a target" in shown.err
    assert bo(*run, "--find", "some").code == 2
