"""Tests of fixed values that leave little room: rounded sums, single points, thin intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.study.proposals import require_satisfied
from bo_invert.types import Query

PARTS = ["a", "b", "c", "d", "e"]


def study_of(names: list[str], constraints: list[Any], high: float = 1.0) -> bi.Study:
    space = bi.Box({name: bi.Float(0, high) for name in names}, constraints=constraints)
    problem = bi.Problem(space, lambda design: design["a"], bi.Minimize("y"))
    return bi.Study.create("room", problem, seed=0)


def ask(study: bi.Study, fixed: Mapping[str, float], count: int = 1) -> list[dict[str, float]]:
    trials = study.ask(count, fixed=fixed)
    assert trials
    designs = [dict(trial.design) for trial in trials]
    for design in designs:
        assert {name: design[name] for name in fixed} == fixed
        assert study.domain.satisfied(study.domain.encode([design]))[0]
    return designs


@pytest.mark.parametrize("excess", [1e-16, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 2.9e-6])
def test_fixed_values_above_an_equality(excess: float) -> None:
    study = study_of(["a", "b", "c"], ["a + b + c == 1"])
    (design,) = ask(study, {"a": 0.5, "b": 0.5 + excess})
    assert design["c"] == 0.0


@pytest.mark.parametrize("excess", [1e-12, 1e-10, 2.9e-9])
def test_fixed_values_above_an_inequality(excess: float) -> None:
    study = study_of(["a", "b", "c"], ["a + b + c <= 1"])
    (design,) = ask(study, {"a": 0.5, "b": 0.5 + excess})
    assert design["c"] == 0.0


@pytest.mark.parametrize(
    ("constraint", "excess"),
    [("a + b + c == 1", 3.1e-6), ("a + b + c == 1", 1e-4),
     ("a + b + c <= 1", 3.1e-9), ("a + b + c <= 1", 1e-7)],
)  # fmt: skip
def test_fixed_values_beyond_the_tolerance_are_refused(constraint: str, excess: float) -> None:
    study = study_of(["a", "b", "c"], [constraint])
    with pytest.raises(bi.InvalidInputError, match=r"no solution within .* and the fixed values"):
        study.ask(2, fixed={"a": 0.5, "b": 0.5 + excess})


def test_run_with_rounded_fixed_values() -> None:
    study = study_of(["a", "b", "c"], ["a + b + c == 1"])
    study.run(budget=1, fixed={"a": 0.33333333, "b": 0.66666668})
    best = study.best
    assert best is not None
    assert best.feasible
    assert best.design["c"] == 0.0


@pytest.mark.parametrize(
    ("names", "constraints", "high", "fixed"),
    [
        (PARTS[:3], ["a + b + c <= 1"], 1.0, {"a": 1.0}),
        (PARTS[:3], ["a + b + c <= 1"], 1.0, {"a": 0.5, "b": 0.5}),
        (PARTS, ["a + b + c + d + e == 1"], 1.0, {"a": 1.0}),
        (PARTS, ["a + b + c + d + e == 1"], 1.0, {"a": 0.5, "b": 0.5}),
        (PARTS, ["a + b + c + d + e == 1", bi.AtMost(3, PARTS)], 1.0, {"a": 0.5, "b": 0.5}),
        (PARTS[:4], ["a + b + c + d == 100"], 100.0, {"a": 33.333333, "b": 66.666667}),
        (PARTS[:4], ["a + b + c == 1", "a + d <= 1"], 1.0, {"a": 1.0}),
    ],
)
def test_single_point(
    names: list[str], constraints: list[Any], high: float, fixed: dict[str, float]
) -> None:
    (design,) = ask(study_of(names, constraints, high), fixed)
    assert {design[name] for name in names if name not in fixed} == {0.0}


def test_coordinates_without_room_leave_the_others_free() -> None:
    study = study_of(PARTS[:4], ["a + b + c <= 1"])
    designs = ask(study, {"a": 0.5, "b": 0.5}, 4)
    assert {design["c"] for design in designs} == {0.0}
    assert len({design["d"] for design in designs}) == 4


@pytest.mark.parametrize("room", [1e-12, 1e-9, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("sign", ["==", "<="])
def test_thin_intervals(sign: str, room: float) -> None:
    study = study_of(PARTS, [f"a + b + c + d + e {sign} 1"])
    for design in ask(study, {"a": 0.5, "b": 0.5 - room}):
        assert min(design.values()) >= 0.0
        assert sum(design.values()) <= 1.0 + 1e-9


def test_constraints_that_fixed_values_miss_together() -> None:
    # b = 1 - a - c and b = 1 - d - c differ by 1e-7 wherever c lies.
    study = study_of(PARTS[:4], ["a + b + c == 1", "b + c + d == 1"])
    designs = ask(study, {"a": 0.5, "d": 0.5 - 1e-7}, 3)
    assert len({design["b"] for design in designs}) == 3
    assert ask(study_of(PARTS[:3], ["a <= b <= c"]), {"a": 0.5, "c": 0.5})[0]["b"] == 0.5
    order = study_of(PARTS[:3], ["a <= b <= c"])
    (design,) = ask(order, {"a": 0.5, "c": 0.5 - 1e-10})
    assert abs(design["b"] - 0.5) < 1e-9
    with pytest.raises(bi.InvalidInputError, match=r"a <= b.*b <= c"):
        order.ask(1, fixed={"a": 0.5, "c": 0.5 - 1e-7})


def test_strategy_that_ignores_constraints_is_refused() -> None:
    study = study_of(PARTS[:3], ["a + b + c == 1"])
    domain = study.domain
    with pytest.raises(RuntimeError, match=r"a \+ b \+ c == 1.*left side is 2.7"):
        require_satisfied(domain, (Query(np.array([0.9, 0.9, 0.9])),), "gp")
    require_satisfied(domain, (Query(np.array([0.5, 0.5, 0.0])),), "gp")


def test_pools_satisfy_random_sets_with_fixed_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        study = study_of(PARTS, ["a + b + c + d + e == 1", "a + 2 b <= 1.5", "c <= d"])
        values = rng.dirichlet([0.5, 0.5]) + rng.choice([-1e-8, 0.0, 1e-10, 1e-7], 2)
        fixed = dict(zip("ad", np.clip(values, 0.0, 1.0).tolist(), strict=True))
        ask(study, fixed)


def test_fixed_values_are_recorded_exactly() -> None:
    space = bi.Box({"a": bi.Float(-3, 7), "b": bi.Float(1e-3, 1, log=True), "c": bi.Float(0, 1)})
    problem = bi.Problem(space, lambda design: design["c"], bi.Minimize("y"))
    study = bi.Study.create("exact", problem, seed=0)
    values = np.random.default_rng(0).uniform(0.01, 1.0, (6, 2)).round(4).tolist()
    for a, b in values:
        (trial,) = study.ask(1, fixed={"a": a, "b": b})
        assert (trial.design["a"], trial.design["b"]) == (a, b)
        study.tell(trial, 0.5)
    assert [[t.design["a"], t.design["b"]] for t in study.trials] == values
