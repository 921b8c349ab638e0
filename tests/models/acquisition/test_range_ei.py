"""Tests of the expected improvement towards ranges."""

from __future__ import annotations

import math

import pytest
import torch

from bo_invert.models.acquisition.range_ei import Ranges, log_range_distance_ei
from bo_invert.models.acquisition.target_ei import log_squared_distance_ei

LOWER = torch.tensor([0.8, -0.06, 0.3, 1.0], dtype=torch.float64)
UPPER = torch.tensor([math.inf, -0.04, 0.3, 2.0], dtype=torch.float64)
RANGES = Ranges(LOWER, UPPER, torch.tensor([False, False, False, True]))


def moments(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    spread = torch.rand(count, 4, dtype=torch.float64, generator=generator)
    return mean + torch.tensor([0.8, 0.0, 0.3, 1.5]), 0.7 * spread + 0.05


@pytest.mark.parametrize("square", [3.0, 0.3])
def test_the_saddle_point_agrees_with_samples(square: float) -> None:
    mean, std = moments(40, 0)
    best = torch.tensor(square, dtype=torch.float64)
    normals = torch.randn(
        200_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    log = log_range_distance_ei(mean, std, RANGES, best)
    compared = 0
    for row in range(len(mean)):
        distance = RANGES.squared_distances(mean[row] + std[row] * normals)
        gain = (best - distance.sum(-1)).clamp(min=0.0)
        error = float(gain.std()) / math.sqrt(len(gain))
        if float(gain.mean()) > 100 * error:  # samples are exact to 1 %
            assert abs(float(log[row]) - math.log(float(gain.mean()))) < 0.16
            compared += 1
    assert compared > 10


def test_ranges_without_width_are_points() -> None:
    mean, std = moments(30, 2)
    point = torch.tensor([0.3, 0.1, -0.2, 0.0], dtype=torch.float64)
    best = torch.tensor(0.01, dtype=torch.float64)
    none = torch.zeros(4, dtype=torch.bool)
    found = log_range_distance_ei(3 * mean, std, Ranges(point, point, none), best)
    expected = log_squared_distance_ei(3 * mean - point, std**2, best)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-9)


@pytest.mark.parametrize("square", [0.3, 1e-6])
def test_gradients(square: float) -> None:
    mean, std = moments(4, 3)
    mean, std = mean.requires_grad_(), std.requires_grad_()
    best = torch.tensor(square, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m, s: log_range_distance_ei(m, s, RANGES, best),
        (mean, std),
        atol=1e-4,
        rtol=1e-3,
    )


def test_far_means_and_a_met_target_have_finite_gradients() -> None:
    rows = [[1e3, 5.0, -40.0, 1.5], [0.9, -0.05, 0.3, 5.0], [-1e3, 0.0, 0.3, 1.001]]
    mean = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    std = torch.full((3, 4), 1e-2, dtype=torch.float64)
    best = torch.tensor(1e-20, dtype=torch.float64)
    log = log_range_distance_ei(mean, std, RANGES, best)
    (gradient,) = torch.autograd.grad(log.sum(), mean)
    assert log.isfinite().all()
    assert gradient.isfinite().all()
