"""Studies under input constraints: resumption after kill -9, changed constraints, user designs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi

SCRIPT = """
import os, signal, sys
import bo_invert as bi

calls = 0

def loss(d):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return (d["a"] - 0.7) ** 2 + (d["b"] - 0.6) ** 2 + 0.1 * d["n"] + 0.1 * (d["s"] == "u")

space = bi.Box(
    {"a": bi.Float(0, 1), "b": bi.Float(0, 1), "c": bi.Float(0, 1), "n": bi.Int(0, 3),
     "s": bi.Choice("u", "v")},
    constraints=["a + b + c == 1", "n + a >= 0.5", bi.AtMost(2, ["a", "b", "c"])],
)
problem = bi.Problem(space, loss, bi.Minimize())
study = bi.Study.create("s", problem, "gp", 3, "sqlite:///" + sys.argv[1], exist_ok=True)
study.run(9, batch=2)
"""


def run(path: Path, kill_at: int) -> int:
    script = path.with_suffix(".py")
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(path), str(kill_at)]
    return subprocess.run(command, capture_output=True, env={**os.environ}, check=False).returncode


def points(path: Path) -> np.ndarray:
    study = bi.Study.open("s", f"sqlite:///{path}")
    return np.array([trial.point for trial in study.trials])


def test_a_killed_study_continues_identically(tmp_path: Path) -> None:
    assert run(tmp_path / "whole.db", 0) == 0
    assert run(tmp_path / "killed.db", 6) == -signal.SIGKILL
    assert run(tmp_path / "killed.db", 0) == 0
    np.testing.assert_array_equal(points(tmp_path / "whole.db"), points(tmp_path / "killed.db"))


def space(*constraints: Any) -> bi.Box:
    return bi.Box({name: bi.Float(0, 1) for name in "abc"}, constraints=constraints)


def test_changed_constraints_are_another_problem(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'runs.db'}"
    for constraint in ("a + b <= 1", "a + b <= 1", "a + b <= 0.9"):
        problem = bi.Problem(space(constraint), lambda d: d["a"], bi.Minimize())
        if constraint.endswith("1"):
            bi.Study.create("s", problem, "random", storage=storage, exist_ok=True)
        else:
            with pytest.raises(bi.BoInvertError, match=r"constraints|problem"):
                bi.Study.create("s", problem, "random", storage=storage, exist_ok=True)


def test_designs_of_the_user_are_checked() -> None:
    problem = bi.Problem(space("a + b + c == 1", "a <= b"), lambda d: d["a"], bi.Minimize())
    study = bi.Study.create("s", problem, "random")
    good, bad = {"a": 0.2, "b": 0.3, "c": 0.5}, {"a": 0.5, "b": 0.3, "c": 0.2}
    with pytest.raises(bi.InvalidInputError, match="'a <= b' is violated"):
        study.enqueue(bad)
    with pytest.raises(bi.InvalidInputError, match=r"design 1 of 2 .* 'a <= b' is violated"):
        study.add([good, bad], [1.0, 2.0])
    with pytest.raises(bi.InvalidInputError, match="== 1' is violated"):
        study.enqueue({**good, "c": 0.4})
    assert not study.trials
    # Fractions rounded to single precision satisfy an equality.
    waiting = study.enqueue({"a": 0.2, "b": 0.3, "c": float(np.float32(0.5000001))})
    assert study.ask()[0].number == waiting.number


def test_waiting_trials_with_other_values_are_left_out() -> None:
    box = bi.Box({"a": bi.Float(0, 1), "s": bi.Choice("u", "v")})
    study = bi.Study.create("s", bi.Problem(box, lambda d: d["a"], bi.Minimize()), "sobol")
    waiting = study.enqueue({"a": 0.5, "s": "u"})
    (trial,) = study.ask(fixed={"s": "v"})
    assert trial.number != waiting.number
    design: Any = trial.design
    assert design["s"] == "v"
    assert study.ask()[0].number == waiting.number
    with pytest.raises(bi.InvalidInputError, match=r"no point can be proposed|fixed"):
        study.ask(fixed={"s": "w"})
