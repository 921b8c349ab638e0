"""Studies of a target that are killed and started again continue as undisturbed ones."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import kill_repeatedly

import bo_invert as bi
from bo_invert.study import hopes
from bo_invert.types import Array

BEYOND = {"a": 1.7, "b": 0.5}


def oracle(x: Any) -> Array:
    time.sleep(0.02)  # so that a kill hits some calls
    a, b = np.asarray(x, dtype=float)
    return np.array([a + 0.5 * b**2, np.sin(3.0 * a) * b])


def study_in(folder: Path, name: str, target: dict[str, float]) -> bi.Study:
    box, goal = bi.Box([0.0] * 2, [1.0] * 2), bi.Target(target, tolerance=0.02)
    problem = bi.Problem(box, oracle, goal, outputs=["a", "b"], name="two outputs")
    storage = f"sqlite:///{folder}/runs.db"
    return bi.Study.create(name, problem, seed=2, storage=storage, exist_ok=True)


def judged(folder: Path) -> bi.Study:
    """Start or resume a run that ends with the verdict that its target is unreachable."""
    return study_in(folder, "judged", BEYOND).run(100, stop="verdict")


def retargeted(folder: Path) -> bi.Study:
    """Start or resume a study of a second target on the log of a first one."""
    first = study_in(folder, "first", {"a": 1.2, "b": 0.3}).run(20)
    other = first.retarget({"a": 1.4, "b": 0.7}, name="retargeted", exist_ok=True)
    return other.run(24, stop="verdict")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize(("search", "marks"), [(judged, (5, 17)), (retargeted, (12,))])
def test_killed_study_continues_identically(
    search: Callable[[Path], bi.Study], marks: tuple[int, ...], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    reference = search(whole)
    kill_repeatedly(search, killed, search.__name__, marks)
    found = search(killed)
    assert [t.query.to_json() for t in found.trials] == [
        t.query.to_json() for t in reference.trials
    ]
    assert np.array_equal(found.history.y, reference.history.y)
    assert found.ended == reference.ended
    assert found.verdict().to_json() == reference.verdict().to_json()
    assert found.spent.lost <= len(marks)
    if search is judged:
        assert found.verdict().status == "unreachable"
        assert any(trial.origin == hopes.ORIGIN for trial in found.trials[: marks[-1]])
