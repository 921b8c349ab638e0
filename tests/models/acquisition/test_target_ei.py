"""Tests of the target EI against quadrature, Monte Carlo and asymptotic tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import bo_invert as bi
from bo_invert.models.acquisition import expected_improvement as acquisition
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.target_ei import log_squared_distance_ei, log_target_ei
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("off", [0.0, 0.3, -1.7, 6.0, -25.0])
@pytest.mark.parametrize("reach", [1e-7, 0.02, 0.99, 1.01, 3.0, 30.0])
def test_target_ei_agrees_with_quadrature(off: float, reach: float) -> None:
    """The largest density is factored out, so that quadrature handles numbers near 1."""
    nearest = max(abs(off) - reach, 0.0)

    def integrand(z: float) -> float:
        return (1.0 - abs(z - abs(off)) / reach) * math.exp(0.5 * (nearest**2 - z * z))

    top = min(abs(off) + reach, nearest + 15.0)
    low = max(abs(off) - reach, -15.0)
    breaks = [low, *(p for p in (nearest + 1.0, abs(off)) if low < p < top), top]
    total = sum(
        integrate.quad(integrand, a, b, epsabs=0.0, epsrel=1e-12, limit=400)[0]
        for a, b in zip(sorted(breaks)[:-1], sorted(breaks)[1:], strict=True)
    )
    expected = math.log(total) + math.log(reach) - 0.5 * nearest**2 - 0.5 * math.log(2.0 * math.pi)
    assert log_target_ei(number(off), number(reach)).item() == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


def test_target_ei_is_smooth_and_finite() -> None:
    rng = np.random.default_rng(0)
    off = torch.tensor(4.0 * rng.standard_normal(200), requires_grad=True)
    reach = torch.tensor(np.exp(2.0 * rng.standard_normal(200)), requires_grad=True)
    assert torch.autograd.gradcheck(log_target_ei, (off, reach))
    off = torch.logspace(-3, 7, 60, dtype=torch.float64)[:, None].requires_grad_()
    reach = torch.logspace(-12, 4, 40, dtype=torch.float64).requires_grad_()
    value = log_target_ei(off, reach)
    slopes = torch.autograd.grad(value.sum(), [off, reach])
    assert value.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes)
    assert (value[1:] <= value[:-1]).all()  # farther off is never better
    assert (value[:, 1:] >= value[:, :-1]).all()


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_squared_distance_ei_agrees_with_noncentral_chi_square(k: int) -> None:
    """E[(c - X)+] by the distribution function of the noncentral chi-square."""
    rng = np.random.default_rng(k)
    for spread in (0.1, 1.0, 3.0):
        off, square = spread * rng.standard_normal(k), k * float(np.exp(rng.standard_normal()))
        cdf = stats.ncx2(k, float((off**2).sum())).cdf
        expected = integrate.quad(cdf, 0.0, square, epsrel=1e-9)[0]
        found = log_squared_distance_ei(
            torch.tensor(off), torch.ones(k, dtype=torch.float64), number(square)
        )
        assert found.exp().item() == pytest.approx(expected, rel=0.04)


def test_squared_distance_ei_agrees_with_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    for k in (2, 4):
        off, variance = rng.standard_normal(k), np.exp(2.0 * rng.standard_normal(k))
        gains = np.maximum(
            3.0 - ((off + np.sqrt(variance) * rng.standard_normal((400_000, k))) ** 2).sum(1), 0.0
        )
        found = log_squared_distance_ei(torch.tensor(off), torch.tensor(variance), number(3.0))
        assert found.exp().item() == pytest.approx(gains.mean(), rel=0.05)


def test_squared_distance_ei_has_the_right_slope_far_away() -> None:
    """Far away only the density at the nearest boundary point matters."""
    off = torch.linspace(50.0, 1e6, 30, dtype=torch.float64)[:, None].requires_grad_()
    value = log_squared_distance_ei(off, torch.ones(1, dtype=torch.float64), number(4.0))
    (slope,) = torch.autograd.grad(value.sum(), off)
    assert torch.allclose(slope, -(off - 2.0), rtol=3e-3)


def test_squared_distance_ei_has_correct_gradients_at_every_scale() -> None:
    rng = np.random.default_rng(2)
    off = torch.tensor(rng.standard_normal((6, 3)), requires_grad=True)
    variance = torch.tensor(np.exp(rng.standard_normal((6, 3))), requires_grad=True)
    square = torch.tensor(np.exp(rng.standard_normal(6)), requires_grad=True)
    assert torch.autograd.gradcheck(log_squared_distance_ei, (off, variance, square))
    wide = [torch.tensor(np.exp(rng.uniform(low, high, shape))) for low, high, shape in
            [(-20, 6, (4000, 4)), (-26, 2, (4000, 4)), (-40, 6, 4000)]]  # fmt: skip
    leaves = [part.requires_grad_() for part in wide]
    value = log_squared_distance_ei(*leaves)
    assert value.isfinite().all()
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(value.sum(), leaves))


def smooth(x: np.ndarray) -> np.ndarray:
    return np.column_stack(
        [np.sin(4 * x[:, 0]) + 0.1 * x[:, 1], 50.0 + 20.0 * np.cos(3 * x[:, 1]), x.sum(1)]
    )


@pytest.mark.parametrize("pending", [0, 2])
@pytest.mark.parametrize(
    ("target", "power"),
    [
        (bi.Target(0.35, output="y0", scale=3.0), 0.5),
        (bi.Target({"y1": 55.0, "y0": 0.2}, scale=[20.0, 1.0]), 1.0),
    ],
    ids=["scalar", "vector"],
)
def test_target_ei_agrees_with_samples(target: Any, power: float, pending: int) -> None:
    """Pending points and a constraint on another output included; up to a factor of units."""
    rng = np.random.default_rng(7)
    x, waiting, new = (
        rng.random((5, 2)),
        rng.random((pending, 2)),
        torch.tensor(rng.random((100, 2))),
    )
    space = bi.Box([0.0, 0.0], [1.0, 1.0])
    observed = bi.Problem(space, None, target, outputs=3, constraints=["y2 <= 1.1"]).statement
    losses, feasible = observed.objective.loss(smooth(x)), smooth(x)[:, 2] <= 1.1
    outputs = ModelledOutputs(observed, smooth(x), losses)
    surrogate = fit_surrogate(x, outputs.values)
    score = acquisition.log_expected_improvement(
        surrogate, outputs, AcquisitionData(losses, feasible, waiting), seed=0, samples=4096
    )
    mean, covariance = surrogate.gp.joint(torch.cat([torch.tensor(waiting), new]))
    draws = np.stack(
        [
            rng.multivariate_normal(
                mean[j, :, 0].numpy(), covariance[j].numpy(), 20_000, method="svd"
            )
            for j in range(len(mean))
        ],
        -1,
    )
    y = np.zeros((*draws.shape[:2], 3))
    y[..., outputs.columns] = surrogate.values(torch.tensor(draws)).numpy()
    distance = observed.objective.loss(y) ** power
    fine = y[..., 2] <= 1.1
    best = np.full((len(y), 1), losses[feasible].min() ** power)
    if pending:
        best = np.minimum(best, np.where(fine, distance, np.inf)[:, :pending].min(1, keepdims=True))
    gains = (np.maximum(best - distance[:, pending:], 0.0) * fine[:, pending:]).mean(0)
    useful = gains > 0.03 * gains.max()
    assert useful.sum() >= 5
    ratio = score(new).exp().numpy()[useful] / gains[useful]
    assert np.allclose(ratio / np.median(ratio), 1.0, atol=0.1)


def test_an_exact_incumbent_gives_finite_scores() -> None:
    x = np.random.default_rng(3).random((8, 2))
    observed = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), None, bi.Target(smooth(x)[2]), outputs=3
    ).statement
    losses = observed.objective.loss(smooth(x))
    outputs = ModelledOutputs(observed, smooth(x), losses)
    score = acquisition.log_expected_improvement(
        fit_surrogate(x, outputs.values),
        outputs,
        AcquisitionData(losses, np.ones(8, dtype=bool), np.empty((0, 2))),
        seed=0,
    )
    assert losses.min() == 0.0
    assert score(torch.tensor(x + 1e-3)).isfinite().all()
