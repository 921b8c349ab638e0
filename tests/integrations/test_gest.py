"""The generator against the real gest-api: its standard, all kinds of variables, and resumption."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

pytest.importorskip("gest_api")

from gest_api.generator import Generator  # after the check for an optional package
from gest_api.vocs import VOCS, ContinuousVariable

from bo_invert.integrations.gest import BoInvertGenerator

FAST = {"kernel": "matern", "warp": False, "initial": 4}


def full() -> VOCS:
    return VOCS(
        variables={
            "x": [0.0, 10.0],
            "y": ContinuousVariable(domain=[-5.0, 5.0]),
            "n": {"type": "ContinuousVariable", "domain": [1, 6], "dtype": "int"},
            "kind": {"a", "b", "c"},
            "size": {8, 32, 16},
        },
        objectives={"f": "MINIMIZE"},
        constraints={
            "c": ["GREATER_THAN", -2.0],
            "c1": ["BOUNDS", -5.0, 8.0],
            "c2": ["LESS_THAN", 40.0],
        },
        constants={"alpha": 1.5},
        observables=["temp"],
    )  # fmt: skip


def evaluate(point: dict[str, Any]) -> dict[str, Any]:
    done = dict(point)
    done["f"] = (point["x"] - 3) ** 2 + point["y"] ** 2 + point["n"] + (point["kind"] != "b")
    done["c"], done["c1"] = point["x"] - point["y"], point["x"] + point["y"]
    done["c2"], done["temp"] = float(point["size"]), point["alpha"] * point["x"]
    return done


def test_it_follows_the_standard() -> None:
    made = BoInvertGenerator(full(), seed=0)
    assert isinstance(made, Generator)
    assert made.returns_id
    assert isinstance(made.suggest(), list)
    assert len(made.suggest()) == 1
    points = made.suggest(3)
    assert len(points) == 3
    assert made.suggest(0) == []
    for point in points:
        assert set(point) == {"x", "y", "n", "kind", "size", "alpha", "_id"}
        assert all(isinstance(value, (int, float, str)) for value in point.values())
        assert 0 <= point["x"] <= 10
        assert type(point["n"]) is int
        assert point["kind"] in "abc"
        assert point["size"] in (8, 16, 32)
        assert point["alpha"] == 1.5
    assert len({point["_id"] for point in points}) == 3
    assert BoInvertGenerator(full(), batch_size=4).suggest() != []
    assert len(BoInvertGenerator(full(), batch_size=4).suggest()) == 4
    made.ingest([evaluate(point) for point in points])
    made.finalize()
    assert [t.state.name for t in made.study.trials].count("COMPLETED") == 3
    (observed, *_) = [t.extra for t in made.study.trials if t.state.name == "COMPLETED"]
    assert observed["temp"] == evaluate(points[0])["temp"]


def test_a_loop_finds_the_minimum() -> None:
    vocs = VOCS(variables={"x": [0, 1], "y": [0, 1]}, objectives={"f": "MAXIMIZE"})
    made = BoInvertGenerator(vocs, "gp", seed=0, **FAST)
    for _ in range(8):
        points = made.suggest(2)
        made.ingest([{**p, "f": -((p["x"] - 0.3) ** 2) - (p["y"] - 0.6) ** 2} for p in points])
    assert made.study.best is not None
    assert made.study.best.y[0] > -1e-2


def test_results_without_id_are_matched_or_added() -> None:
    made = BoInvertGenerator(full(), "sobol", seed=0)
    (mine,) = made.suggest(1)
    result = evaluate(mine)
    del result["_id"]
    other = evaluate({"x": 1.0, "y": 2.0, "n": 3, "kind": "a", "size": 8, "alpha": 1.5})
    outside = evaluate({"x": 12.0, "y": 2.0, "n": 3, "kind": "a", "size": 8, "alpha": 1.5})
    made.ingest([result, {**other, "_id": math.nan}, outside])
    assert len(made.study.trials) == 3
    assert all(trial.state.name == "COMPLETED" for trial in made.study.trials)
    assert made.study.trials[0].origin == "sobol"
    with pytest.raises(ValueError, match="unknown _id"):
        made.ingest([{**other, "_id": 99}])
    assert len(made.study.trials) == 3


def test_failures_are_recorded_as_such() -> None:
    made = BoInvertGenerator(full(), seed=0)
    points = made.suggest(4)
    results = [evaluate(point) for point in points]
    results[3] |= {"_ignored": True, "_ignored_reason": "duplicate", "_status": "EVALUATED"}
    results[0]["f"] = math.nan
    del results[1]["c"]
    results[2] |= {"xopt_error": True, "xopt_error_str": "no beam"}
    made.ingest(results)
    assert [trial.state.name for trial in made.study.trials] == ["FAILED"] * 4
    assert "no beam" in made.study.trials[2].outcome.reason


def test_several_objectives_are_a_pareto_problem() -> None:
    vocs = VOCS(variables={"x": [0, 1]}, objectives={"f": "MINIMIZE", "g": "MAXIMIZE"})
    made = BoInvertGenerator(vocs, seed=0)
    for _ in range(6):
        made.ingest([{**p, "f": p["x"], "g": p["x"] ** 2} for p in made.suggest(1)])
    assert len(made.study.trials) == 6


def test_a_new_generator_continues_after_a_crash(tmp_path: Any) -> None:
    options = {"seed": 0, "storage": f"sqlite:///{tmp_path}/runs.db", "name": "beam", **FAST}
    whole = BoInvertGenerator(full(), "gp", seed=0, **FAST)
    made = BoInvertGenerator(full(), "gp", **options)
    for _ in range(6):
        (point,), (expected,) = made.suggest(1), whole.suggest(1)
        assert point == expected
        made = BoInvertGenerator(full(), "gp", **options)
        made.ingest([evaluate(point)])
        whole.ingest([evaluate(point)])


def test_a_generator_can_be_pickled() -> None:
    made = BoInvertGenerator(full(), seed=0)
    made.ingest([evaluate(point) for point in made.suggest(2)])
    assert len(pickle.loads(pickle.dumps(made)).study.trials) == 2


def test_a_strategy_that_waits_raises() -> None:
    made = BoInvertGenerator(full(), "cmaes", seed=0)
    assert made.suggest()
    with pytest.raises(ValueError, match="waits for the results"):
        made.suggest(500)


@pytest.mark.parametrize(
    ("vocs", "message"),
    [
        ({"variables": {}, "objectives": {"f": "MINIMIZE"}}, "at least one variable"),
        ({"variables": {"x": [0, 1]}, "objectives": {}}, "at least one objective"),
        ({"variables": {"x": [0, 1]}, "objectives": {"f": "EXPLORE"}}, "MINIMIZE or MAXIMIZE"),
        (
            {"variables": {"x": [0, 1], "z": "CONTEXTUAL"}, "objectives": {"f": "MINIMIZE"}},
            "contextual",
        ),
        ({"variables": {"x": {1}}, "objectives": {"f": "MINIMIZE"}}, "Fixed"),
    ],
)
def test_what_is_not_supported_is_a_value_error(vocs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoInvertGenerator(VOCS(**vocs))
    with pytest.raises(ValueError, match="least_squares"):
        BoInvertGenerator(full(), "least_squares")
