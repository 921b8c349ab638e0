"""Amortised inverse: a function of the log that improves with observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.strategies.amortized import Amortized
from bo_invert.strategies.base import Request


class Bowl(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.75).square().mean(-1)


def with_gradients() -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * 4, [1.0] * 4), Bowl(), bi.Minimize())


def without(objective: Any = None) -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * 4, [1.0] * 4),
        lambda x: float(((np.asarray(x) - 0.75) ** 2).mean()),
        objective or bi.Minimize(),
        constraints=["y >= -1"],
    )


def mixed() -> bi.Problem:
    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "k": bi.Choice("a", "b")}
    )
    return bi.Problem(space, lambda d: (d["n"] - 3) ** 2 + d["r"] + (d["k"] == "b"), bi.Minimize())


def study_of(problem: bi.Problem, budget: int, **options: Any) -> bi.Study:
    study = bi.Study.create("a", problem, strategy=Amortized(**options))
    study.run(budget)
    return study


@pytest.mark.parametrize("make", [with_gradients, without, mixed])
@pytest.mark.slow
def test_samples_improve_within_the_budget(make: Any) -> None:
    budget = 120 if make is with_gradients else 42
    study = study_of(make(), budget, width=16)
    assert budget - 1 <= study.spent.calls <= budget
    losses = [t.loss for t in study.trials if t.loss is not None]
    third = len(losses) // 3
    assert np.mean(losses[-third:]) < 0.7 * np.mean(losses[:third])


def test_training_is_billed_and_the_last_share_buys_values() -> None:
    study = study_of(with_gradients(), 100, final=0.3)
    training = [t for t in study.trials if t.query.gradient]
    assert study.spent.gradients == len(training) == 35
    assert study.spent.values == 65
    assert not any(t.query.gradient for t in study.trials[35:])


def test_starts_as_draws_from_the_reference_measure() -> None:
    domain = bi.Pixels((3, 3)).domain
    problem = bi.Problem(bi.Pixels((3, 3)), Still(), bi.Minimize())
    queries = Amortized(batch=200).ask(problem.statement, (), Request(count=200)).queries
    points = np.array([q.point for q in queries])
    assert domain.dim == 9
    np.testing.assert_allclose(points.mean(0), 0.0, atol=0.3)
    np.testing.assert_allclose(points.std(0), 1.0, atol=0.2)


class Still(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_gradients, without])
def test_ask_is_pure_also_without_its_cache(make: Any) -> None:
    from bo_invert.strategies import amortized

    study = study_of(make(), 25, width=16)
    request = Request(number=7, count=3, seed=study.seed, budget=80)
    torch.manual_seed(1)
    first = Amortized(width=16).ask(study.statement, study.trials, request)
    amortized._replayed.cache_clear()
    amortized._fitted_to.cache_clear()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = Amortized(width=16).ask(study.statement, study.trials, request)
    assert [q.to_json() for q in first.queries] == [q.to_json() for q in again.queries]
    assert len(first.queries) == 3
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"


def test_observed_gradients_move_the_samples() -> None:
    problem = with_gradients()
    study = bi.Study.create("a", problem, strategy=Amortized(batch=4))
    study.run(10)
    requests = [Request(number=9, count=count, budget=200) for count in (1, 5)]
    ahead = Amortized(batch=4).ask(study.statement, study.trials, requests[0]).queries[0]
    blind = Amortized(batch=4).ask(study.statement, (), requests[1]).queries[4]
    assert ahead.meta == blind.meta == {"batch": 1, "row": 0}
    distance = [float(((q.point - 0.75) ** 2).sum()) for q in (ahead, blind)]
    assert distance[0] < distance[1]


@pytest.mark.slow
def test_copes_with_an_objective_that_takes_no_tensors() -> None:
    def of_arrays(y: Any) -> Any:
        if not isinstance(y, np.ndarray):
            raise TypeError("arrays only")
        return np.sqrt(y).sum(-1)

    study = study_of(without(bi.Composite(of_arrays, outputs=("y",))), 14, width=8)
    assert study.spent.calls == 14
    assert study.best is not None


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"final": 1.0}, {"learning_rate": 0.0}, {"diversity": -1.0}]
)
def test_refuses_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match="amortized"):
        Amortized(**options)
