"""Formulas of kernels, likelihoods and posteriors agree for arrays and tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.models.gp.cholesky import cholesky, invert, invert_triangles
from bo_invert.models.gp.hyperparameter_fit import (
    EXACT,
    fit_hyperparameters,
    negative_log_posterior,
)
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel
from bo_invert.models.gp.mixed_kernel import MixedKernel, column_structure
from bo_invert.models.gp.posterior import condition
from bo_invert.types import Array

DOMAIN = box_domain(
    {"kind": bi.Choice("a", "b", "c"), "x": bi.Float(0.0, 1.0), "flag": bi.Choice(True, False)}
)
STRUCTURE = column_structure(DOMAIN)
assert STRUCTURE is not None
KERNELS = pytest.mark.parametrize(
    "kernel",
    [RBF, MATERN, MixedKernel("mixed rbf", RBF, STRUCTURE)],
    ids=lambda kernel: kernel.name,
)
D = DOMAIN.dim


def points(n: int, seed: int) -> Array:
    return DOMAIN.uniform(np.random.default_rng(seed), n)


def hyperparameters(kernel: Kernel, rows: int) -> Array:
    return np.random.default_rng(3).uniform(-0.8, 0.5, (rows, kernel.size(D)))


@KERNELS
def test_kernels(kernel: Kernel) -> None:
    a, b, logs = points(6, 0), points(5, 1), hyperparameters(kernel, 2)
    upstream = np.random.default_rng(2).standard_normal((2, 6, 5))
    tensors = [torch.tensor(x) for x in (logs, a, b, upstream)]
    value, cache = kernel.matrix(logs, a, b)
    expected, saved = kernel.matrix(*tensors[:3])
    assert isinstance(value, np.ndarray)
    assert np.allclose(value, expected, atol=1e-14)
    for name in ("gradient_in_inputs", "gradient_in_log_lengthscales"):
        own = getattr(kernel, name)(cache, upstream)
        assert np.allclose(own, getattr(kernel, name)(saved, tensors[3]), atol=1e-13)
    gram, _ = kernel.gram(logs, a)
    assert np.allclose(gram, kernel.gram(*tensors[:2])[0], atol=1e-14)
    assert (np.einsum("kii->ki", gram) == 1.0).all()


@KERNELS
def test_hyperparameters_of_shared_lengthscales(kernel: Kernel) -> None:
    logs = hyperparameters(kernel, 4)
    shared = kernel.share(logs)
    assert np.allclose(shared, kernel.share(torch.tensor(logs)))
    spread = kernel.unshare(shared, D)
    assert spread.shape == logs.shape
    assert np.allclose(kernel.share(spread), shared)
    # The sum over all hyperparameters of a gradient is the same for shared ones.
    assert np.allclose(kernel.share_gradient(logs).sum(1), logs.sum(1))
    value, gradient = kernel.negative_log_prior(logs)
    expected, slope = kernel.negative_log_prior(torch.tensor(logs))
    assert np.allclose(value, expected)
    assert np.allclose(gradient, slope)


@KERNELS
@pytest.mark.parametrize("measured", [False, True])
def test_likelihoods(kernel: Kernel, measured: bool) -> None:
    rng = np.random.default_rng(4)
    logs = np.column_stack([hyperparameters(kernel, 3), np.log([1e-6, 1e-3, 0.1])])
    x, y = points(9, 5), rng.standard_normal((3, 9))
    noise = rng.random((3, 9)) if measured else None
    value, gradient = negative_log_posterior(logs, x, y, EXACT, kernel, noise)
    tensors = [None if part is None else torch.tensor(part) for part in (logs, x, y, noise)]
    expected, slope = negative_log_posterior(*tensors[:3], EXACT, kernel, tensors[3])
    assert isinstance(value, np.ndarray)
    assert np.allclose(value, expected, rtol=1e-9)
    assert np.allclose(gradient, slope, rtol=1e-6, atol=1e-6)


@KERNELS
def test_moments(kernel: Kernel) -> None:
    x, new, logs = points(9, 6), points(4, 7), hyperparameters(kernel, 2)
    y = torch.tensor(np.random.default_rng(8).standard_normal((9, 2)))
    noise = torch.full((2,), 1e-3, dtype=torch.float64)
    gp = condition(kernel, torch.tensor(logs), noise, torch.tensor(x), y)
    mean, variance, cache = gp.array_moments(new)
    at = torch.tensor(new, requires_grad=True)
    expected = gp.fantasies(at)
    assert np.allclose(mean, expected[0].detach(), atol=1e-12)
    assert np.allclose(variance, expected[1].detach(), atol=1e-12)
    weights = np.random.default_rng(9).standard_normal(mean.shape)
    (slope,) = torch.autograd.grad(
        (expected[0] * torch.tensor(weights)).sum() + expected[1].sum(), at
    )
    gradient = gp.array_moments.gradient(cache, weights, np.ones_like(variance))
    assert np.allclose(gradient, slope, atol=1e-10)


def spd(n: int, count: int = 3) -> Array:
    a = np.random.default_rng(n).standard_normal((count, n, n + 2))
    return a @ a.swapaxes(1, 2)


def test_inverses() -> None:
    matrices, right = spd(6), np.random.default_rng(0).standard_normal((3, 6, 2))
    symmetric = spd(6)[::-1]
    for convert in (np.copy, torch.tensor):
        found = invert(convert(matrices), convert(right))
        assert np.allclose(2.0 * found.half_log_determinants, np.linalg.slogdet(matrices)[1])
        assert np.allclose(found.solutions, np.linalg.solve(matrices, right))
        sums = (np.asarray(found.weights) * symmetric).sum((1, 2))
        assert np.allclose(sums, (np.linalg.inv(matrices) * symmetric).sum((1, 2)))
    factor, singular = cholesky(torch.tensor(matrices))
    assert not singular
    assert np.allclose(factor, np.linalg.cholesky(matrices))
    assert np.allclose(invert_triangles(factor), np.linalg.inv(factor))


def test_singular_matrices() -> None:
    matrices = np.stack([np.ones((4, 4)), spd(4, 1)[0]])
    found = invert(matrices.copy(), np.ones((2, 4, 1)))
    assert found.half_log_determinants[0] == np.inf
    assert np.isfinite(found.half_log_determinants[1])
    assert cholesky(torch.tensor(matrices))[1]


def test_the_best_start_uses_all_observations() -> None:
    """Starts compete on 100 observations; the optimum is that of all of them."""
    rng = np.random.default_rng(1)
    x = rng.random((140, 2))
    y = np.column_stack([np.sin(6.0 * x[:, 0]), rng.standard_normal(140)])
    y = (y - y.mean(0)) / y.std(0)
    x, y = torch.tensor(x), torch.tensor(y)
    logs, lowest = fit_hyperparameters(x, y)
    value, gradient = negative_log_posterior(logs, x, y.mT, EXACT, RBF)
    assert torch.allclose(value, lowest)
    inside = (logs > np.log(0.03)) & (logs < np.log(0.9))
    assert inside.any()
    assert gradient[inside].abs().max() < 0.5
    warm, value = fit_hyperparameters(x, y, warm_start=logs, single_start=True)
    assert (value <= lowest + 1e-3).all()
    assert torch.allclose(warm[inside], logs[inside], atol=0.1)
