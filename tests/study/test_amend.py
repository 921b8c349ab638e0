"""Corrected results, results under other conditions, observations outside the search domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import TellConflictError
from bo_invert.history import History
from bo_invert.strategies.base import from_spec
from bo_invert.types import State

BOX = {"a": bi.Float(0.0, 1.0), "b": bi.Float(0.0, 1.0)}


def problem() -> bi.Problem:
    return bi.Problem(bi.Box(BOX), None, bi.Minimize("y"), outputs=["y"], name="bowl")


def value(design: dict[str, float]) -> float:
    """The least value in the box is at a = 1; outside, at a = 1.3, it is lower."""
    return (design["a"] - 1.3) ** 2 + (design["b"] - 0.4) ** 2


def outside_rows() -> list[dict[str, float]]:
    points = np.random.default_rng(0).uniform([1.05, 0.0], [1.6, 1.0], (8, 2))
    return [{"a": a, "b": b, "y": value({"a": a, "b": b})} for a, b in points.tolist()]


def test_the_best_trial_and_the_models_follow_an_amendment() -> None:
    study = bi.Study.create("s", problem(), "gp", 0)
    for trial in study.ask(6):
        study.tell(trial, value(trial.design))
    mistyped = study.amend(3, -100.0)
    assert study.best is not None
    assert study.best.number == 3
    assert study.recommend().trial.number == 3
    before = [trial.point for trial in study.propose(None, study.journal.view(None), 1).queries]
    corrected = study.amend(mistyped, value(mistyped.design), reason="a dot too many")
    assert study.best.number != 3
    after = [trial.point for trial in study.propose(None, study.journal.view(None), 1).queries]
    assert not np.array_equal(before, after)
    assert [one.before.loss for one in corrected.amendments] == [value(mistyped.design), -100.0]
    frame = study.to_dataframe()
    assert "y=-100 (a dot too many)" in frame.amended[3]
    assert history_losses(study) == [value(trial.design) for trial in study.trials]


def history_losses(study: bi.Study) -> list[float]:
    return study.history.losses.tolist()


@pytest.mark.parametrize("strategy", ["gp", "cmaes", "turbo", "auto", "sobol"])
def test_a_study_with_an_amendment_resumes_exactly(tmp_path: Path, strategy: str) -> None:
    def run(url: str, reopen: bool) -> list[list[float]]:
        study = bi.Study.create("s", problem(), strategy, 1, url)
        for step in range(9):
            (trial,) = study.ask(budget=20)
            study.tell(trial, value(trial.design), at={"a": 0.25} if step == 4 else None)
            if step == 5:
                study.amend(2, 3.5, reason="typing error")
            if reopen:
                study = bi.Study.open("s", url, problem())
        return [trial.point.tolist() for trial in study.trials]

    whole = run(f"sqlite:///{tmp_path}/whole.db", False)
    assert run(f"sqlite:///{tmp_path}/parts.db", True) == whole
    assert whole[4][0] == 0.25


def test_omitted_parts_of_an_amendment_stay() -> None:
    two = bi.Problem(bi.Box(BOX), None, bi.Minimize("y"), outputs=["y", "z"])
    study = bi.Study.create("s", two, "random")
    (trial,) = study.ask()
    study.tell(trial, [1.0, 2.0], extra={"ph": 7}, at={"b": 0.5})
    assert study.amend(0, {"z": 3.0}).y.tolist() == [1.0, 3.0]
    moved = study.amend(0, at={"a": 0.125}, extra={"colour": "red"})
    assert (moved.design, moved.y.tolist()) == ({"a": 0.125, "b": 0.5}, [1.0, 3.0])
    assert dict(moved.extra) == {"ph": 7, "colour": "red"}
    failed = study.amend(0, bi.FailedError("contaminated"))
    assert (failed.state, failed.design, study.spent.failed) == (State.FAILED, moved.design, 1)
    assert study.best is None
    with pytest.raises(bi.InvalidInputError, match="one of outputs, at and extra"):
        study.amend(0)
    for wrong in ({"x": 1.0}, [1.0], "many"):
        with pytest.raises(bi.InvalidInputError):
            study.amend(0, wrong)
    for extra in ({"y": 1.0}, {"a": 1.0}, {"list": [1, 2]}, {" ": 1}, {"inf": float("inf")}):
        with pytest.raises(bi.InvalidInputError, match="extra"):
            study.amend(0, extra=extra)
    assert len(study.trials[0].amendments) == 3


def test_a_known_design_gets_the_amended_answer() -> None:
    def texts(codes: np.ndarray) -> list[str]:
        return ["ab"[int(z > 0)] for z in codes[:, 0]]

    letters = bi.Problem(bi.Latent(texts, 1), None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("s", letters, "random", 0)
    for trial in study.ask(1):
        study.tell(trial, 1.0)
    first = study.trials[0]
    study.amend(0, 5.0)
    while len(study.trials) < 8 and study.ask():
        pass
    repeats = [t for t in study.trials[1:] if t.design == first.design]
    assert repeats
    assert [t.loss for t in repeats if t.state is State.COMPLETED] == [5.0] * len(repeats)
    study.amend(0, 6.0)  # the copies of the former answer are measurements now
    assert study.trials[0].loss == 6.0


def test_conditions_are_checked() -> None:
    study = bi.Study.create("s", problem(), "random")
    (trial,) = study.ask()
    for at, part in [
        ({"c": 1.0}, "names must be among"), ({"a": "hot"}, "'a'"), ({"a": 2.0}, "outside='model'"),
        ({"a": float("nan")}, "'a'"),
    ]:  # fmt: skip
        with pytest.raises(bi.InvalidInputError, match=part):
            study.tell(trial, 1.0, at=at)
    with pytest.raises(bi.InvalidInputError, match="outside must be"):
        study.tell(trial, 1.0, at={"a": 0.5}, outside="yes")
    assert study.trials[0].state is State.RUNNING
    moved = study.tell(trial, 1.0, at={"a": 0.3})
    assert moved.design == {"a": 0.3, "b": trial.design["b"]}
    assert study.tell(trial, 1.0, at={"a": 0.3}).number == 0
    with pytest.raises(TellConflictError):
        study.tell(trial, 1.0, at={"a": 0.4})
    (failed,) = study.ask()
    gone = study.tell(failed, bi.FailedError("boiled"), at={"a": 0.9})
    assert (gone.state, gone.point[0]) == (State.FAILED, 0.9)


def test_conditions_in_a_latent_and_of_vectors() -> None:
    latent = bi.Problem(bi.Latent(lambda z: z, 2), None, bi.Minimize())
    study = bi.Study.create("z", latent, "random")
    (trial,) = study.ask()
    assert study.tell(trial, 1.0, at={"z1": 0.5}).point.tolist() == [trial.point[0], 0.5]
    vectors = bi.Problem(bi.Box([0.0, 0.0], [2.0, 2.0]), None, bi.Minimize())
    study = bi.Study.create("v", vectors, "random")
    first, second = study.ask(2)
    assert study.tell(first, 1.0, at=[0.5, 1.0]).design.tolist() == [0.5, 1.0]
    assert study.tell(second, 1.0, at={"x0": 0.25}).design[0] == 0.25


FAST = ("random", "sobol", "gp", "turbo", "forest", "auto", "cmaes", "pcn", "optuna", "nevergrad")


@pytest.mark.parametrize("name", FAST)
def test_strategies_stay_inside_with_observations_outside(name: str) -> None:
    try:
        strategy = from_spec(name)
    except bi.InvalidInputError as missing:
        pytest.skip(str(missing))
    study = bi.Study.create("s", problem(), strategy, 0)
    study.add(outside_rows(), outside="model")
    for _ in range(6):
        for trial in study.ask(budget=12):
            assert ((trial.point >= 0.0) & (trial.point <= 1.0)).all()
            study.tell(trial, value(trial.design))
    assert sum(trial.outside for trial in study.trials) == 8
    best = study.best
    assert best is not None
    assert not best.outside
    assert not study.recommend(noisy=True).trial.outside
    assert all(not one.outside for one in study.history.ranking)
    assert study.history.best.number == best.number
    assert study.spent.values == 6


def test_a_model_learns_from_observations_outside() -> None:
    """With the slope beyond the bound known, the first model-based points are at the bound."""
    with_data = bi.Study.create("s", problem(), "gp", 0)
    with_data.add(outside_rows(), outside="model")
    inside = [{"a": 0.1, "b": 0.1}, {"a": 0.3, "b": 0.9}, {"a": 0.2, "b": 0.5}] * 2
    with_data.add([one | {"y": value(one)} for one in inside], repeats="add")
    (trial,) = with_data.ask()
    assert trial.design["a"] > 0.9


def test_designs_outside_are_reported_skipped_or_recorded() -> None:
    rows = [{"a": 0.5, "b": 0.5, "y": 1.0}, {"a": 1.5, "b": 0.5, "y": -1.0}]
    study = bi.Study.create("s", problem(), "random")
    assert study.add(rows, outside="skip").skipped[0].row == "item 1"
    assert len(study.add(rows, outside="error", errors="ignore").rejected) == 1
    (trial,) = study.add(rows, outside="model")
    assert (trial.outside, trial.design, trial.feasible) == (True, {"a": 1.5, "b": 0.5}, False)
    assert study.to_dataframe().outside.tolist()[1:] == [True]
    assert "outside the domain" in repr(trial)
    far = study.add([{"a": 1e9, "b": 0.5, "y": 1.0}], outside="model", errors="ignore")
    assert "ranges away" in far.rejected[0].reason
    blank = study.add([{"a": 3.0, "b": 0.5, "y": None}], outside="model", errors="ignore")
    assert "no outputs" in blank.rejected[0].reason
    with pytest.raises(bi.InvalidInputError, match="outside must be one of"):
        study.add(rows, outside="models")


def test_designs_and_outputs_apart_may_lie_outside() -> None:
    study = bi.Study.create("s", problem(), "random")
    designs = [{"a": 0.5, "b": 0.5}, {"a": 1.5, "b": 0.5}]
    with pytest.raises(bi.InvalidInputError, match="'a'"):
        study.add(designs, [1.0, 2.0])
    found = study.add(designs, [1.0, -2.0], outside="model")
    assert [trial.outside for trial in found] == [False, True]
    vectors = bi.Study.create(
        "v", bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), None, bi.Minimize()), "random"
    )
    (far,) = vectors.add(np.array([[2.0, 0.5]]), [1.0], outside="model")
    assert (far.outside, far.design.tolist()) == (True, [2.0, 0.5])
    with pytest.raises(bi.InvalidInputError, match="outside='model'"):
        vectors.add(points=[[0.5, 1.5]], Y=[1.0])
    for options in ({"outside": "skip"}, {"repeats": "add"}, {"columns": {}}, {"errors": "raise"}):
        with pytest.raises(bi.InvalidInputError, match="one table"):
            study.add(designs, [1.0, 2.0], **options)
    assert (len(study.trials), len(vectors.trials)) == (2, 1)


def test_ax_gets_no_observation_outside() -> None:
    pytest.importorskip("ax")
    study = bi.Study.create("s", problem(), "random")
    study.add([{"a": 0.5, "b": 0.5, "y": 1.0}, {"a": 1.5, "b": 0.5, "y": -1.0}], outside="model")
    assert len(study.to_ax().summarize()) == 1


def test_integers_logarithms_and_constraints_outside() -> None:
    space = bi.Box(
        {"n": bi.Int(1, 5), "k": bi.Float(0.01, 1.0, log=True), "x": bi.Float(0.0, 1.0)},
        constraints="x <= 0.5",
    )
    study = bi.Study.create("s", bi.Problem(space, None, bi.Minimize("y")), "gp")
    base: dict[str, Any] = {"n": 2, "k": 0.1, "x": 0.2, "y": 1.0}
    rows = [base, base | {"n": 9}, base | {"k": 10.0}, base | {"x": 0.9}]
    rows += [base | {"n": 9.5}, base | {"k": -1.0}]
    found = study.add(rows, outside="model", errors="ignore")
    assert [trial.outside for trial in found] == [False, True, True, True]
    assert found[1].design["n"] == 9
    assert [one.row for one in found.rejected] == ["item 4", "item 5"]
    assert found[2].point[1] == pytest.approx(1.5)
    history = History(study.trials)
    assert history.violations.tolist() == [0.0, np.inf, np.inf, np.inf]


def test_conditions_equal_to_the_suggestion_are_no_move() -> None:
    study = bi.Study.create("s", problem(), "random")
    (trial,) = study.ask()
    assert not study.tell(trial, 1.0, at=dict(trial.design)).moved
    assert study.tell(trial, 1.0, at={"a": trial.design["a"]}) is not None  # changes nothing
    moved = study.amend(trial, at={"a": 0.5})
    assert moved.moved
    assert not study.amend(moved, at=dict(trial.design)).moved


def test_a_tell_that_differs_only_in_conditions_or_further_values_says_so() -> None:
    study = bi.Study.create("s", problem(), "random")
    (trial,) = study.ask()
    study.tell(trial, 1.0, extra={"ph": 7})
    with pytest.raises(TellConflictError, match=r"under other conditions.*at="):
        study.tell(trial, 1.0, at={"a": 0.987})
    with pytest.raises(TellConflictError, match=r"other values of ph.*extra="):
        study.tell(trial, 1.0, extra={"ph": 8})
