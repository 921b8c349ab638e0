"""A search of a front that is killed and started again proposes the same points."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import kill_repeatedly

import bo_invert as bi
from bo_invert.types import JSON

STRATEGY: JSON = {"name": "gp", "options": {"initial": 4, "kernel": "matern"}}


def problem() -> bi.Problem:
    """Return a problem of two criteria whose calls take some time, so that a kill hits one."""

    def oracle(p: dict[str, Any]) -> dict[str, float]:
        time.sleep(0.05)
        a, b = p["a"], p["b"]
        return {"cost": a**2 + b, "yield": float(np.sin(2 * a) + 0.2 * b)}

    space = bi.Box({"a": (0.0, 1.0), "b": (0.0, 1.0)})
    criteria = bi.Pareto(bi.Minimize("cost"), bi.Maximize("yield"))
    return bi.Problem(space, oracle, criteria, constraints=["cost <= 1.6"], name="recipe")


def search(folder: Path) -> None:
    """Start or resume the study."""
    study = bi.Study.create(
        "killed", problem(), STRATEGY, seed=5, storage=f"sqlite:///{folder}/runs.db", exist_ok=True
    )
    study.run(10)


def points(study: bi.Study) -> list[list[float]]:
    return [trial.point.tolist() for trial in study.trials]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_search_continues_identically(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    search(whole)
    kill_repeatedly(search, tmp_path, "killed", (3, 7))
    search(tmp_path)
    killed = bi.Study.open("killed", f"sqlite:///{tmp_path}/runs.db")
    reference = bi.Study.open("killed", f"sqlite:///{whole}/runs.db")
    assert points(killed) == points(reference)
    assert killed.front.values.tolist() == reference.front.values.tolist()
    assert killed.spent.lost <= 2
