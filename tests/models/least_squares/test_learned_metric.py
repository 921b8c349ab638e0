from __future__ import annotations

import numpy as np
import pytest

from bo_invert.models.least_squares import learned_metric as metric
from bo_invert.types import Array


def data(n: int, d: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Return outputs that depend on one sum of the inputs."""
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


def test_jacobian_agrees_with_finite_differences() -> None:
    x, scores = data(20)
    gp = metric._condition(x, scores, np.eye(3) + 0.3, 1e-4)
    at = np.random.default_rng(2).random((5, 3))
    mean, slopes = gp.mean_and_jacobian(at)
    assert mean == pytest.approx(gp.mean(at))
    for i, step in enumerate(1e-5 * np.eye(3)):
        assert slopes[:, :, i] == pytest.approx(
            (gp.mean(at + step) - gp.mean(at - step)) / 2e-5, abs=1e-5
        )


def test_loo_errors_equal_refits() -> None:
    x, scores = data(15)
    gp = metric._condition(x, scores, np.eye(3), 1e-3)
    covariance, _ = metric._kernel(x, x)
    covariance += 1e-3 * np.eye(15)
    others = np.arange(15) != 4
    weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, 4])
    predicted = gp.constant + weights @ (scores[others] - gp.constant)
    assert gp.loo_errors[4] == pytest.approx(scores[4] - predicted)


def test_a_full_metric_finds_the_relevant_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, scores), (at, truth) = data(40, 5), data(200, 5, seed=9)
    importance = np.ones(4)
    full, memo = metric.fit_metric_gp(x, scores, importance)
    assert len(memo["logs"]) == 26
    monkeypatch.setattr(metric, "_MAX_FULL_DIM", 0)
    diagonal, _ = metric.fit_metric_gp(x, scores, importance)
    losses = [np.mean((gp.mean(at) - truth) ** 2) for gp in (full, diagonal)]
    assert losses[0] < 0.5 * losses[1]


def test_a_memo_is_reused_until_the_data_grow() -> None:
    x, scores = data(30)
    first, memo = metric.fit_metric_gp(x[:20], scores[:20], np.ones(4))
    again, reused = metric.fit_metric_gp(x[:22], scores[:22], np.ones(4), memo)
    assert reused == memo
    assert (again.metric == first.metric).all()
    _, refitted = metric.fit_metric_gp(x, scores, np.ones(4), memo)
    assert refitted["n"] == 30


def test_samples_have_the_posterior_covariance() -> None:
    x, scores = data(20)
    gp = metric._condition(x, scores, np.eye(3), 1e-6)
    at = np.random.default_rng(3).random((2, 3))
    rng = np.random.default_rng(4)
    draws = np.array([gp.sample(at, rng) for _ in range(4000)])
    assert draws.mean(0) == pytest.approx(gp.mean(at), abs=0.1 * draws.std(0).max())
    covariance, _ = metric._kernel(np.concatenate([at, x]), np.concatenate([at, x]))
    covariance[2:, 2:] += 1e-6 * np.eye(20)
    wanted = covariance[:2, :2] - covariance[:2, 2:] @ np.linalg.solve(
        covariance[2:, 2:], covariance[2:, :2]
    )
    for k in range(4):
        found = np.cov(draws[:, :, k].T)
        assert found / found[0, 0] == pytest.approx(wanted / wanted[0, 0], rel=0.15, abs=0.05)
    calibrated = (gp.alpha * (scores - gp.constant)).mean(0)
    assert draws[:, 0].var(0) == pytest.approx(wanted[0, 0] * calibrated, rel=0.15)


def test_samples_interpolate_the_observations() -> None:
    x, scores = data(20)
    gp = metric._condition(x, scores, np.eye(3), 1e-8)
    assert gp.sample(x[:3], np.random.default_rng(0)) == pytest.approx(scores[:3], abs=1e-2)
    conditioned = gp.condition_on(np.full((1, 3), 0.5), np.full((1, 4), 3.0))
    assert conditioned.mean(np.full((1, 3), 0.5)) == pytest.approx(np.full((1, 4), 3.0), abs=1e-2)
    assert len(conditioned.inputs) == 21
