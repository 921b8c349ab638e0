"""Tests of extreme problems: one input, integers only, few calls, any unit, large penalties."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON

pytestmark = pytest.mark.slow

OURS = ("auto", "gp", "turbo", "least_squares", "cmaes", "spherical", "pcn")
FOR_TARGETS = {"least_squares", "scipy_least_squares"}
each = pytest.mark.parametrize("strategy", OURS)
SQUARE = bi.Box([0.0, 0.0], [1.0, 1.0])


#: One kernel, and no choice of a model, which ``auto`` has; few initial points, shorter walks.
OPTIONS: dict[str, dict[str, JSON]] = {
    "gp": {"kernel": "matern", "warp": False, "initial": 4},
    "turbo": {"kernel": "matern", "warp": False, "initial": 4},
    "pcn": {"steps": 20, "walkers": 4, "initial": 4},
}


def run(problem: bi.Problem, strategy: str, budget: int, batch: int = 2) -> bi.Study:
    study = bi.Study.create("s", problem, strategy, seed=1, **OPTIONS.get(strategy, {}))
    return study.run(budget, batch=batch, stop_when_hit=False)


def places(trials: Any) -> set[bytes]:
    return {trial.query.point.tobytes() for trial in trials}


@each
def test_one_input_and_ten_calls(strategy: str) -> None:
    """The best of ten random points equals that of a surrogate in one run of twelve."""
    goal = bi.Target(0.4) if strategy in FOR_TARGETS else bi.Minimize()
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(np.sin(5 * x[0]) + x[0] ** 2), goal)
    study = run(problem, strategy, 10)
    assert study.spent.calls == len(places(study.trials)) == 10
    if strategy in FOR_TARGETS:
        assert study.best.loss < 1e-9
    elif strategy in {"auto", "gp", "turbo", "pcn"}:
        assert study.best.loss < -0.17817 + 2e-4


def bowl(unit: float) -> bi.Problem:
    return bi.Problem(
        SQUARE, lambda x: unit * float(((x - 0.3) ** 2).sum()), bi.Minimize(), name="bowl"
    )


def curved(unit: float) -> bi.Problem:
    def oracle(x: Any) -> list[float]:
        return [unit * float(np.exp(x[0] * x[1])), unit * float(np.sin(3 * x[1]) + x[0])]

    return bi.Problem(SQUARE, oracle, bi.Target([unit * 1.2, unit * 0.9]), name="curved")


@cache
def asked(make: Any, strategy: str, unit: float) -> Any:
    return np.array([trial.point for trial in run(make(unit), strategy, 8).trials])


NANO, GIGA = 2.0**-30, 2.0**30
"""Powers of two: outputs differ in their exponents alone, so nothing else may differ."""


@pytest.mark.parametrize(
    ("strategy", "unit"),
    [(name, NANO) for name in OURS if name not in FOR_TARGETS] + [("auto", GIGA), ("cmaes", GIGA)],
)
def test_the_unit_of_an_output_changes_nothing(strategy: str, unit: float) -> None:
    np.testing.assert_array_equal(asked(bowl, strategy, unit), asked(bowl, strategy, 1.0))


@pytest.mark.parametrize(
    ("strategy", "unit"),
    [(name, GIGA) for name in OURS if name != "pcn"]
    + [("gp", NANO), ("least_squares", NANO), ("spherical", NANO)],
)
def test_the_unit_of_a_target_changes_nothing(strategy: str, unit: float) -> None:
    np.testing.assert_array_equal(asked(curved, strategy, unit), asked(curved, strategy, 1.0))


@pytest.mark.parametrize("strategy", [name for name in OURS if name != "auto"])
def test_a_hundred_trials_under_way(strategy: str) -> None:
    problem = bi.Problem(
        bi.Box([0.0] * 3, [1.0] * 3),
        lambda x: [float(np.exp(x[0] * x[1])), float(np.sin(3 * x[1]) + x[2])],
        bi.Target([1.2, 0.9]) if strategy in FOR_TARGETS else bi.Minimize("y0"),
        outputs=["y0", "y1"],
    )
    study = bi.Study.create("s", problem, strategy, seed=1)
    points = problem.space.domain.sobol(np.random.default_rng(0), 12)
    study.add(
        points, [outcome.y for outcome in problem.evaluate([bi.Query(point) for point in points])]
    )
    under_way = [*study.ask(100, budget=500), *study.ask(3, budget=500)]
    if strategy == "cmaes":
        assert 4 <= len(under_way) < 100, "a generation, and then it waits"
    else:
        assert len(under_way) == 103
    found = np.array([trial.query.point for trial in under_way])
    np.testing.assert_array_equal(problem.space.domain.project(found), found)
    gaps = np.linalg.norm(found[:, None] - found[None], axis=-1)[np.triu_indices(len(found), 1)]
    assert gaps.min() > 1e-5


@pytest.mark.parametrize("strategy", [name for name in OURS if name not in FOR_TARGETS])
def test_nothing_but_whole_numbers(strategy: str) -> None:
    space = bi.Box({"a": bi.Int(0, 9), "b": bi.Int(-4, 5)})
    problem = bi.Problem(
        space, lambda d: float((d["a"] - 3) ** 2 + (d["b"] - 2) ** 2), bi.Minimize()
    )
    study = run(problem, strategy, 12)
    points = np.array([trial.point for trial in study.trials])
    np.testing.assert_array_equal(space.domain.project(points), points)
    assert study.best.loss <= 1.0
    if strategy != "cmaes":  # it asks again where it stands
        assert len(places(study.trials)) == 12


@pytest.mark.parametrize("strategy", ["auto", "gp", "turbo", "cmaes", "spherical", "pcn"])
def test_more_calls_than_designs(strategy: str) -> None:
    problem = bi.Problem(
        bi.Box({"a": bi.Int(0, 2), "kind": bi.Choice("x", "y")}),
        lambda d: float(d["a"] + (d["kind"] == "x")),
        bi.Minimize(),
    )
    with pytest.warns(UserWarning, match="6 (distinct )?designs"):
        study = run(problem, strategy, 9)
    assert study.spent.values == 6
    assert study.best.loss == 0.0


@pytest.mark.parametrize(
    ("goal", "penalty"),
    [(bi.Minimize(), 1e300), (bi.Minimize(), -1e300), (bi.Target(0.1), 1e300)],
    ids=["high", "low", "target"],
)
@pytest.mark.parametrize(
    "strategy", [*OURS, "scipy_least_squares", "differential_evolution", "dual_annealing"]
)
@pytest.mark.filterwarnings("ignore:overflow encountered in square:RuntimeWarning")
def test_a_penalty_out_of_all_proportion_ends_nothing(
    strategy: str, goal: Any, penalty: float
) -> None:
    """As some simulators answer where they failed: early, and when a model is in use already."""
    calls = []

    def oracle(x: Any) -> float:
        calls.append(x)
        return penalty if len(calls) in (2, 5) else float(((x - 0.3) ** 2).sum())

    problem = bi.Problem(SQUARE, oracle, goal)
    try:
        from_spec(strategy).check(problem.statement)
    except bi.UnsuitableStrategyError:
        assert strategy in FOR_TARGETS
        return
    study = run(problem, strategy, 8)
    assert study.spent.values == len(calls) >= 7
    assert not any(trial.state.open for trial in study.trials)
    sane = [
        trial.loss
        for trial in study.trials
        if trial.state is bi.State.COMPLETED and abs(trial.y[0]) < 1e100
    ]
    assert len(sane) == len(study.trials) - 2
    if study.best.loss > -1e100:
        assert study.best.loss == min(sane)
    else:
        assert isinstance(goal, bi.Minimize)
        assert penalty < 0
