from __future__ import annotations

import numpy as np
import pytest

from bo_invert.models.least_squares import learned_metric as metric
from bo_invert.types import Array


def data(n: int, d: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Outputs that all follow one sum of the inputs."""
    x = np.random.default_rng(seed).random((n, d))
    along = x @ np.linspace(1.0, 2.0, d)
    y = np.column_stack([np.sin(k * along) for k in (1.0, 1.7, 2.4, 3.0)])
    return x, (y - y.mean(0)) / y.std(0)


@pytest.mark.parametrize("full", [False, True])
def test_gradient_of_the_likelihood(full: bool) -> None:
    x, scores = data(20)
    rng = np.random.default_rng(1)
    entries = (
        (np.eye(3) + 0.2 * rng.standard_normal((3, 3))).ravel()
        if full
        else np.array([0.7, 1.1, 1.6])
    )
    logs, importance = np.append(entries, -3.0), np.array([1.0, 0.5, 0.3, 0.2])
    _, gradient = metric._negative_log_posterior(logs, x, scores, importance)
    steps = 1e-6 * np.eye(len(logs))
    values = [
        [metric._negative_log_posterior(logs + s * e, x, scores, importance)[0] for s in (1, -1)]
        for e in steps
    ]
    assert gradient == pytest.approx(
        [(up - down) / 2e-6 for up, down in values], rel=1e-4, abs=1e-4
    )


def test_slopes_are_those_of_the_mean() -> None:
    x, scores = data(20)
    process = metric._condition(x, scores, np.eye(3) + 0.3, 1e-4)
    at = np.random.default_rng(2).random((5, 3))
    mean, slopes = process.mean_and_jacobian(at)
    assert mean == pytest.approx(process.mean(at))
    for i, step in enumerate(1e-5 * np.eye(3)):
        assert slopes[:, :, i] == pytest.approx(
            (process.mean(at + step) - process.mean(at - step)) / 2e-5, abs=1e-5
        )


def test_errors_are_those_of_leaving_one_out() -> None:
    x, scores = data(15)
    process = metric._condition(x, scores, np.eye(3), 1e-3)
    covariance, _ = metric._kernel(x, x)
    covariance += 1e-3 * np.eye(15)
    others = np.arange(15) != 4
    weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, 4])
    predicted = process.constant + weights @ (scores[others] - process.constant)
    assert process.loo_errors[4] == pytest.approx(scores[4] - predicted)


def test_a_full_metric_finds_the_sum_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, scores), (at, truth) = data(40, 5), data(200, 5, seed=9)
    importance = np.ones(4)
    full, memo = metric.fit_metric_gp(x, scores, importance)
    assert len(memo["logs"]) == 26
    monkeypatch.setattr(metric, "_MAX_FULL_DIM", 0)
    diagonal, _ = metric.fit_metric_gp(x, scores, importance)
    losses = [np.mean((process.mean(at) - truth) ** 2) for process in (full, diagonal)]
    assert losses[0] < 0.5 * losses[1]


def test_a_memo_spares_the_next_fit_until_the_data_have_grown() -> None:
    x, scores = data(30)
    first, memo = metric.fit_metric_gp(x[:20], scores[:20], np.ones(4))
    again, kept = metric.fit_metric_gp(x[:22], scores[:22], np.ones(4), memo)
    assert kept == memo
    assert (again.metric == first.metric).all()
    _, anew = metric.fit_metric_gp(x, scores, np.ones(4), memo)
    assert anew["n"] == 30


def test_draws_have_the_spread_of_what_is_believed() -> None:
    x, scores = data(20)
    process = metric._condition(x, scores, np.eye(3), 1e-6)
    at = np.random.default_rng(3).random((2, 3))
    rng = np.random.default_rng(4)
    draws = np.array([process.sample(at, rng) for _ in range(4000)])
    assert draws.mean(0) == pytest.approx(process.mean(at), abs=0.1 * draws.std(0).max())
    covariance, _ = metric._kernel(np.concatenate([at, x]), np.concatenate([at, x]))
    covariance[2:, 2:] += 1e-6 * np.eye(20)
    wanted = covariance[:2, :2] - covariance[:2, 2:] @ np.linalg.solve(
        covariance[2:, 2:], covariance[2:, :2]
    )
    for k in range(4):
        found = np.cov(draws[:, :, k].T)
        assert found / found[0, 0] == pytest.approx(wanted / wanted[0, 0], rel=0.15, abs=0.05)
    calibrated = (process.alpha * (scores - process.constant)).mean(0)
    assert draws[:, 0].var(0) == pytest.approx(wanted[0, 0] * calibrated, rel=0.15)


def test_what_was_told_is_drawn_as_it_was() -> None:
    x, scores = data(20)
    process = metric._condition(x, scores, np.eye(3), 1e-8)
    assert process.sample(x[:3], np.random.default_rng(0)) == pytest.approx(scores[:3], abs=1e-2)
    told = process.condition_on(np.full((1, 3), 0.5), np.full((1, 4), 3.0))
    assert told.mean(np.full((1, 3), 0.5)) == pytest.approx(np.full((1, 4), 3.0), abs=1e-2)
    assert len(told.inputs) == 21
