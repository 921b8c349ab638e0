"""Noise of a noisy oracle, and the posterior of designs under it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.models.gp.compression import compress
from bo_invert.models.gp.hyperparameter_fit import MEASURED, fit_hyperparameters
from bo_invert.models.gp.kernels import RBF
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.inverse.noise_mixture import log_normal
from bo_invert.models.inverse.oracle_noise import fit_oracle_noise
from bo_invert.types import Array


def posterior(x: Array, y: Array) -> GPPosterior:
    inputs, values = torch.as_tensor(x), torch.as_tensor(y)
    logs, _ = fit_hyperparameters(inputs, values, MEASURED, RBF)
    return condition(RBF, logs[:, :-1], logs[:, -1].exp(), inputs, values)


def test_noise_that_depends_on_the_design_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((300, 2))
    y = np.stack([x[:, 0] + np.exp(3.0 * x[:, 1] - 3.0) * rng.standard_normal(300),
                  x[:, 1] + 0.3 * rng.standard_normal(300)], 1)  # fmt: skip
    _, noise = fit_oracle_noise(posterior(x, y))
    assert noise is not None
    at = torch.tensor([[0.5, 0.1], [0.5, 0.9]], dtype=torch.float64)
    spread = noise.scale(at) * noise.mixture.covariances[0].diagonal().sqrt()
    ratio = spread[1] / spread[0]
    assert float(ratio[0]) == pytest.approx(np.exp(2.4), rel=0.5)
    assert float(ratio[1]) == pytest.approx(1.0)  # equal noise is no function of the design


def test_correlated_noise_is_found() -> None:
    rng = np.random.default_rng(1)
    x, normals = rng.random((200, 1)), rng.standard_normal((200, 2))
    y = x + 0.5 * normals @ np.linalg.cholesky([[1.0, 0.8], [0.8, 1.0]]).T
    _, noise = fit_oracle_noise(posterior(x, y))
    assert noise is not None
    covariance = noise.mixture.covariances
    assert len(covariance) == 1
    correlation = covariance[0, 0, 1] / covariance[0].diagonal().prod().sqrt()
    assert float(correlation) == pytest.approx(0.8, abs=0.08)


def test_log_normal_equals_the_distribution_of_torch() -> None:
    torch.manual_seed(0)
    gap, extra = torch.randn(5, 3).double(), torch.rand(5, 3).double()
    root = torch.randn(3, 3).double()
    both = root @ root.mT + extra.diag_embed()
    expected = torch.distributions.MultivariateNormal(torch.zeros(3).double(), both).log_prob(gap)
    assert torch.allclose(log_normal(gap, root @ root.mT, extra), expected)


def test_compression_keeps_the_predictions() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((600, 2))
    y = np.sin(5.0 * x) + 0.3 * rng.standard_normal((600, 2))
    full = posterior(x, y)
    small = compress(full, 0.01 * full.noise[:, 0])
    assert len(small.inputs) < 150
    at = torch.rand(50, 2).double()
    (mean, variance), (near, wider) = full(at), small(at)
    assert float(((near - mean).abs() / variance.sqrt()).max()) < 0.5
    assert float((wider / variance - 1.0).abs().max()) < 0.5
    # Fantasies at pending points extend both alike.
    values = mean[:2].mT[..., None]
    first, second = (gp.extend(at[:2], values)(at)[1] for gp in (full, small))
    assert float((second / first - 1.0).abs().max()) < 0.5


def test_posterior_under_noise_of_two_scales() -> None:
    """Noise has the deviation 0.1 or 1, so the posterior has a sharp and a wide part."""
    rng = np.random.default_rng(3)
    problem = bi.Problem(bi.Box([-5.0], [5.0]), None, bi.Target(0.7), outputs=["y"])
    study = bi.Study.create("s", problem, {"name": "inverse", "options": {"noisy": True}}, seed=0)
    x = rng.uniform(-5.0, 5.0, (400, 1))
    scale = np.where(rng.random((400, 1)) < 0.5, 1.0, 0.1)
    study.add(x, x + scale * rng.standard_normal((400, 1)))
    found = np.array(study.posterior(1000).designs)[:, 0]
    near, far = (np.mean(np.abs(found - 0.7) < width) for width in (0.25, 1.0))
    assert near == pytest.approx(0.59, abs=0.08)  # 0.28 under equal normal noise
    assert far == pytest.approx(0.84, abs=0.05)
