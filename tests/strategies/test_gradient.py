"""Multi-start descents as a strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.history import History
from bo_invert.strategies.base import Request
from bo_invert.strategies.gradient import Gradient
from bo_invert.types import Trial


class Valleys(torch.nn.Module):
    """Two valleys; the deeper one is at 0.8."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide, deep = (x - 0.25).square().sum(-1), (x - 0.8).square().sum(-1)
        return torch.minimum(wide, deep * 2 - 0.3)


def problem(oracle: Any = None) -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * 3, [1.0] * 3), oracle or Valleys(), bi.Minimize(), name="valleys"
    )


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("budget", [1, 2, 7, 60, 301])
def test_spends_the_budget_and_no_more(optimizer: str, budget: int) -> None:
    study = bi.Study.create("g", problem(), strategy=Gradient(optimizer))
    study.run(budget)
    assert budget - 1 <= study.spent.calls <= budget
    assert study.best is not None
    if budget > 300:
        assert study.best.loss is not None
        assert study.best.loss < -0.25


def test_ask_is_pure_and_plans_for_open_trials() -> None:
    study = bi.Study.create("g", problem(), strategy=Gradient())
    study.run(150)
    trials = study.trials
    request = Request(number=3, count=4, seed=5, budget=400)
    first, again = (Gradient().ask(study.statement, trials, request) for _ in range(2))
    assert [q.to_json() for q in first.queries] == [q.to_json() for q in again.queries]
    queries = Gradient(screen=0.0).ask(study.statement, (), Request(count=50, budget=200)).queries
    assert 199 <= sum(q.cost.calls for q in queries) <= 200


def test_screens_before_it_descends() -> None:
    strategy = Gradient(screen=0.2)
    study = bi.Study.create("g", problem(), strategy=strategy)
    study.run(100)
    screened = [t for t in study.trials if t.query.descent is None][:20]
    assert [t.number for t in screened] == list(range(20))
    first = study.trials[20]
    best = min(screened, key=lambda t: t.loss if t.loss is not None else np.inf)
    np.testing.assert_array_equal(first.query.point, best.query.point)


def test_waits_for_its_screening() -> None:
    statement, strategy = problem().statement, Gradient(screen=0.5)
    queries = strategy.ask(statement, (), Request(count=20, budget=20)).queries
    assert len(queries) == 10
    assert all(q.descent is None for q in queries)
    waiting = [Trial(i, query, bi.State.RUNNING) for i, query in enumerate(queries)]
    assert strategy.ask(statement, waiting, Request(number=1, count=4, budget=20)).queries == ()


def test_starts_where_others_were_best() -> None:
    study = bi.Study.create("g", problem(), strategy=Gradient(screen=0.0))
    points = np.array([[0.1, 0.1, 0.1], [0.75, 0.75, 0.8], [0.9, 0.1, 0.9]])
    losses = Valleys()(torch.tensor(points)).numpy()
    study.add(points=points, Y=losses[:, None])
    ranked = History(study.trials).ranking
    request = Request(count=2, budget=200)
    used = Gradient(screen=0.0).ask(study.statement, study.trials, request).queries
    np.testing.assert_array_equal([q.point for q in used], [t.point for t in ranked[:2]])
    alone = (
        Gradient(screen=0.0, from_best=False).ask(study.statement, study.trials, request).queries
    )
    assert not any((q.point == points).all(1).any() for q in alone)


def test_shorter_descents_on_a_stand_in() -> None:
    twin = bi.GradientProxy(lambda x: float(Valleys()(torch.tensor(x)[None])[0]), Valleys())
    study = bi.Study.create("g", problem(twin), strategy=Gradient())
    study.run(300)
    steps = [t.query.descent.steps for t in study.trials if t.query.descent is not None]
    assert max(steps[1:-1]) < steps[0]
    assert study.best is not None
    assert study.best.loss is not None
    assert study.best.loss < -0.25


def test_refuses_a_problem_without_gradients() -> None:
    with pytest.raises(bi.UnsuitableStrategyError, match=r"'gradient'.*'valleys'.*GradientProxy"):
        bi.Study.create("g", problem(lambda x: 0.0), strategy="gradient")


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "sgd"}, {"starts": 0}, {"steps": 0}, {"screen": 1.0}, {"learning_rate": 0.0}],
)
def test_refuses_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match="gradient"):
        Gradient(**options)
