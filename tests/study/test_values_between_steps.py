"""Steps bind proposals; conditions that were run are recorded exactly and used by models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi

SPACE: dict[str, Any] = {
    "dose": bi.Float(0, 1, step=0.25),
    "heat": bi.Float(10, 1000, step=10, log=True),
    "ratio": bi.Float(0, 2, digits=1),
}
RUN = {"dose": 0.437, "heat": 123.4, "ratio": 1.23}


def hand_study(space: bi.Box | None = None, **options: Any) -> bi.Study:
    problem = bi.Problem(space or bi.Box(SPACE), None, bi.Minimize("f"), outputs=["f"])
    return bi.Study.create("between", problem, seed=0, **options)


def reopened(study: bi.Study) -> bi.Study:
    return bi.Study.open(study.name, study._store, study.problem)


def test_conditions_of_a_trial_are_recorded_exactly(tmp_path: Path) -> None:
    study = hand_study(storage=f"sqlite:///{tmp_path}/s.db")
    trial = study.tell(study.ask()[0], 1.0, at=RUN)
    assert trial.design == RUN
    assert trial.moved
    assert reopened(study).trials[0].design == RUN
    assert study.amend(trial, at={"dose": 0.4411}).design == {**RUN, "dose": 0.4411}
    assert study.to_dataframe()["heat"].tolist() == [123.4]


def test_tables_designs_and_queued_designs_keep_their_values() -> None:
    study = hand_study()
    added = study.add([{**RUN, "f": 2.0}, {**RUN, "ratio": 1.24, "f": 2.1}], errors="raise")
    (other,) = study.add([{**RUN, "dose": 0.1}], [3.0])
    queued = study.enqueue({**RUN, "heat": 500.5})
    assert [trial.design["ratio"] for trial in added] == [1.23, 1.24]
    assert other.design["dose"] == 0.1
    assert study.ask()[0].design == queued.design == {**RUN, "heat": 500.5}
    assert not study.add([{**RUN, "f": 2.0}])  # recorded before


def test_coordinates_are_those_of_the_real_value() -> None:
    domain = hand_study().domain
    assert domain is not None
    lower, value, upper = domain.encode([{**RUN, "dose": dose} for dose in (0.25, 0.35, 0.5)])[:, 0]
    assert (value - lower) / (upper - lower) == pytest.approx(0.4)
    assert domain.encode([{**RUN, "dose": 0.25 + 1e-9}])[0, 0] == lower  # rounding


def test_models_and_predictions_use_the_real_value() -> None:
    study = hand_study(bi.Box({"x": bi.Float(0, 1, step=0.25)}))
    doses = np.linspace(0.02, 0.98, 25)
    study.add([{"x": float(x)} for x in doses], np.sin(6.0 * doses))
    found = study.predict([{"x": 0.13}, {"x": 0.37}])
    assert found.outputs["f"].mean == pytest.approx(np.sin([0.78, 2.22]), abs=0.02)
    assert [row["x"] for row in found.records()] == [0.13, 0.37]


def test_input_constraints_hold_for_the_real_values() -> None:
    space = bi.Box({n: bi.Float(0, 1, step=0.1) for n in "abc"}, constraints="a + b + c == 1")
    study = hand_study(space)
    trial = study.add([{"a": 0.333, "b": 0.333, "c": 0.334}], [1.0])[0]
    assert trial.design["c"] == 0.334
    assert not trial.outside
    with pytest.raises(bi.InvalidInputError, match=r"left side is 1\.04"):
        study.enqueue({"a": 0.34, "b": 0.34, "c": 0.36})
    trials = study.ask(8)
    assert all(round(10 * v, 9) == round(10 * v) for t in trials for v in t.design.values())


def test_fixed_values_are_proposals_and_ranges_bind_all() -> None:
    study = hand_study()
    with pytest.raises(bi.InvalidInputError, match=r"step is 0\.25"):
        study.ask(fixed={"dose": 0.3})
    with pytest.raises(bi.InvalidInputError, match=r"1\.2 is not a number in \[0.*1"):
        study.enqueue({**RUN, "dose": 1.2})


def test_a_measured_design_between_steps_answers_no_proposal() -> None:
    problem = bi.Problem(bi.Box({"x": bi.Float(0, 1, step=0.5)}), lambda d: d["x"], bi.Minimize())
    study = bi.Study.create("few", problem, "random", seed=0)
    for x in (0.1, 0.4, 0.6, 0.9):
        study.enqueue({"x": x})
    study.run(7)
    designs = [trial.design["x"] for trial in study.trials if trial.cost.values]
    assert designs[:4] == [0.1, 0.4, 0.6, 0.9]
    assert sorted(designs[4:]) == [0.0, 0.5, 1.0]


def test_data_of_a_box_may_lie_between_steps() -> None:
    rows = [{"x": float(x)} for x in np.random.default_rng(0).uniform(0.2, 0.8, 40)]
    space = bi.Box({"x": bi.Float(0, 1, step=0.25)}, data=rows)
    study = hand_study(space)
    assert {trial.design["x"] for trial in study.ask(3)} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert study.add([rows[0]], [1.0])[0].design == rows[0]
