from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel
from bo_invert.models.gp.posterior import GPPosterior, condition


def process(kernel: Kernel, noise: float = 1e-6, n: int = 7) -> GPPosterior:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, 3, dtype=torch.float64, generator=generator)
    values = torch.stack([(3.0 * inputs).sin().sum(1), inputs[:, 0] ** 2 - inputs[:, 1]], 1)
    logs = torch.tensor([[0.5, 0.8, 1.2], [0.4, 0.6, 2.0]], dtype=torch.float64).log()
    return condition(kernel, logs, torch.full((2,), noise, dtype=torch.float64), inputs, values)


def places(count: int = 4) -> Tensor:
    return torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", [RBF, MATERN], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("noise", [1e-6, 0.3])
def test_sampled_paths_have_the_posterior_moments(kernel: Kernel, noise: float) -> None:
    model, inputs = process(kernel, noise), places()
    mean, covariance = model.joint(inputs)
    values = torch.cat(
        [draw_paths(model, 500, seed, features=2048)(inputs) for seed in range(4)], -1
    ).transpose(0, 1)
    off = values - values.mean(-1, keepdim=True)
    std = covariance.diagonal(dim1=1, dim2=2).sqrt()
    allowed = 5.0 * std / values.shape[-1] ** 0.5
    assert ((values.mean(-1) - mean[..., 0]).abs() < allowed).all()
    sampled = off @ off.mT / (values.shape[-1] - 1)
    correlated = (sampled - covariance) / (0.05 + std.unsqueeze(1) * std.unsqueeze(2))
    assert correlated.abs().max() < 0.12


@pytest.mark.parametrize("kernel", [RBF, MATERN], ids=lambda kernel: kernel.name)
def test_paths_far_from_the_data_are_prior_draws(kernel: Kernel) -> None:
    """The data have no influence there, so errors of the spectral density show."""
    model = process(kernel)
    near = (
        torch.linspace(0.0, 1.0, 5, dtype=torch.float64)[:, None]
        * torch.tensor([0.5, 0.8, 1.2]).double()
        + 40.0
    )
    prior, _ = kernel.gram(model.log_lengthscales, near)
    values = torch.cat(
        [draw_paths(model, 500, seed, features=1024)(near) for seed in range(8)], -1
    ).transpose(0, 1)
    off = values - model.constant[:, None, None]
    assert (off @ off.mT / values.shape[-1] - prior)[0].abs().max() < 0.12


def test_paths_interpolate_noise_free_values() -> None:
    model = process(MATERN, 1e-8)
    values = draw_paths(model, 3, 0, features=16)(model.inputs)
    assert (values - model.values.transpose(0, 1)).abs().max() < 1e-3


@pytest.mark.parametrize("kernel", [RBF, MATERN], ids=lambda kernel: kernel.name)
def test_gradients_agree_with_finite_differences(kernel: Kernel) -> None:
    paths, functions = draw_paths(process(kernel), 3, 0, features=32), np.array([2, 0, 1, 2])
    weights = torch.tensor([[1.0, -2.0]] * 4, dtype=torch.float64)

    def values(inputs: Tensor) -> Tensor:
        return paths.at(inputs, functions)[0]

    assert torch.allclose(values(places()), paths(places())[np.arange(4), :, functions])
    slopes = paths.gradient(paths.at(places(), functions)[1], weights)
    for step in 1e-5 * torch.eye(3, dtype=torch.float64):
        change = (values(places() + step) - values(places() - step)) / 2e-5
        assert torch.allclose((weights * change).sum(1), slopes @ step / 1e-5, atol=1e-6)


def test_seeds_and_shapes() -> None:
    model = process(RBF)
    inputs = places(6).reshape(2, 3, 3)
    first, again, other = (draw_paths(model, 4, seed)(inputs) for seed in (5, 5, 6))
    assert first.shape == (2, 3, 2, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
