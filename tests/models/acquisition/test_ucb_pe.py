"""Tests of GP-UCB-PE, also with many pending points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.ucb_pe import ucb_pe
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.strategies.gp import GP
from bo_invert.types import Outcome, Query, State, Trial

NEW = torch.tensor(np.random.default_rng(9).random((50, 2)))


def hills(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.sin(5 * x[:, 0]) + np.cos(4 * x[:, 1]), x.sum(1)])


def fitted(
    objective: Any, pending: np.ndarray, constraints: Any = ()
) -> tuple[Surrogate, ModelledOutputs, AcquisitionData]:
    x = np.random.default_rng(1).random((12, 2))
    observed = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), None, objective, outputs=2, constraints=constraints
    ).statement
    losses = observed.objective.loss(hills(x))
    outputs = ModelledOutputs(observed, hills(x), losses)
    return (
        fit_surrogate(x, outputs.values),
        outputs,
        AcquisitionData(losses, np.ones(12, dtype=bool), pending),
    )


@pytest.mark.parametrize("objective", [bi.Minimize("y0"), bi.Maximize("y0")])
def test_upper_bound_and_pending_points(objective: Any) -> None:
    surrogate, outputs, known = fitted(objective, np.empty((0, 2)))
    mean, variance = surrogate.gp(NEW)
    sign = -1.0 if isinstance(objective, bi.Minimize) else 1.0
    alone = ucb_pe(surrogate, outputs, known, explore=False)(NEW)
    assert torch.allclose(alone, sign * mean[:, 0] + 1.8 * variance[:, 0].sqrt())
    surrogate, outputs, known = fitted(objective, NEW[:1].numpy())
    shared = ucb_pe(surrogate, outputs, known, explore=False)(NEW)
    assert (shared <= alone + 1e-6).all()
    assert shared[0].item() == pytest.approx(sign * mean[0, 0].item(), abs=1e-3)


def test_exploration_maximises_the_deviation_of_promising_points() -> None:
    surrogate, outputs, known = fitted(bi.Minimize("y0"), NEW[:3].numpy())
    score = ucb_pe(surrogate, outputs, known, explore=True)(NEW)
    mean, variance = surrogate.gp(NEW)
    best = NEW[score.argmax()]
    assert (best - NEW[:3]).norm(dim=1).min() > 0.05
    # among all that is as promising, nothing is less known
    promising = (
        -mean[:, 0] + 0.5 * variance[:, 0].sqrt()
        >= (-mean[:, 0] + 0.5 * variance[:, 0].sqrt())[score.argmax()]
    )
    after, _ = surrogate.gp.fantasize(NEW[:3], torch.zeros(1, 1, 3, dtype=torch.float64))
    left = after(NEW)[1][:, 0]
    assert left[score.argmax()] >= left[promising].max() - 1e-9


def test_violations_are_penalised_with_correct_gradients() -> None:
    surrogate, outputs, known = fitted(bi.Minimize("y0"), NEW[:2].numpy(), ["y1 <= 1.0"])
    for explore in (False, True):
        score = ucb_pe(surrogate, outputs, known, explore=explore)
        assert NEW[score(NEW).argmax()].sum() < 1.1
        assert torch.autograd.gradcheck(
            score, NEW[4:8].clone().requires_grad_(), atol=1e-4, rtol=1e-3
        )


def crowded(
    objective: Any, observed: int, pending: int, d: int = 4
) -> tuple[bi.ProblemStatement, list[Trial]]:
    rng = np.random.default_rng(2)
    statement = bi.Problem(bi.Box([0.0] * d, [1.0] * d), None, objective, outputs=1).statement
    trials = []
    for number, x in enumerate(rng.random((observed + pending, d))):
        y = np.array([((x - 0.4) ** 2).sum() + 0.1 * np.sin(12 * x[0])])
        outcome = Outcome(State.COMPLETED, y=y, loss=float(statement.objective.loss(y)))
        done = number < observed
        state = State.COMPLETED if done else State.RUNNING
        trials.append(
            Trial(number, Query(x, origin="gp"), state, ask=0, outcome=outcome if done else None)
        )
    return statement, trials


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({}, bi.Minimize()),
        ({"noisy": True}, bi.Minimize()),
        ({"acquisition": "ucb_pe"}, bi.Minimize()),
        ({}, bi.Target(0.05)),
    ],
    ids=["ei", "noisy", "ucb_pe", "target"],
)
def test_a_batch_beside_a_hundred_pending_points_is_distinct(options: Any, objective: Any) -> None:
    statement, trials = crowded(objective, 40, 100)
    proposal = GP(kernel="rbf", **options).ask(statement, trials, bi.Request(count=10, budget=500))
    points = np.array([query.point for query in proposal.queries])
    assert points.shape == (10, 4)
    assert ((points >= 0.0) & (points <= 1.0)).all()
    taken = np.array([trial.point for trial in trials])
    gaps = np.linalg.norm(points[:, None] - np.concatenate([taken, points])[None], axis=-1)
    gaps[np.arange(10), 140 + np.arange(10)] = np.inf
    assert gaps.min() > 1e-3


def test_an_ask_without_new_data_explores() -> None:
    statement, trials = crowded(bi.Minimize(), 20, 0)
    strategy = GP(kernel="rbf", acquisition="ucb_pe")
    first = strategy.ask(statement, trials, bi.Request(count=1, budget=100))
    waiting = [*trials, Trial(20, first.queries[0], State.RUNNING, ask=0)]
    second = strategy.ask(
        statement, waiting, bi.Request(number=1, count=1, budget=100, memo=first.memo)
    )
    pair = strategy.ask(statement, trials, bi.Request(count=2, budget=100))
    assert second.memo["asked_at"] == 20
    assert np.linalg.norm(second.queries[0].point - first.queries[0].point) > 0.1
    assert np.allclose(pair.queries[0].point, first.queries[0].point, atol=1e-6)


def test_ucb_pe_needs_a_loss_of_one_output() -> None:
    strategy = GP(acquisition="ucb_pe")
    strategy.check(crowded(bi.Minimize(), 1, 0)[0])
    with pytest.raises(bi.UnsuitableStrategyError, match="Use acquisition='ei'"):
        strategy.check(crowded(bi.Target(0.05), 1, 0)[0])
    statement, trials = crowded(bi.Composite(lambda y: (y**2).sum(-1)), 20, 0)
    strategy.check(statement)
    with pytest.raises(bi.UnsuitableStrategyError, match="Use acquisition='ei'"):
        strategy.ask(statement, trials, bi.Request(budget=100))
    with pytest.raises(bi.InvalidInputError, match="'ei', 'ucb_pe'"):
        GP(acquisition="pi")
