"""Example problems with known optima: value, local minimality and dependence on the seed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, rosen

import bo_invert as bi
from bo_invert.problems.examples import mixed, synthetic_functions as synthetic
from bo_invert.types import Query

SMOOTH: dict[str, tuple[Callable[[int | None], Any], float]] = {
    "ackley10": (synthetic.ACKLEY10.optimizer, 0.0),
    "levy16": (synthetic.LEVY16.optimizer, 0.0),
    "rosenbrock8": (synthetic.ROSENBROCK8.optimizer, 0.0),
    "branin25": (synthetic.branin_optimizer, synthetic.BRANIN_OPTIMUM),
}
"""Optimizer and minimum by problem."""
ALL = {**SMOOTH, "mixed_ackley": (lambda seed: mixed.mixed_ackley(seed).optimizer, 0.0)}
SHAPES = {"ackley10": 10, "levy16": 16, "rosenbrock8": 8, "branin25": 25, "mixed_ackley": 9}
SEEDS = [None, 0, 1, 2, 17]


def made(name: str, seed: int | None) -> bi.Problem:
    options: dict[str, Any] = {} if name == "mixed_ackley" else {"differentiable": False}
    return bi.ready_problem(name, seed=seed, **options)


def losses(problem: bi.Problem, points: Any) -> np.ndarray:
    return np.array(
        [outcome.loss for outcome in problem.evaluate([Query(point) for point in points])],
        dtype=float,
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", SEEDS)
def test_optimizer_attains_the_global_minimum(name: str, seed: int | None) -> None:
    problem, (optimizer, minimum) = made(name, seed), ALL[name]
    assert problem.name == name
    assert problem.space.domain.dim == SHAPES[name]
    best = problem.space.encode([optimizer(seed)])[0]
    assert losses(problem, [best])[0] == pytest.approx(minimum, abs=1e-10)
    rng = np.random.default_rng(5)
    near = [
        np.clip(best + scale * rng.standard_normal(len(best)), 0, 1)
        for scale in (1e-4, 1e-2, 0.1) * 100
    ]
    found = losses(problem, [*near, *problem.space.sample(rng, 300)])
    assert found.min() > minimum - 1e-10
    assert np.median(found[300:]) > minimum + 1.0


@pytest.mark.parametrize("name", ["ackley10", "levy16", "rosenbrock8", "mixed_ackley"])
def test_optima_lie_well_inside_and_away_from_the_middle(name: str) -> None:
    problem = made(name, 0)
    inside = np.array([problem.space.encode([ALL[name][0](seed)])[0] for seed in range(20)])
    inside = inside[:, :4] if name == "mixed_ackley" else inside
    assert inside.min() >= 0.14
    assert inside.max() <= 0.86
    assert np.abs(inside - 0.5).min() >= 0.07
    assert len(np.unique(inside.round(9), axis=0)) == 20, "every seed is another problem"


def test_every_pair_of_coordinates_may_be_the_active_one() -> None:
    pairs = [synthetic.branin_active(seed) for seed in range(300)]
    assert all(first != second for first, second in pairs)
    assert {first for first, _ in pairs} == {second for _, second in pairs} == set(range(25))
    assert synthetic.branin_active(None) == (0, 1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_only_the_active_coordinates_count(which: int) -> None:
    design = np.random.default_rng(0).random((50, 25))
    active = list(synthetic.branin_active(4))
    design[:, active] = np.array(synthetic.branin_optimizer(4, which))[active]
    values = synthetic.branin(design, active=synthetic.branin_active(4))[:, 0]
    assert values == pytest.approx(synthetic.BRANIN_OPTIMUM, abs=1e-12)


def test_without_a_shift_they_are_the_textbook_functions() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-5, 10, (20, 8))
    assert synthetic.rosenbrock(x, centre=(1.0,) * 8)[:, 0] == pytest.approx(rosen(x.T))
    x = rng.uniform(-5, 10, (20, 10))
    funnel = -20 * np.exp(-0.2 * np.sqrt((x**2).mean(1)))
    expected = funnel - np.exp(np.cos(2 * np.pi * x).mean(1)) + 20 + np.e
    assert synthetic.ackley(x, centre=synthetic.ACKLEY10.optimizer(None))[:, 0] == pytest.approx(
        expected
    )
    x = rng.uniform(-10, 10, (20, 16))
    w = 1 + (x - 1) / 4
    expected = np.sin(np.pi * w[:, 0]) ** 2 + (w[:, -1] - 1) ** 2 * (
        1 + np.sin(2 * np.pi * w[:, -1]) ** 2
    )
    expected += ((w[:, :-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:, :-1] + 1) ** 2)).sum(1)
    assert synthetic.levy(x, centre=synthetic.LEVY16.optimizer(None))[:, 0] == pytest.approx(
        expected
    )


def test_a_descent_from_beside_an_optimum_of_branin_finds_it() -> None:
    function = partial(synthetic.branin, active=(0, 1))
    for which in range(3):
        start = np.array(synthetic.branin_optimizer(None, which)[:2]) + 0.02
        found = minimize(lambda x: float(function(x)[0]), start, bounds=[(0, 1)] * 2)
        assert found.fun == pytest.approx(synthetic.BRANIN_OPTIMUM, abs=1e-8)
        assert found.x == pytest.approx(synthetic.branin_optimizer(None, which)[:2], abs=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_torch_module_is_the_function(name: str) -> None:
    module, function = bi.ready_problem(name, seed=3), made(name, 3)
    assert module.differentiable
    assert not function.differentiable
    points = module.space.sample(np.random.default_rng(1), 20)
    assert losses(module, points) == pytest.approx(losses(function, points), rel=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_the_function(name: str) -> None:
    problem = bi.ready_problem(name)
    point = problem.space.sample(np.random.default_rng(2), 1)[0]
    (outcome,) = problem.evaluate([Query(point, gradient=True)])
    shifted = losses(
        problem, [point + sign * 1e-6 * row for row in np.eye(len(point)) for sign in (1, -1)]
    )
    assert outcome.gradient is not None
    assert outcome.gradient == pytest.approx(
        (shifted[::2] - shifted[1::2]) / 2e-6, rel=1e-3, abs=1e-3
    )


def test_the_kinds_have_no_order_and_a_whole_step_is_three_quarters() -> None:
    value = mixed.mixed_ackley(7)
    best = value.optimizer
    by_kind = [value({**best, "kind": kind}) for kind in mixed.KINDS]
    assert len(set(by_kind)) == 5
    assert sorted(by_kind)[0] == pytest.approx(0.0, abs=1e-10)
    orders = {mixed.mixed_ackley(seed).kinds for seed in range(20)}
    assert len(orders) > 10
    moved = {**best, "x1": best["x1"] + 0.2, "k0": best["k0"] + 2, "k1": best["k1"] - 1}
    expected = synthetic.ackley(np.array([0.0, 0.2, 1.5, 0.75, 0.0]), centre=(0.0,) * 5)[0]
    assert value(moved) == pytest.approx(expected)


@pytest.mark.parametrize("name", ALL)
def test_the_same_problem_in_another_process(name: str) -> None:
    problem = made(name, 5)
    points = problem.space.sample(np.random.default_rng(0), 3)
    assert (
        losses(pickle.loads(pickle.dumps(problem)), points).tolist()
        == losses(problem, points).tolist()
    )
    assert losses(made(name, 5), points).tolist() == losses(problem, points).tolist()
    assert losses(made(name, 6), points).tolist() != losses(problem, points).tolist()


def test_torch_is_imported_only_for_gradients() -> None:
    made_plain = "; ".join(f"bi.ready_problem({name!r}, differentiable=False)" for name in SMOOTH)
    code = (
        f"import sys, bo_invert as bi; {made_plain}; bi.ready_problem('mixed_ackley'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
