"""Commands about the inputs of a target: all solutions, verdicts, further targets, tolerances."""

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
far = bi.Problem(
    space, lambda d: {"y": d["a"] ** 2}, bi.Target({"y": 9.0}, tolerance=0.05), name="far"
)
rough = bi.Problem(
    space, lambda d: {"y": d["a"] ** 2}, bi.Target({"y": 1.0}, tolerance=0.2), name="rough",
    input_noise=0.05,
)
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


@pytest.fixture
def far(bo: Command) -> Command:
    """The command line with a study whose target is out of reach."""
    shown = bo("run", "square.py:far", *AT, "--name", "far", "--budget", "40", "--stop", "verdict",
               "--quiet")  # fmt: skip
    assert "the target is unreachable" in shown.err
    return bo


def test_verdicts(far: Command) -> None:
    shown = far("verdict", "far", *AT, "--format", "json")
    assert "the target is unreachable" in shown.err
    found = json.loads(shown.out)
    assert found["status"] == "unreachable"
    assert found["probability"] <= 0.05
    assert found["calls"] < 40
    assert found["nearest.y"] == pytest.approx(4.0, abs=0.1)
    assert abs(found["nearest.a"]) == pytest.approx(2.0, abs=0.1)
    assert "bound" in found["limited_by"]
    assert "limited_by" in far("verdict", "far", *AT).out
    assert far("verdict", "far", *AT, "--alpha", "2").code == 2


def test_targets_that_can_be_reached(far: Command, tmp_path: Path) -> None:
    (tmp_path / "targets.csv").write_text("note;y\na;1,0\nb;9,0\n")
    (tmp_path / "bad.csv").write_text("y\nhigh\n")
    direct = far("reachable", "far", *AT, "--values", "y=1", "--values", "y=9", "--format", "json")
    read = far("reachable", "far", *AT, "--values", "targets.csv", "--format", "json")
    assert read.out == direct.out
    near, beyond = json.loads(read.out)
    assert near["probability"] > 0.9
    assert beyond["probability"] <= 0.05
    assert "tolerances: y 0.05" in read.err
    assert len(json.loads(far("reachable", "far", *AT, "--format", "json").out)) > 10
    for wrong, why in (
        ("z=1", "y"), ("y=high", "number"), ("bad.csv", "y must be a number"), ("no.csv", "no.csv"),
    ):  # fmt: skip
        shown = far("reachable", "far", *AT, "--values", wrong)
        assert shown.code == 2
        assert why in shown.err


def test_further_targets(far: Command) -> None:
    made = far("retarget", "far", "near", "--target", "y=0.7", "--tolerance", "0.01", *AT)
    assert (made.code, "bo-invert predicted near" in made.err) == (0, True)
    guess = json.loads(far("predicted", "near", *AT, "--format", "json").out)
    assert guess["a"] ** 2 == pytest.approx(0.7, abs=0.05)
    assert guess["y.low"] <= guess["y"] <= guess["y.high"]
    work = ("run", "square.py:far", *AT, "--name", "near", "--budget", "10", "--quiet")
    found = json.loads(far(*work, "--format", "json").out)
    assert found["best.y"] == pytest.approx(0.7, abs=0.01)
    assert found["values"] <= 10
    low = far("retarget", "far", "low", "--minimize", "y", "--constraint", "y >= 0.5", *AT)
    assert low.code == 0
    worker = far("worker", AT[1], "low", "square.py:far", "--executor", "serial", "--budget", "8")
    assert worker.code == 0
    best = json.loads(far("best", "low", *AT, "--format", "json").out)
    assert 0.5 <= best["y"] < 0.6
    for wrong in ((), ("--target", "y=1", "--minimize", "y"), ("--target", "z=1")):
        assert far("retarget", "far", "wrong", *wrong, *AT).code == 2
    other = ("run", "square.py:rough", *AT, "--name", "near", "--budget", "12", "--quiet")
    assert "the problem must be the one" in far(*other).err


def test_tolerances_of_a_design(bo: Command) -> None:
    run = ("run", "square.py:problem", *AT, "--name", "t", "--budget", "30", "--quiet")
    assert bo(*run).code == 0
    limits = ("tolerances", "t", *AT, "--problem", "square.py:problem", "--format")
    shown = json.loads(bo(*limits, "json", "--calls", "5").out)
    assert 0 < shown["calls"] <= 5
    (row,) = shown["parameters"]
    assert row["parameter"] == "a"
    for end in ("box from", "box to"):
        assert row[end] ** 2 == pytest.approx(1.0, abs=0.07)
    again = bo(*limits, "csv", "--calls", "5")
    (same,) = csv.DictReader(io.StringIO(again.out))
    assert float(same["box to"]) == row["box to"]
    assert "5 checks" in again.err or f"{shown['calls']} check" in again.err
    blind = json.loads(bo("tolerances", "t", *AT, "--format", "json").out)
    assert blind["calls"] == shown["calls"]
    assert bo("tolerances", "t", *AT, "--trial", "999").code == 2


def test_yields_of_the_best_trial(bo: Command) -> None:
    run = ("run", "square.py:rough", *AT, "--name", "r", "--budget", "12", "--quiet")
    assert bo(*run).code == 0
    found = json.loads(bo("best", "r", *AT, "--format", "json").out)
    assert found["yield.low"] <= found["yield"] <= found["yield.high"]
    assert found["yield"] >= found["nominal.yield"]
    assert abs(found["recommended.a"]) <= 2.0
    assert "yield" in bo("best", "r", *AT).out
