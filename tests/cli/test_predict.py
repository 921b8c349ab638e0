"""``bo-invert predict``, ``outlook``, ``polish`` and ``--stop``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from command_line import Command

import bo_invert as bi

AT = ("--storage", "sqlite:///runs.db")


@pytest.fixture
def bo(command: Command, tmp_path: Path) -> Command:
    """The command line in a folder with a study of 20 random calls."""
    study = bi.Study.create("lab", bi.ready_problem("hartmann6"), "random", storage=AT[1])
    study.run(20)
    lines = ["x0,x1,x2,x3,x4,x5,note", "0.2,0.15,0.5,0.3,0.3,0.65,good", "0.5,0.5,0.5,0.5,0.5,0.5,"]
    (tmp_path / "points.csv").write_text("\n".join(lines))
    return command


def test_predictions_of_a_table_are_those_of_the_study(bo: Command) -> None:
    study = bi.Study.open("lab", AT[1], bi.ready_problem("hartmann6"))
    expected = study.predict("points.csv").records()
    shown = bo("predict", "lab", "points.csv", *AT, "--format", "csv")
    assert shown.code == 0
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert [float(row["y.low"]) for row in rows] == pytest.approx([e["y.low"] for e in expected])
    assert "random forest" in shown.err or "Gaussian process" in shown.err
    table = bo("predict", "lab", "points.csv", *AT).out
    assert "y.median" in table
    assert "y.std" not in table
    assert bo("predict", "lab", "missing.csv", *AT).code == 2


def test_the_outlook_is_shown(bo: Command) -> None:
    shown = json.loads(bo("outlook", "lab", *AT, "--format", "json").out)
    assert shown["calls"] == 20
    assert shown["text"].startswith(("after 20 calls", "undecided after 20 calls"))


def test_polish_continues_the_study(bo: Command) -> None:
    before = bi.Study.open("lab", AT[1]).best.loss
    shown = bo("polish", "lab", *AT, "--budget", "8", "--quiet", "--format", "json")
    assert shown.code == 0
    assert json.loads(shown.out)["best_loss"] < before
    assert bi.Study.open("lab", AT[1]).spent.calls == 28


def test_a_run_ends_by_its_rule(bo: Command) -> None:
    arguments = (
        "run", "branin25", "--strategy", "random", "--budget", "90", *AT, "--stop",
        "patience:9 | cost:80", "--quiet", "--name", "short",
    )  # fmt: skip
    shown = bo(*arguments)
    assert shown.code == 0
    study = bi.Study.open("short", AT[1])
    assert study.ended
    assert f"stopped: {study.ended}" in shown.err
    count = len(study.trials)
    assert bo(*arguments).code == 0
    assert len(bi.Study.open("short", AT[1]).trials) == count
    wrong = bo(*arguments[:-3], "--stop", "luck:3", "--name", "other")
    assert wrong.code == 2
    assert "NAME:NUMBER" in wrong.err


def test_a_worker_ends_by_its_rule(bo: Command) -> None:
    shown = bo("worker", AT[1], "lab", "hartmann6", "--executor", "serial", "--stop", "cost:25")
    assert shown.code == 0
    assert "25 calls are billed" in shown.err
    study = bi.Study.open("lab", AT[1])
    assert (study.spent.calls, study.ended) == (25, "25 calls are billed")
