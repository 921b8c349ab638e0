"""The ready problems and their truth checks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import bo_invert as bi
from bo_invert import registry
from bo_invert.problems.examples import arm, mixed, sine, synthetic_functions as synthetic
from bo_invert.types import Query

ANALYTIC = ["arm", "sine", "hartmann6"]


@pytest.mark.parametrize("name", [*ANALYTIC, "mixed"])
def test_made_by_name_and_evaluated(name: str) -> None:
    problem = bi.ready_problem(name)
    assert problem.name == name
    points = problem.space.sample(np.random.default_rng(0), 5)
    outcomes = problem.evaluate([Query(point) for point in points])
    assert all(np.isfinite(outcome.loss) for outcome in outcomes)
    assert problem.to_json() == bi.ready_problem(name).to_json(), "the same problem every time"
    assert registry.resolve("problems", name).__doc__


@pytest.mark.parametrize("name", ANALYTIC)
def test_the_torch_module_is_the_function(name: str) -> None:
    module, function = bi.ready_problem(name), bi.ready_problem(name, differentiable=False)
    assert module.differentiable
    assert not function.differentiable
    assert module.to_json() == function.to_json()
    points = module.space.sample(np.random.default_rng(1), 20)
    losses = [[o.loss for o in p.evaluate([Query(x) for x in points])] for p in (module, function)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", ANALYTIC)
def test_gradients_are_those_of_the_function(name: str) -> None:
    import torch

    problem = bi.ready_problem(name)
    point = problem.space.sample(np.random.default_rng(2), 1)[0]
    z = torch.tensor(point, requires_grad=True)
    loss = problem.loss_tensor(problem.oracle.forward(problem.space.decode_tensor(z[None])))
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    shifts = [Query(point + sign * 1e-6 * row) for row in np.eye(len(point)) for sign in (1, -1)]
    losses = np.array([outcome.loss for outcome in problem.evaluate(shifts)]).reshape(-1, 2)
    assert gradient.numpy() == pytest.approx(
        (losses[:, 0] - losses[:, 1]) / 2e-6, rel=1e-4, abs=1e-7
    )


@pytest.mark.parametrize("name", [*ANALYTIC, "mixed"])
def test_torch_is_imported_only_for_gradients(name: str) -> None:
    options = "" if name == "mixed" else ", differentiable=False"
    code = (
        f"import sys, bo_invert as bi; bi.ready_problem({name!r}{options}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("example", [arm, sine])
def test_targets_are_reachable(example: Any) -> None:
    reached = example.targets(50, seed=3)
    assert np.array_equal(reached, example.targets(50, seed=3))
    assert not np.array_equal(reached, example.targets(50, seed=4))
    problem = example.problem(target=reached[0], differentiable=False)
    assert problem.objective.value == tuple(reached[0])
    drawn = example.problem(seed=3, differentiable=False).objective.value
    assert drawn == tuple(example.targets(1, seed=3)[0])


def test_the_arm_hangs_together() -> None:
    assert arm.tip(np.zeros(4)).tolist() == [2.0, 0.0], "stretched out"
    assert arm.tip(np.array([0.3, 0.0, 0.0, 0.0])).tolist() == [2.0, 0.3], "moved along the rail"
    t1, t2, t3 = 0.4, -0.7, 1.1
    a1, a2, a3 = t1, t2 - t1, t3 - t1 - t2
    across = 0.5 * np.cos(a1) + 0.5 * np.cos(a2) + np.cos(a3)
    along = 0.1 + 0.5 * np.sin(a1) + 0.5 * np.sin(a2) + np.sin(a3)
    assert arm.tip(np.array([0.1, t1, t2, t3])) == pytest.approx([across, along])


def test_designs_of_the_arm_follow_its_prior_inside_the_box() -> None:
    designs = arm.designs(4000, seed=0)
    assert (np.abs(designs) <= arm.UPPER).all()
    assert designs.mean(axis=0) == pytest.approx(np.zeros(4), abs=0.03)
    assert designs.std(axis=0) == pytest.approx(0.95 * arm.SPREAD, rel=0.05)
    losses = [
        arm.problem(target=y, differentiable=False).objective.loss(y) for y in arm.tip(designs[:5])
    ]
    assert losses == [0.0] * 5


def test_waves() -> None:
    assert sine.waves(np.array([[1 / 6, 0.0], [-1 / 6, 1 / 3]]))[:, 0] == pytest.approx([2.0, -2.0])


def test_the_optimum_of_hartmann_is_known() -> None:
    assert synthetic.hartmann6(np.array(synthetic.HARTMANN6_OPTIMIZER))[0] == pytest.approx(
        synthetic.HARTMANN6_OPTIMUM, abs=1e-12
    )
    rng = np.random.default_rng(0)
    found = [
        minimize(
            lambda x: synthetic.hartmann6(x)[0],
            rng.random(6),
            bounds=[(0, 1)] * 6,
            method="L-BFGS-B",
        ).fun
        for _ in range(20)
    ]
    assert min(found) == pytest.approx(synthetic.HARTMANN6_OPTIMUM, abs=1e-6)


def test_the_optimum_of_the_mixed_problem_is_known() -> None:
    problem = mixed.problem()
    (outcome,) = problem.evaluate([Query(problem.space.encode([mixed.OPTIMIZER])[0])])
    assert outcome.loss == pytest.approx(-mixed.OPTIMUM)
    assert outcome.violation == 0.0
    allowed, forbidden = [], []
    for atmosphere in problem.space.domain.parameters["atmosphere"].values:
        for cycles in range(1, 9):
            for temperature in np.arange(600.0, 1101.0, 5.0):
                for hours in np.geomspace(0.1, 40.0, 40):
                    recipe = {
                        "temperature": temperature,
                        "hours": hours,
                        "cycles": cycles,
                        "atmosphere": atmosphere,
                    }
                    y = mixed.anneal(recipe)
                    (allowed if y["grain"] <= 20.0 else forbidden).append(
                        (y["hardness"], atmosphere)
                    )
    assert mixed.OPTIMUM - 0.5 < max(allowed)[0] <= mixed.OPTIMUM
    assert max(allowed)[1] == "argon"
    assert max(forbidden)[0] > mixed.OPTIMUM + 2.0, "the constraint matters"
    assert max(forbidden)[1] == "hydrogen"
