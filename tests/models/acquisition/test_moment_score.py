"""Gradients of acquisition functions against finite differences, and values against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import bo_invert as bi
from bo_invert.models.acquisition import expected_improvement as acquisition
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.log_ei import log_h_slope, log_ndtr_slope
from bo_invert.models.acquisition.thompson_sample_paths import thompson_scores
from bo_invert.models.gp.hyperparameter_fit import NOISY
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.optim.score import DifferentiableScore
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import Array

X = np.random.default_rng(7).random((14, 2))
NEW = np.random.default_rng(8).random((5, 2))
CASES = {
    "loss": (bi.Minimize("y0"), (), False),
    "maximum": (bi.Maximize("y0"), (), False),
    "constraint": (bi.Minimize("y0"), ("y1 <= 55",), False),
    "noisy": (bi.Minimize("y0"), ("y1 <= 55",), True),
    "one target": (bi.Target({"y0": 0.3}), (), False),
    "targets": (bi.Target({"y0": 0.3, "y1": 52.0}), (), False),
    "composite": (bi.Composite(lambda y: y[..., 0] ** 2 + y[..., 1]), (), False),
}


def smooth(x: Array) -> Array:
    return np.column_stack([np.sin(4 * x[:, 0]) + 0.1 * x[:, 1], 50.0 + 20.0 * np.cos(3 * x[:, 1])])


def modelled(objective: Any, constraints: Any) -> tuple[Surrogate, ModelledOutputs, Array, Array]:
    space = bi.Box([0.0, 0.0], [1.0, 1.0])
    problem = bi.Problem(space, None, objective, outputs=2, constraints=constraints)
    statement, y = problem.statement, smooth(X)
    losses = statement.objective.loss(y)
    outputs = ModelledOutputs(statement, y, losses)
    feasible = np.array([all(c.excess(row) <= 0 for c in statement.constraints) for row in y])
    search_space = ModelSearchSpace(noise_priors=(NOISY,))
    return fit_surrogate(X, outputs.values, None, search_space), outputs, losses, feasible


def check_gradients(score: DifferentiableScore, functions: Array | None = None) -> None:
    assert isinstance(score, DifferentiableScore)
    numbers = np.zeros(len(NEW), dtype=int) if functions is None else functions

    def values(at: Array) -> Array:
        return np.atleast_2d(score.values(at))[numbers, np.arange(len(at))]

    value, gradient = score.gradient(NEW, numbers)
    assert np.allclose(value, values(NEW), rtol=1e-9)
    for step, slope in zip(1e-5 * np.eye(2), gradient.T, strict=True):
        expected = (values(NEW + step) - values(NEW - step)) / 2e-5
        assert np.allclose(slope, expected, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("pending", [0, 2])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_log_expected_improvement(case: str, pending: int) -> None:
    objective, constraints, noisy = CASES[case]
    surrogate, outputs, losses, feasible = modelled(objective, constraints)
    points = np.random.default_rng(9).random((pending, 2))
    data = AcquisitionData(losses, feasible, points, noisy, use_misfit=True)
    score = acquisition.log_expected_improvement(surrogate, outputs, data, seed=0, samples=32)
    check_gradients(score)


def test_log_expected_improvement_is_that_of_the_formula() -> None:
    surrogate, outputs, losses, feasible = modelled(*CASES["constraint"][:2])
    data = AcquisitionData(losses, feasible, np.empty((0, 2)))
    score = acquisition.log_expected_improvement(surrogate, outputs, data, seed=0)
    near = X[np.argsort(losses)[:8]] + 0.1
    mean, variance = surrogate.gp(torch.tensor(near))
    centre, std = (part.numpy() for part in surrogate.warped_moments(mean, variance))
    u = (losses[feasible].min() - centre[:, 0]) / std[:, 0]
    # The naive formula cancels where an improvement is unlikely.
    likely = u > -5.0
    assert likely.any()
    near, centre, std, u = near[likely], centre[likely], std[likely], u[likely]
    expected = np.log(std[:, 0] * (u * stats.norm.cdf(u) + stats.norm.pdf(u)))
    expected += stats.norm.logcdf((55.0 - centre[:, 1]) / std[:, 1])
    # The improvement is in standard deviations of the output.
    off = score.values(near) - expected
    assert np.allclose(off, -np.log(float(surrogate.weights[0, 0])), atol=1e-8)


def test_gradients_of_feasibility() -> None:
    labels = (X[:, :1] + X[:, 1:] > 0.8).astype(float)
    score = acquisition.log_feasibility(fit_surrogate(X, labels), 0.6, weight=3.0)
    check_gradients(score)
    alone = acquisition.log_feasibility(fit_surrogate(X, labels), 0.6)
    assert np.allclose(score.values(NEW), 3.0 * alone.values(NEW))


@pytest.mark.parametrize("case", ["loss", "constraint", "targets"])
@pytest.mark.parametrize("count", [1, 3])
def test_gradients_of_thompson_samples(case: str, count: int) -> None:
    surrogate, outputs, _, _ = modelled(*CASES[case][:2])
    scores = thompson_scores(surrogate, outputs, count, seed=0)
    assert scores.values(NEW).shape == (count, len(NEW))
    check_gradients(scores, np.arange(len(NEW)) % count)


def test_gradients_of_thompson_samples_of_a_warped_output() -> None:
    problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), None, bi.Minimize(), outputs=1)
    y = np.exp(8.0 * X[:, :1] + X[:, 1:])
    outputs = ModelledOutputs(problem.statement, y, y[:, 0])
    search_space = ModelSearchSpace(warp_directions=outputs.warp_directions)
    surrogate = fit_surrogate(X, outputs.values, None, search_space)
    assert surrogate.warp is not None
    check_gradients(thompson_scores(surrogate, outputs, 2, seed=0), np.arange(len(NEW)) % 2)


def test_slopes_of_logarithms() -> None:
    u = np.array([-3e4, -1200.0, -900.0, -30.0, -2.0, -1.0, -0.5, 0.0, 3.0])
    for function in (log_h_slope, log_ndtr_slope):
        value, slope = function(u)
        step = 1e-6 * np.maximum(np.abs(u), 1.0)
        change = (function(u + step)[0] - function(u - step)[0]) / (2.0 * step)
        assert np.allclose(slope, change, rtol=1e-4)
        tensors = function(torch.tensor(u))
        assert np.allclose(value, tensors[0], rtol=1e-12)
        assert np.allclose(slope, tensors[1], rtol=1e-9)
