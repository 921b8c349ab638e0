"""Verdicts on targets: status, nearest outputs, limits, early ends of runs, many targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.study import hopes
from bo_invert.types import Array


def two_outputs(x: Any) -> Array:
    a, b = np.asarray(x, dtype=float)[:2]
    return np.array([a + 0.5 * b**2, np.sin(3.0 * a) * b])


def study_of(
    target: bi.Target,
    oracle: Any = two_outputs,
    space: Any = None,
    strategy: str = "auto",
    storage: str | None = None,
    **options: Any,
) -> bi.Study:
    space = space or bi.Box([0.0] * 2, [1.0] * 2)
    problem = bi.Problem(space, oracle, target, outputs=["a", "b"], **options)
    return bi.Study.create("s", problem, strategy, seed=0, storage=storage, exist_ok=True)


OUTSIDE = bi.Target({"a": 1.7, "b": 0.5}, tolerance=0.02)


@pytest.fixture(scope="module")
def unreachable() -> bi.Study:
    return study_of(OUTSIDE).run(100, stop="verdict")


def test_hopeless_run_ends_early_with_the_nearest_outputs(unreachable: bi.Study) -> None:
    found = unreachable.verdict()
    assert found.status == "unreachable"
    assert found.probability is not None
    assert found.probability <= 0.05
    assert unreachable.spent.calls < 60
    assert "the target is unreachable" in unreachable.ended
    assert found.nearest is not None
    # At x1 = 1 both errors are equal: 1.2 - x0 = 0.5 - sin(3 x0).
    assert found.nearest.excess == pytest.approx(0.2404 / 0.02 - 1.0, abs=0.2)
    assert found.nearest.outputs["a"] == pytest.approx(1.4596, abs=0.01)
    assert found.limited_by == ("a too low", "b too low", "x1 at its upper bound 1")


def test_verdict_is_plain_data_and_text(unreachable: bi.Study) -> None:
    found = unreachable.verdict()
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["status"] == "unreachable"
    assert set(data["nearest"]["values"]) == {"x0", "x1"}
    assert "tolerances outside the target" in repr(found)
    assert "1.7 ± 0.02" in found._repr_html_()


def test_ended_run_ends_again_without_a_call(unreachable: bi.Study) -> None:
    before = len(unreachable.trials)
    unreachable.run(100, stop="verdict")
    assert len(unreachable.trials) == before
    assert hopes.hopeless(unreachable.trials, 0.05)


def test_reached_target_names_its_trial() -> None:
    study = study_of(bi.Target({"a": 0.9, "b": 0.4}, tolerance=0.05)).run(60, stop="verdict")
    found = study.verdict()
    assert found.status == "reached"
    assert found.nearest is not None
    assert found.nearest.trial == study.trials[-1].number
    assert found.nearest.excess == 0.0
    assert not found.limits
    assert json.dumps(found.to_json(), allow_nan=False)


def test_target_at_the_edge_is_reached() -> None:
    study = study_of(bi.Target({"a": 1.49, "b": 0.15}, tolerance=0.02)).run(120, stop="verdict")
    assert study.verdict().status == "reached"


def test_few_observations_leave_it_undecided() -> None:
    study = study_of(OUTSIDE).run(5)
    found = study.verdict()
    assert (found.status, found.probability) == ("undecided", None)
    assert "at least 16 are needed" in found.why
    assert "undecided" in repr(found)
    study.run(20)
    found = study.verdict()
    assert found.status == "undecided"
    assert found.why == "no best hope was tried: use run(stop='verdict')"
    assert found.probability is not None


@pytest.mark.filterwarnings("ignore:study 'few'. (8 distinct|none of|the first 10):UserWarning")
@pytest.mark.parametrize("failing", [False, True])
def test_all_designs_of_a_small_domain_were_tried(failing: bool) -> None:
    def oracle(p: dict[str, Any]) -> dict[str, float]:
        if failing:
            raise RuntimeError("no")
        return {"y": p["n"] + (0.5 if p["c"] == "y" else 0.0)}

    space = bi.Box({"n": bi.Int(0, 3), "c": bi.Choice("x", "y")})
    problem = bi.Problem(space, oracle, bi.Target({"y": 9.0}, tolerance=0.1), outputs=["y"])
    study = bi.Study.create("few", problem, "random", seed=0)
    assert study.run(4).verdict().status == "undecided"
    found = study.run(40).verdict()  # draws repeat failed designs
    assert (found.status, found.probability) == ("unreachable", 0.0)
    assert "all 8 designs were tried" in str(found)
    if not failing:
        assert found.nearest is not None
        assert found.nearest.outputs == {"y": 3.5}


@pytest.mark.parametrize("strategy", ["inverse", "sobol"])
def test_every_strategy_is_asked_for_best_hopes(strategy: str) -> None:
    study = study_of(OUTSIDE, strategy=strategy).run(90, stop="verdict")
    assert study.verdict().status == "unreachable"
    assert any(trial.origin == hopes.ORIGIN for trial in study.trials)


def test_parallel_run_asks_the_last_hopes_one_after_another() -> None:
    study = study_of(OUTSIDE, strategy="sobol").run(60, stop="verdict", batch=4, executor="threads")
    assert study.verdict().status == "unreachable"
    assert [trial.origin for trial in study.trials[-3:]] == [hopes.ORIGIN] * 3


def test_missed_hope_is_followed_by_another_while_other_trials_are_open() -> None:
    study = study_of(OUTSIDE, strategy="sobol").run(24)
    asked = Assignment(hope_level=0.05)
    hope, first, second = (study.take(1, None, assignment=asked)[0] for _ in range(3))
    assert hope.origin == hopes.ORIGIN
    assert hopes.ORIGIN not in (first.origin, second.origin)
    study.tell(first, two_outputs(first.point))
    assert study.take(1, None, assignment=asked)[0].origin != hopes.ORIGIN  # no outcome yet
    assert "0 of 3 best hopes" in study.verdict().why
    study.tell(hope, two_outputs(hope.point))
    (following,) = study.take(1, None, assignment=asked)
    assert following.origin == hopes.ORIGIN
    # An open hope neither counts nor ends the row.
    assert hopes.misses(study.trials, 0.05) == 1
    assert "1 of 3 best hopes" in study.verdict().why


def test_interrupted_run_ends_like_an_undisturbed_one(
    unreachable: bi.Study, tmp_path: Path
) -> None:
    calls = 0

    def fragile(x: Any) -> Array:
        nonlocal calls
        calls += 1
        if calls in (9, 18, 20):
            raise KeyboardInterrupt
        return two_outputs(x)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            study_of(OUTSIDE, fragile, storage=f"sqlite:///{tmp_path}/v.db").run(
                100, stop="verdict"
            )
    study = study_of(OUTSIDE, fragile, storage=f"sqlite:///{tmp_path}/v.db")
    study.run(100, stop="verdict")
    points = [np.array([t.point for t in one.trials]) for one in (study, unreachable)]
    assert np.array_equal(*points)
    assert study.ended == unreachable.ended
    assert repr(study.verdict()) == repr(unreachable.verdict())


def test_outcome_constraint_limits() -> None:
    study = study_of(
        bi.Target({"a": 1.2}, tolerance=0.02), constraints=["b <= 0.1", "b >= 0.05"],
        oracle=lambda x: np.array([x[0] + 0.3 * x[1], 0.1 + 0.8 * x[0] - 0.2 * x[1]]),
        strategy="sobol",
    ).run(20)  # fmt: skip
    found = study.verdict()
    assert found.probability == 0.0
    assert {"a too low", "b too high (outcome constraint)"} <= set(found.limited_by)
    # The nearest outputs satisfy the constraint: 0.1 + 0.8 x0 - 0.2 x1 <= 0.1 at x1 = 1.
    assert found.nearest is not None
    assert found.nearest.outputs["b"] <= 0.102
    assert found.nearest.outputs["a"] == pytest.approx(0.55, abs=0.02)


def test_ranges_and_intervals_to_avoid_count() -> None:
    target = bi.Target({"a": (1.1, None)}, avoid={"b": (-1.0, 2.0)})
    found = study_of(target, strategy="sobol").run(20).verdict()
    assert found.probability == 0.0
    assert found.nearest is not None
    assert found.nearest.wanted == {"a": ">= 1.1", "b": "not -1 to 2"}
    assert found.limited_by[0].startswith("b too")


def test_input_constraint_limits() -> None:
    space = bi.Box({"u": (0.0, 1.0), "v": (0.0, 1.0)}, constraints=["u + v <= 1"])
    study = study_of(
        bi.Target({"a": 1.4}, tolerance=0.02), space=space, strategy="sobol",
        oracle=lambda x: np.array([x["u"] + 1.1 * x["v"] - 0.4 * (x["u"] - 0.4) ** 2, x["u"]]),
    ).run(24)  # fmt: skip
    found = study.verdict()
    assert found.probability == 0.0
    assert "the input constraint: u + v <= 1" in found.limited_by  # no error text


def test_plausibility_limits_a_latent() -> None:
    space = bi.Latent(lambda z: z, 3)
    study = study_of(
        bi.Target({"a": 9.0}, tolerance=0.2), space=space, strategy="sobol",
        oracle=lambda z: np.array([z[0] + 0.5 * z[1] + 0.2 * z[2], z[1]]),
    ).run(24)  # fmt: skip
    found = study.verdict()
    assert found.probability is not None
    assert found.probability < 0.2
    assert "the least plausibility of designs" in found.limited_by


def test_choices_and_integers() -> None:
    space = bi.Box({"n": bi.Int(1, 6), "kind": bi.Choice(["p", "q", "r"]), "u": (0.0, 1.0)})
    gains = {"p": 0.0, "q": 0.5, "r": 0.2}

    def oracle(x: Any) -> Array:
        return np.array([0.2 * x["n"] + gains[x["kind"]] + 0.3 * x["u"], x["u"]])

    target = bi.Target({"a": 2.3}, tolerance=0.02)  # the largest a is 2
    study = study_of(target, oracle, space, "sobol").run(40)
    found = study.verdict()
    assert found.nearest is not None
    assert study.domain is not None
    assert study.domain.named(found.nearest.point) == {"n": 6, "kind": "q", "u": 1.0}
    assert found.probability is not None
    assert found.probability < 0.1
    many = study.reachable([1.0, 2.3, 3.0])
    assert many.probability[0] > 0.9
    assert many.probability[2] == 0.0
    assert many.nearest[2, 0] == pytest.approx(2.0, abs=0.05)


def test_nearest_outputs_probably_exist_where_calls_fail() -> None:
    def oracle(x: Any) -> Array:
        if x[0] > 0.6:
            raise RuntimeError("no convergence")
        return two_outputs(x)

    found = study_of(OUTSIDE, oracle, strategy="sobol").run(50).verdict()
    assert found.nearest is not None
    assert found.nearest.point[0] < 0.75
    assert found.status == "undecided"


def test_arguments_are_checked() -> None:
    study = study_of(OUTSIDE)
    for alpha in (0.0, 0.6, float("nan")):
        with pytest.raises(InvalidInputError, match="alpha must be"):
            study.verdict(alpha=alpha)
    with pytest.raises(InvalidInputError, match="must have a target"):
        study_of(bi.Minimize("a")).verdict()  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="alpha must be in"):
        study.run(5, stop="verdict:0.9")


@pytest.mark.parametrize("method", ["verdict", "reachable", "posterior", "predicted_solution"])
def test_tolerance_is_that_of_entries_without_one(method: str) -> None:
    def ask(target: bi.Target, tolerance: object) -> object:
        study = study_of(target, strategy="sobol").run(6)
        return getattr(study, method)(tolerance=tolerance)

    for wrong in (-1, 0.0, float("nan"), "wide"):
        with pytest.raises(InvalidInputError, match=rf"^{method}.*tolerance"):
            ask(bi.Target({"a": 9.0, "b": 0.0}), wrong)
    with pytest.raises(InvalidInputError, match=f"^{method}: tolerance must be left out"):
        ask(bi.Target({"a": 9.0, "b": 0.0}, tolerance=0.1), 0.2)
    partly = bi.Target({"a": 9.0, "b": 0.0}, tolerance={"a": 0.1, "b": 0.0})
    assert ask(partly, 0.2) is not None


def test_many_targets_share_the_model(unreachable: bi.Study) -> None:
    values = [[1.7, 0.5], [0.9, 0.4], [1.5, 0.14112], [3.0, 0.0]]
    found = unreachable.reachable(values)
    assert found.probability[[0, 3]] == pytest.approx(0.0, abs=0.02)
    assert found.probability[1] > 0.8
    assert found.excess[3] == pytest.approx(1.5 / 0.02 - 1.0, rel=0.02)
    columns = unreachable.reachable({"a": [1.7, 0.9, 1.5, 3.0], "b": [0.5, 0.4, 0.14112, 0.0]})
    assert np.array_equal(columns.probability, found.probability)
    rows = unreachable.reachable([{"b": b, "a": a} for a, b in values])
    assert np.array_equal(rows.probability, found.probability)
    assert list(found.to_dataframe().columns)[:4] == ["a", "b", "probability", "verified"]
    assert json.dumps(found.to_json(), allow_nan=False)
    assert "4 targets" in repr(found)
    seen = unreachable.reachable([unreachable.history.y[0]])
    assert seen.verified[0]
    assert seen.probability[0] == 1.0
    assert seen.excess[0] == 0.0


def test_few_observations_are_a_reason_to_doubt() -> None:
    study = study_of(OUTSIDE).run(3)
    assert "3 observations, at least" in study.reachable([[0.5, 0.2]]).why


def test_region_of_one_and_two_outputs_is_plotted(unreachable: bi.Study, tmp_path: Path) -> None:
    plot = unreachable.reachable().plot()
    assert plot.save(tmp_path / "plane.png").stat().st_size > 5_000
    assert len(plot.data) == 121
    single = study_of(bi.Target({"a": 1.0}, tolerance=0.02), strategy="sobol").run(12)
    line = single.reachable().plot()
    assert line.save(tmp_path / "line.html").stat().st_size > 5_000
    assert line.data["probability"].between(0.0, 1.0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0, 3.0]], r"shape \(t, 2\)"),
        ({"a": [1.0], "c": [2.0]}, "names must be"),
        ({"a": [1.0, 2.0], "b": [2.0]}, "reachable: values"),
        ([[1.0, float("nan")]], "finite"),
        ("text", "reachable"),
    ],
)
def test_invalid_targets_are_refused(unreachable: bi.Study, values: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        unreachable.reachable(values)
