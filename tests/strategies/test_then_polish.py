from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.strategies.base import Request, from_spec
from bo_invert.strategies.polish import Polish
from bo_invert.strategies.then import Then


def bowl() -> bi.Problem:
    return bi.Problem(
        bi.Box([-1.0] * 2, [1.0] * 2), lambda x: float(((x - 0.3) ** 2).sum()), bi.Minimize()
    )


class Valley(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - 0.3) ** 2 * x.new_tensor([1.0, 10.0])).sum(-1, keepdim=True)


def valley() -> bi.Problem:
    return bi.Problem(bi.Box([-1.0] * 2, [1.0] * 2), Valley(), bi.Minimize())


def run(problem: bi.Problem, strategy: Any, budget: int, **options: Any) -> bi.Study:
    return bi.Study.create("s", problem, strategy=strategy, **options).run(budget)


def origins(study: bi.Study) -> list[str]:
    return [trial.origin for trial in study.trials]


def test_then_shares_the_budget() -> None:
    study = run(bowl(), Then("sobol", "random", share=0.6), 10)
    assert origins(study) == ["sobol"] * 6 + ["random"] * 4


def test_then_switches_at_the_right_call_within_a_batch() -> None:
    study = bi.Study.create("s", bowl(), strategy=Then("sobol", "random", share=0.5)).run(
        10, batch=3
    )
    assert origins(study) == ["sobol"] * 5 + ["random"] * 5


def test_then_takes_a_number_of_calls_when_open_ended() -> None:
    study = bi.Study.create("s", bowl(), strategy=Then("sobol", "random", calls=2))
    for _ in range(4):
        (trial,) = study.ask()
        study.tell(trial, 1.0)
    assert origins(study) == ["sobol", "sobol", "random", "random"]


def test_then_nests_and_keeps_the_memos_of_its_children() -> None:
    inner = Then("sobol", {"name": "gp", "options": {"initial": 3}}, share=0.5)
    strategy = from_spec(json.loads(json.dumps(Then(inner, "random", share=0.8).spec())))
    study = run(bowl(), strategy, 10)
    assert origins(study) == ["sobol"] * 4 + ["gp"] * 4 + ["random"] * 2
    memo = strategy.ask(study.statement, study.trials[:7], Request(7, budget=10)).memo
    assert "outputs" in memo["first"]["second"]
    assert json.loads(json.dumps(memo)) == memo


def test_then_refuses_what_its_children_refuse() -> None:
    with pytest.raises(bi.UnsuitableStrategyError, match="gradient"):
        bi.Study.create("s", bowl(), strategy=Then("sobol", "gradient"))
    with pytest.raises(bi.InvalidInputError, match="share"):
        Then(share=1.5)
    with pytest.raises(bi.InvalidInputError, match="no strategies named"):
        Then("sobl", "gp")


def test_then_goes_on_when_the_first_is_done() -> None:
    """A descent that spends its whole share leaves its strategy without a next query."""
    strategy = Then(
        {"name": "polish", "options": {"base": "sobol", "share": 0.0}}, "random", share=0.5
    )
    study = run(valley(), strategy, 12)
    assert set(origins(study)[-3:]) == {"random"}


def test_polish_descends_from_the_best_and_spends_all() -> None:
    study = run(valley(), Polish("sobol", share=0.5, steps=10), 60)
    descents = [trial for trial in study.trials if trial.query.descent is not None]
    assert study.spent.calls == 60
    before = min(trial.loss for trial in study.trials if trial.origin == "sobol")
    assert descents[0].query.meta["start"] == next(
        t.number for t in study.trials if t.loss == before
    )
    assert study.best is not None
    assert study.best.origin == "polish"
    assert study.best.loss < 0.5 * before


def test_polish_spends_an_odd_call_on_a_value() -> None:
    study = run(valley(), Polish("sobol", share=0.5, starts=1), 31)
    assert study.spent.calls == 31
    assert [trial.query.descent.steps for trial in study.trials if trial.query.descent] == [7]


def test_polish_without_gradients_follows_the_surrogate() -> None:
    study = run(bowl(), Polish("sobol", share=0.6), 25)
    assert origins(study) == ["sobol"] * 15 + ["polish"] * 10
    assert study.best is not None
    assert study.best.loss < 1e-6


def test_polish_asks_purely_while_trials_are_open() -> None:
    study = run(bowl(), Polish("sobol", share=0.5), 10)
    study.ask(2)
    request = Request(20, 2, 0, 30, {"switched": True})
    first, again = (study.strategy.ask(study.statement, study.trials, request) for _ in range(2))
    assert [q.to_json() for q in first.queries] == [q.to_json() for q in again.queries]
    points = np.array([q.point for q in first.queries] + [t.point for t in study.trials])
    assert len(np.unique(points, axis=0)) == len(points)
