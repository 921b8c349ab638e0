"""Values that are not finite, failures and empty tables are never recorded as observations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bo_invert as bi
from bo_invert.types import State


def study() -> bi.Study:
    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), None, bi.Minimize("y"), outputs=["y"])
    return bi.Study.create("lab", problem, "random")


def test_outputs_that_are_not_finite_are_invalid_rows(tmp_path: Path) -> None:
    path = tmp_path / "lab.csv"
    path.write_text("a,y\n.1,inf\n.2,1e400\n.3,-Infinity\n.4,∞\n.5,1\n")
    added = study().add(path, errors="ignore")
    assert added.summary.startswith("1 observation recorded, 4 rows invalid\n")
    assert [one.row for one in added.rejected] == ["row 2", "row 3", "row 4", "row 5"]
    assert "y: must be a finite number, got '1e400'" in added.rejected[1].reason
    frame = pd.DataFrame({"a": [0.1, 0.2], "y": [np.inf, 2.0]})
    assert [one.row for one in study().add(frame, errors="ignore").rejected] == ["index 0"]


def test_results_that_are_not_finite_are_invalid_rows() -> None:
    lab = study()
    lab.ask(3)
    rows = [{"trial": 0, "y": "inf"}, {"trial": 1, "y": "failed: spilled"}, {"trial": 2, "y": 2}]
    added = lab.tell_table(rows, errors="ignore")
    assert added.summary.startswith("1 observation recorded, 1 row recorded as failed, 1 row inv")
    assert [trial.state for trial in lab.trials] == [
        State.RUNNING, State.FAILED, State.COMPLETED,
    ]  # fmt: skip


def test_failures_of_a_table_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "lab.csv"
    path.write_text("a,y\n.1,failed: spilled\n.2,infeasible: too thick\n.3,1\n")
    added = study().add(path)
    assert added.summary.startswith("1 observation recorded, 2 rows recorded as failed\n")
    assert [str(one) for one in added.failed] == [
        "row 2: spilled", "row 3: infeasible: too thick",
    ]  # fmt: skip


def test_failures_beside_designs_are_listed() -> None:
    added = study().add([{"a": 0.1}, {"a": 0.2}], [np.inf, 1.0])
    assert added.summary.startswith("1 observation recorded, 1 row recorded as failed")
    assert [one.row for one in added.failed] == ["item 0"]


@pytest.mark.parametrize("answer", [{"y": float("nan")}, np.inf, [np.nan], {"y": None}])
def test_an_amendment_needs_finite_outputs(answer: object) -> None:
    lab = study()
    (trial,) = lab.add({"a": 0.5, "y": 1.0})
    with pytest.raises(bi.InvalidInputError, match="Outputs must be finite numbers"):
        lab.amend(trial, answer)
    assert lab.trials[0].state is State.COMPLETED
    assert lab.amend(trial, bi.FailedError("spilled")).state is State.FAILED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "table: it has no rows"),
        ({}, "table: it has no rows"),
        (pd.DataFrame(), "table: it has no rows"),
        (pd.DataFrame({"a": [], "y": []}), "table: it has no rows"),
        (np.zeros((0, 2)), "table: it has no rows"),
        (5, "list of dicts, got int 5"),
        ([1, 2], "list of dicts, got a list of int"),
        (np.zeros((2, 2)), "list of dicts, got ndarray"),
        ({"a": 0.1}, r"the outputs \['y'\] are missing"),
    ],
)
def test_what_is_no_table_of_observations_is_named(given: object, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        study().add(given)
