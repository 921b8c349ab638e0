"""Contract of every strategy on parameters with steps and conditions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert import registry
from bo_invert.strategies.base import from_spec

SPACE = {
    "dose": bi.Float(0, 1, step=0.1),
    "rate": bi.Float(0.01, 1, digits=2, log=True),
    "solver": bi.Choice("sgd", "adam", "exact"),
    "of sgd": bi.When(
        "solver",
        ["sgd"],
        {"momentum": bi.Float(0, 1), "cycles": bi.Int(1, 4), "mix": bi.Float(0, 1, step=0.05)},
    ),
    "decay": bi.When("cycles", [2, 3], bi.Choice("a", "b")),
}
#: Options that save time.
FAST: dict[str, dict[str, Any]] = {
    "ax": {"initialization_budget": 4},
    "botorch": {"num_restarts": 2, "raw_samples": 32},
    "pcn": {"walkers": 4, "steps": 20, "initial": 4},
    "gp": {"kernel": "matern", "warp": False, "initial": 4},
    "turbo": {"kernel": "matern", "warp": False, "initial": 4},
    "then": {"second": {"name": "forest"}},
    "polish": {"base": {"name": "random"}},
}


def measure(design: dict[str, Any]) -> float:
    loss = (design["dose"] - 0.3) ** 2 + abs(np.log10(design["rate"]) + 1.0)
    if design["solver"] == "sgd":
        return float(loss + (design["momentum"] - 0.7) ** 2 + (design.get("decay") != "a"))
    return float(loss + 0.5)


def check(design: dict[str, Any]) -> None:
    """Assert that numbers are multiples that print as such, and that only active names exist."""
    steps = {"dose": Decimal("0.1"), "rate": Decimal("0.01"), "mix": Decimal("0.05")}
    for name in steps.keys() & design:
        assert not Decimal(repr(design[name])) % steps[name], (name, design[name])
    sgd = design["solver"] == "sgd"
    names = {"dose", "rate", "solver"} | ({"momentum", "cycles", "mix"} if sgd else set())
    assert set(design) == names | ({"decay"} if sgd and design["cycles"] in (2, 3) else set())


@pytest.mark.parametrize("name", registry.names("strategies"))
def test_steps_bind_proposals_and_no_observations(name: str) -> None:
    problem = bi.Problem(bi.Box(SPACE), measure, bi.Minimize())
    strategy = from_spec(name, **FAST.get(name, {}))
    try:
        strategy.check(problem.statement)
    except bi.UnsuitableStrategyError:
        pytest.skip("it needs real parameters or gradients")
    study = bi.Study.create("between", problem, strategy, seed=0)
    run = {"dose": 0.437, "rate": 0.1234, "solver": "sgd", "momentum": 0.5, "cycles": 4}
    for mix in (0.11, 0.52, 0.93):
        design = {**run, "mix": mix}
        (trial,) = study.add([design], [measure(design)])
        assert trial.design == design
    study.run(6)
    for trial in study.trials[3:]:
        check(trial.design)


@pytest.mark.parametrize("name", registry.names("strategies"))
def test_proposals_have_steps_and_active_parameters(name: str) -> None:
    problem = bi.Problem(bi.Box(SPACE), measure, bi.Minimize())
    strategy = from_spec(name, **FAST.get(name, {}))
    try:
        strategy.check(problem.statement)
    except bi.UnsuitableStrategyError:
        return
    study = bi.Study.create(name, problem, strategy=strategy, seed=0)
    study.run(7, reuse_limit=0)
    trials = [*study.trials, *study.ask(2)]
    assert len(trials) >= 8
    for trial in trials:
        check(
            trial.design
            if trial.design is not None
            else study.problem.space.decode([trial.point])[0]
        )
        assert np.array_equal(problem.domain.project(trial.point[None])[0], trial.point)


@pytest.mark.parametrize("name", ["auto", "gp", "forest", "turbo"])
def test_models_see_equal_points_for_equal_designs(name: str) -> None:
    """Designs that differ only in inactive values are one point, which is not proposed again."""
    space = bi.Box({"a": bi.Choice("x", "y", "z"), "n": bi.When("a", "x", bi.Int(1, 3))})
    problem = bi.Problem(space, lambda p: float(p.get("n", 5)), bi.Minimize())
    study = bi.Study.create(name, problem, strategy=name, seed=0)
    with pytest.warns(UserWarning, match="5 distinct designs exist"):
        study.run(20)
    names = [tuple(sorted(problem.space.decode(t.point[None])[0].items())) for t in study.trials]
    billed = [one for one, trial in zip(names, study.trials, strict=True) if trial.cost.values]
    assert len(billed) == len(set(billed)) == problem.domain.size == 5


def test_optuna_searches_conditional_spaces_with_a_fixed_parameter() -> None:
    space = bi.Box(
        {"s": bi.Choice("u", "v"), "w": bi.When("s", "u", bi.Float(0, 1)), "k": bi.Fixed(1)}
    )
    problem = bi.Problem(space, lambda p: p.get("w", 0.5) + p["k"], bi.Minimize())
    study = bi.Study.create("s", problem, "optuna", sampler="tpe").run(15)
    assert all(trial.design["k"] == 1 for trial in study.trials)
