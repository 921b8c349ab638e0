"""Tolerances of a design: intervals of its parameters, and the largest box."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.study.tolerances import Tolerances


def bowl(x: Any) -> float:
    return float(x[0] ** 2 + 4.0 * x[1] ** 2)


def bowl_study(budget: int = 25, **options: Any) -> bi.Study:
    target = bi.Target({"y": 0.5}, tolerance=0.2)
    box = bi.Box({"a": bi.Float(-2, 2), "b": bi.Float(-1, 1)})
    function = options.pop("oracle", lambda v: bowl([v["a"], v["b"]]))
    problem = bi.Problem(box, function, target, outputs=["y"])
    study = bi.Study.create("bowl", problem, "sobol", seed=0, **options)
    study.enqueue({"a": 0.7, "b": 0.0})
    return study.run(budget, stop_when_hit=False)


@pytest.fixture(scope="module")
def bowl_tolerances() -> Tolerances:
    return bowl_study().tolerances(0)


def met_share(found: Tolerances, met: Callable[[Any], bool], n: int = 2000) -> float:
    return float(np.mean([met(design) for design in found.sample(n, seed=1)]))


def bowl_met(v: dict[str, float]) -> bool:
    return abs(bowl([v["a"], v["b"]]) - 0.5) <= 0.2


def test_box_meets_the_target_as_often_as_stated(bowl_tolerances: Tolerances) -> None:
    found = bowl_tolerances
    assert 0.93 <= met_share(found, bowl_met) <= 0.97
    assert found.interval[0] <= found.expected + 0.01
    assert 1 <= found.calls <= 20
    rng, centre = np.random.default_rng(0), np.array([0.7, 0.0])
    low, high = (np.array(list(ends.values())) for ends in (found.lower, found.upper))
    wider = centre + 1.3 * (rng.uniform(low, high, (2000, 2)) - centre)
    assert np.mean([abs(bowl(x) - 0.5) <= 0.2 for x in wider]) < 0.93


def test_each_parameter_alone_reaches_the_limit(bowl_tolerances: Tolerances) -> None:
    low, high = bowl_tolerances.separate["a"]
    assert low == pytest.approx(np.sqrt(0.3), abs=0.01)
    assert high == pytest.approx(np.sqrt(0.7), abs=0.01)
    low, high = bowl_tolerances.separate["b"]
    assert high == pytest.approx(np.sqrt(0.21 / 4.0), abs=0.01)
    assert low == pytest.approx(-high, abs=0.01)


def test_table_html_and_json(bowl_tolerances: Tolerances) -> None:
    found = bowl_tolerances
    assert "Tolerances of trial 0, probability 0.95" in repr(found)
    assert "<table" in found._repr_html_()
    assert json.loads(json.dumps(found.to_json()))["parameters"][0]["parameter"] == "a"
    assert list(found.to_dataframe()["parameter"]) == ["a", "b"]
    assert len(found.to_measure) == 3


def test_checks_are_trials_and_no_call_is_made_twice() -> None:
    study = bowl_study()
    found = study.solutions(1)[0].tolerances()
    checks = [trial for trial in study.trials if trial.origin == "tolerances"]
    assert found.calls == len(checks) == study.spent.calls - 25
    again = study.tolerances(found.trial)
    assert study.spent.calls == 25 + found.calls
    assert again.to_json() == found.to_json()


def test_interrupted_checks_continue_exactly(tmp_path: Any) -> None:
    expected = bowl_study().tolerances(0).to_json()
    calls = []

    def oracle(v: dict[str, float]) -> float:
        calls.append(v)
        if len(calls) == 28:
            raise KeyboardInterrupt
        return bowl([v["a"], v["b"]])

    storage = f"sqlite:///{tmp_path}/s.db"
    study = bowl_study(oracle=oracle, storage=storage)
    with pytest.raises(KeyboardInterrupt):
        study.tolerances(0)
    resumed = bi.Study.open("bowl", storage, problem=study.problem).tolerances(0).to_json()
    # The interrupted call is billed.
    assert resumed.pop("calls") == expected.pop("calls") + 1
    assert resumed == expected


def test_without_calls_or_oracle_the_model_decides() -> None:
    study = bowl_study()
    found = study.tolerances(0, calls=0)
    assert found.calls == 0
    assert "calls > 0" in found.note
    assert study.spent.calls == 25
    table = bi.Problem(study.problem.space, None, study.problem.objective, outputs=["y"])  # type: ignore[union-attr]
    other = bi.Study.create("table", table, "sobol", seed=0)
    other.add(points=study.history.points, Y=study.history.y)
    found = other.tolerances(0)
    assert "no oracle" in found.note
    assert set(found.to_measure[0]) == {"a", "b"}


def test_integers_choices_and_conditions() -> None:
    space = bi.Box(
        {
            "n": bi.Int(0, 20),
            "x": bi.Float(0.1, 10.0, log=True),
            "kind": bi.Choice("p", "q"),
            "extra": bi.When("kind", "q", bi.Float(0, 1)),
        }
    )

    def function(v: dict[str, Any]) -> float:
        return v["n"] + 3.0 * np.log(v["x"]) + (5.0 * v["extra"] if v["kind"] == "q" else 0.0)

    problem = bi.Problem(space, function, bi.Target({"y": 10.0}, tolerance=2.2), outputs=["y"])
    study = bi.Study.create("mixed", problem, "sobol", seed=0)
    study.enqueue({"n": 10, "x": 1.0, "kind": "p"})
    study.run(30, stop_when_hit=False)
    found = study.tolerances(0)
    assert found.names == ("n", "x")
    assert found.separate["n"] == (8, 12)
    assert isinstance(found.lower["n"], int)
    assert all(isinstance(design["n"], int) for design in found.sample(5))
    assert 0.93 <= met_share(found, lambda v: abs(function(v) - 10.0) <= 2.2) <= 1.0


def test_input_constraints_cut_the_box() -> None:
    space = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)}, constraints=["a + b <= 1"])
    problem = bi.Problem(
        space, lambda v: v["a"] - v["b"], bi.Target({"y": 0.0}, tolerance=0.3), outputs=["y"]
    )
    study = bi.Study.create("cut", problem, "sobol", seed=0)
    study.enqueue({"a": 0.45, "b": 0.45})
    found = study.run(15, stop_when_hit=False).tolerances(0)
    designs = found.sample(2000)
    assert all(v["a"] + v["b"] <= 1.0 + 1e-9 for v in designs)
    assert 0.93 <= met_share(found, lambda v: abs(v["a"] - v["b"]) <= 0.3) <= 0.97


def test_outcome_constraints_limit_the_box() -> None:
    def function(v: dict[str, float]) -> dict[str, float]:
        return {"y": v["a"], "heat": v["a"] + v["b"]}

    problem = bi.Problem(
        bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)}), function,
        bi.Target({"y": 0.5}, tolerance=0.2), constraints=["heat <= 1.2"],
        outputs=["y", "heat"],
    )  # fmt: skip
    study = bi.Study.create("hot", problem, "sobol", seed=0)
    study.enqueue({"a": 0.5, "b": 0.5})
    found = study.run(12, stop_when_hit=False).tolerances(0, calls=10)
    assert found.separate["b"][1] == pytest.approx(0.7, abs=0.02)
    assert found.separate["b"][0] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.0}, "probability must be in"),
        ({"calls": -1}, "calls must be"),
        ({"design": 99}, "one of 25"),
        ({"design": 1}, "must meet"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        bowl_study().tolerances(**{"design": 0, **arguments})


def test_other_objectives_are_refused() -> None:
    plain = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize())
    with pytest.raises(bi.InvalidInputError, match="must have a target"):
        bi.Study.create("s", plain, "sobol", seed=0).run(5).tolerances(0)
    exact = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Target([0.5]))
    with pytest.raises(bi.InvalidInputError, match="tolerance or ranges"):
        bi.Study.create("t", exact, "sobol", seed=0).run(5).tolerances(0)


def test_uncertain_design_has_no_box() -> None:
    def output(v: dict[str, float]) -> float:
        return float(np.sin(20.0 * v["a"]) + v["b"])

    box = bi.Box({"a": bi.Float(0, 2), "b": bi.Float(0, 2)})
    problem = bi.Problem(box, output, bi.Target({"y": 1.0}, tolerance=1e-6), outputs=["y"])
    study = bi.Study.create("few", problem, "sobol", seed=0)
    study.enqueue({"a": 0.0, "b": 1.0})
    study.run(6, stop_when_hit=False)
    found = study.tolerances(0, calls=0)
    assert not found.found
    assert found.expected < found.probability
    assert dict(found.lower) == dict(found.upper) == pytest.approx(dict(found.values))
    assert "No box was found" in repr(found)
    assert "drawn uniformly" not in repr(found)


def test_equalities_bind_their_parameters_only() -> None:
    names = {name: bi.Float(0, 1) for name in "abcd"}
    problem = bi.Problem(
        bi.Box(names, constraints=["a + b + c == 1"]), lambda v: v["a"] + v["d"],
        bi.Target({"y": 0.8}, tolerance=0.2), outputs=["y"],
    )  # fmt: skip
    study = bi.Study.create("mixture", problem, "sobol", seed=0).run(30, stop_when_hit=False)
    found = study.tolerances(study.best, calls=0)
    assert found.found
    assert [found.lower[name] == found.upper[name] for name in "abcd"] == [True] * 3 + [False]
    assert "Equality constraints bind a, b, c" in found.note
