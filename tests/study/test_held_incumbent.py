"""Tests of asks with fixed values whose best designs have other values."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.constrained_box import fix_values
from bo_invert.study.proposals import with_held_incumbent

SPACE = bi.Box({"t": (0.0, 1.0), "c": (0.0, 1.0), "solvent": bi.Choice(["water", "other"])})


def yield_loss(design: dict[str, float | str]) -> float:
    """Return a loss whose minimum is 0 with another solvent, and 2 with water at t = c = 0.8."""
    water = design["solvent"] == "water"
    middle = 0.8 if water else 0.3
    return 2.0 * water + 4.0 * sum((float(design[name]) - middle) ** 2 for name in ("t", "c"))


@pytest.mark.parametrize("strategy", ["gp", "turbo", "auto"])
@pytest.mark.parametrize("others", [True, False], ids=["only others", "both"])
def test_a_search_with_fixed_values_improves_among_them(strategy: str, others: bool) -> None:
    study = bi.Study.create("s", bi.Problem(SPACE, yield_loss, bi.Minimize()), strategy, seed=0)
    study.run(12, fixed={"solvent": "other"} if others else None)
    losses = []
    for _ in range(9):
        (trial,) = study.ask(fixed={"solvent": "water"})
        losses.append(study.tell(trial, yield_loss(trial.design)).loss)
    assert min(losses) < 2.05  # without it, 2.2 to 4
    assert study.best.design["solvent"] == "other"


def test_a_trial_with_other_values_is_the_incumbent_only_without_any_of_these() -> None:
    study = bi.Study.create("s", bi.Problem(SPACE, None, bi.Minimize("y")), "gp")
    rows = [{"t": 0.1 * i, "c": 0.5, "solvent": "other"} for i in range(5)]
    study.add(rows, [3.0, 1.0, 2.0, 5.0, 4.0])
    domain = fix_values(study.statement.domain, (("solvent", "water"),))
    found = with_held_incumbent(domain, study.trials, study.statement.objective)
    assert [one.loss for one in found if one.feasible] == [3.0]
    assert np.array_equal([one.loss for one in found], [one.loss for one in study.trials])
    study.add([{"t": 0.9, "c": 0.5, "solvent": "water"}], [9.0])
    found = with_held_incumbent(domain, study.trials, study.statement.objective)
    assert [one.loss for one in found if one.feasible] == [9.0]
    trials = tuple(study.trials)
    objective = study.statement.objective
    assert with_held_incumbent(study.statement.domain, trials, objective) is trials


def aimed(strategy: str = "auto") -> bi.Study:
    """Return a study of a target that is reached with another solvent only."""
    target = bi.Target({"y": 0.5}, tolerance=0.1)
    problem = bi.Problem(SPACE, lambda design: yield_loss(design) - 1.6, target, outputs=["y"])
    study = bi.Study.create("s", problem, strategy, seed=0)
    study.add([{"t": 0.8, "c": 0.8, "solvent": "other"}], [0.5])
    return study


@pytest.mark.parametrize("strategy", ["auto", "gp", "random"])
def test_a_run_with_fixed_values_ends_by_a_hit_with_these(strategy: str) -> None:
    study = aimed(strategy).run(40, fixed={"solvent": "water"})
    hits = [trial for trial in study.trials[1:] if abs(trial.y[0] - 0.5) <= 0.1]
    assert study.spent.calls > 0
    assert all(trial.design["solvent"] == "water" for trial in study.trials[1:])
    if strategy != "random":
        assert hits[0].number == len(study.trials) - 1
        assert study.ended == f"the target is reached in trial {hits[0].number}"


def test_a_run_without_fixed_values_ends_by_any_hit() -> None:
    study = aimed().run(40)
    assert study.spent.calls == 0
    assert study.ended == "the target is reached in trial 0"
