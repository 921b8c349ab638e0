"""Contract of all strategies on several criteria: a front, exact resumption, or a clear refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert import registry
from bo_invert.objectives.pareto_front import non_dominated
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON

#: Options of the strategies that search a front; some strategies run with several ones.
FAST: dict[str, JSON] = {
    "auto": {"name": "auto"},
    "gp": {"name": "gp", "options": {"initial": 4, "kernel": "matern"}},
    "gp, noisy": {"name": "gp", "options": {"initial": 4, "kernel": "matern", "noisy": True}},
    "random": {"name": "random"},
    "sobol": {"name": "sobol"},
    "prior": {"name": "prior"},
    "then": {"name": "then", "options": {"second": {"name": "gp", "options": {"initial": 4}}}},
    "optuna, gp": {"name": "optuna"},
    "optuna, tpe": {"name": "optuna", "options": {"sampler": "tpe"}},
    "optuna, nsga2": {"name": "optuna", "options": {"sampler": "nsga2"}},
    "ax": {"name": "ax", "options": {"initialization_budget": 5}},
    "botorch": {"name": "botorch", "options": {"num_restarts": 1, "raw_samples": 8}},
}
#: Calls of each run, where 8 would be slow.
BUDGETS = {"ax": 6, "botorch": 4, "gp, noisy": 6, "gp": 6, "then": 6}
#: Strategies that search the mixed space of three criteria; a target is sampled there.
MIXED = ("auto", "random", "sobol", "prior", "optuna, tpe", "optuna, nsga2")
SEARCHING = sorted({spec["name"] for spec in FAST.values()})


def outputs(p: dict[str, Any]) -> dict[str, float]:
    a, b = p["a"], p["b"] + 0.3 * (p["acid"] == "x")
    if a > 0.9 and b > 0.9:
        raise bi.InfeasibleError("too hot")
    return {"cost": a**2 + b, "yield": float(np.sin(2 * a) + 0.2 * b), "ph": 6.0 + a - b}


def problem() -> bi.Problem:
    space = bi.Box({"a": (0.0, 1.0), "b": (0.0, 1.0), "acid": bi.Choice("x", "y")})
    criteria = bi.Pareto(bi.Minimize("cost"), bi.Maximize("yield"), bi.Target({"ph": (5.9, 6.2)}))
    return bi.Problem(space, outputs, criteria, constraints=["cost <= 1.6"], name="recipe")


def plain() -> bi.Problem:
    """Return two criteria of two real parameters, with a constraint."""
    criteria = bi.Pareto(bi.Minimize("cost"), bi.Maximize("yield"))
    space = bi.Box({"a": (0.0, 1.0), "b": (0.0, 1.0)})
    rules = ["cost <= 1.6"]
    return bi.Problem(
        space, lambda p: outputs({**p, "acid": "y"}), criteria, outputs=["cost", "yield", "ph"],
        constraints=rules, name="plain",
    )  # fmt: skip


def points(study: bi.Study) -> list[list[float]]:
    return [trial.point.tolist() for trial in study.trials]


def test_every_strategy_has_a_decision() -> None:
    for name in registry.names("strategies"):
        assert from_spec(name).multi_objective == (name in SEARCHING), name


@pytest.mark.parametrize("name", [n for n in registry.names("strategies") if n not in SEARCHING])
def test_strategies_of_one_loss_refuse_with_a_remedy(name: str) -> None:
    with pytest.raises(bi.UnsuitableStrategyError, match=r"minimises one loss.*Use 'auto'"):
        bi.Study.create("refused", problem(), name)
    with pytest.raises(bi.UnsuitableStrategyError, match="minimises one loss"):
        bi.Study.create("refused", problem(), "then", second=name)


@pytest.mark.parametrize("label", FAST)
def test_a_search_has_a_front_and_resumes_exactly(label: str) -> None:
    spec, budget = FAST[label], BUDGETS.get(label, 8)
    make = problem if label in MIXED else plain
    store = MemoryStore()
    study = bi.Study.create("whole", make(), spec, seed=3, storage=store).run(budget)
    found = study.front
    losses = found.losses
    assert len(found) > 0
    assert non_dominated(losses).all()
    assert all(trial.feasible for trial in found)
    others = [trial for trial in study.trials if trial.feasible]
    criteria = study.statement.objective
    assert isinstance(criteria, bi.Pareto)
    if label != "gp, noisy":
        every = criteria.losses(np.array([trial.y for trial in others]))
        assert all((losses <= row).all(1).any() for row in every)
        assert study.best is not None
        assert study.best.number in {trial.number for trial in found}
    curve = study.hypervolume
    assert (np.diff(curve.volumes) >= 0.0).all()
    assert curve.volumes[-1] == pytest.approx(found.hypervolume)
    # The same search in two parts, with another object for each
    first = bi.Study.create("parts", make(), spec, seed=3, storage=store)
    first.run(budget, stop=lambda: len(first.trials) > budget - 2)
    assert len(first.trials) < budget
    parts = bi.Study.open("parts", store, make()).run(budget)
    assert points(parts) == points(study)


def test_batches_and_pending_points_differ() -> None:
    study = bi.Study.create("batch", problem(), FAST["gp"], seed=1).run(6)
    asked = np.array([trial.point for trial in study.ask(5)])
    assert len(np.unique(asked.round(6), axis=0)) == 5
