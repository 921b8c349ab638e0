"""Tests of the kernel of numeric parameters and choices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.search_domain import Domain
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.base import to_unit
from bo_invert.models.gp.hyperparameter_fit import (
    EXACT,
    fit_hyperparameters,
    negative_log_posterior,
)
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel
from bo_invert.models.gp.mixed_kernel import MixedKernel, column_structure
from bo_invert.models.gp.posterior import condition

MIXED = box_domain(
    {
        "kind": bi.Choice("a", "b", "c", "d"),
        "x": bi.Float(0.0, 1.0),
        "flag": bi.Choice(True, False),
        "n": bi.Int(0, 9),
    }
)
CHOICES = box_domain({"kind": bi.Choice("a", "b", "c"), "flag": bi.Choice("on", "off")})
THREE = box_domain(
    {
        "kind": bi.Choice("a", "b", "c"),
        "flag": bi.Choice("on", "off"),
        "size": bi.Choice(1, 2, 3, 4),
        "x": bi.Float(0.0, 1.0),
    }
)
BASES = pytest.mark.parametrize("base", [RBF, MATERN], ids=lambda k: k.name)
DOMAINS = pytest.mark.parametrize(
    "domain", [MIXED, CHOICES, THREE], ids=["mixed", "choices", "three"]
)


def mixed(domain: Domain, base: Kernel = RBF) -> MixedKernel:
    structure = column_structure(domain)
    assert structure is not None
    return MixedKernel(f"mixed {base.name}", base, structure)


def points(domain: Domain, n: int, seed: int = 0) -> Tensor:
    return torch.tensor(to_unit(domain, domain.uniform(np.random.default_rng(seed), n)))


def hyperparameters(kernel: MixedKernel, *lead: int, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).uniform(-0.8, 0.5, (*lead, kernel.size(0)))
    return torch.tensor(drawn)


@BASES
def test_value_is_the_sum_of_the_formula(base: Kernel) -> None:
    kernel = mixed(MIXED, base)
    a, b = points(MIXED, 6), points(MIXED, 5, seed=1)
    logs = hyperparameters(kernel)
    kind, flag = logs[2:4].exp().tolist()
    weights = np.exp([*logs[4:].tolist(), 0.0])
    weights /= weights.sum()
    numeric = base.matrix(logs[:2], a[:, [4, 6]], b[:, [4, 6]])[0].numpy()
    named = [MIXED.values(p.numpy()) for p in (a, b)]
    for i, left in enumerate(named[0]):
        for j, right in enumerate(named[1]):
            own = [
                math.exp(-0.5 * (left[name] != right[name]) / size**2)
                for name, size in (("kind", kind), ("flag", flag))
            ]
            equal = [left["kind"] == right["kind"], left["flag"] == right["flag"]]
            x = numeric[i, j]
            expected = weights @ [x, *equal, x * np.prod(own)]
            assert kernel.matrix(logs, a, b)[0][i, j].item() == pytest.approx(expected, abs=1e-12)
    assert (kernel.gram(logs, a)[0].diagonal() == 1.0).all()


def test_pairs_of_three_choices_have_offsets() -> None:
    kernel, logs = mixed(THREE), hyperparameters(mixed(THREE))
    a, b = points(THREE, 12), points(THREE, 11, seed=1)
    # Without numeric kernel, offsets and product, only pairs are left.
    logs[4:] = torch.tensor([-40.0, -40.0, -40.0, -40.0, 40.0])
    named = [THREE.values(p.numpy()) for p in (a, b)]
    for i, left in enumerate(named[0]):
        for j, right in enumerate(named[1]):
            equal = sum(left[name] == right[name] for name in ("kind", "flag", "size"))
            expected = math.comb(equal, 2) / 3
            assert kernel.matrix(logs, a, b)[0][i, j].item() == pytest.approx(expected, abs=1e-12)


@BASES
@DOMAINS
def test_gradients(domain: Domain, base: Kernel) -> None:
    kernel = mixed(domain, base)
    a, b = points(domain, 5).requires_grad_(), points(domain, 4, seed=1)
    logs = hyperparameters(kernel, 2).requires_grad_()
    upstream = torch.tensor(np.random.default_rng(3).standard_normal((2, 5, 4)))
    value, cache = kernel.matrix(logs, a, b)
    by_logs, by_inputs = torch.autograd.grad((upstream * value).sum(), [logs, a])
    assert torch.allclose(kernel.gradient_in_log_lengthscales(cache, upstream), by_logs)
    numeric = list(kernel.structure.numeric)
    found = kernel.gradient_in_inputs(cache, upstream).sum(0)
    assert torch.allclose(found[:, numeric], by_inputs[:, numeric])
    rest = sorted(set(range(domain.dim)) - set(numeric))
    assert (found[:, rest] == 0.0).all()


@DOMAINS
def test_gradient_of_the_log_posterior(domain: Domain) -> None:
    kernel = mixed(domain)
    x, y = points(domain, 9), torch.tensor(np.random.default_rng(1).standard_normal((1, 9)))
    start = torch.cat([hyperparameters(kernel, 1), torch.full((1, 1), -3.0).double()], 1)
    _, gradient = negative_log_posterior(start, x, y, EXACT, kernel)
    step = 1e-6
    for i in range(start.shape[1]):
        moved = [start.clone() for _ in range(2)]
        moved[0][0, i] += step
        moved[1][0, i] -= step
        high, low = (negative_log_posterior(m, x, y, EXACT, kernel)[0] for m in moved)
        assert ((high - low) / (2 * step)).item() == pytest.approx(
            gradient[0, i].item(), rel=1e-4, abs=1e-5
        )


@DOMAINS
def test_shared_hyperparameters(domain: Domain) -> None:
    kernel = mixed(domain)
    logs, upstream = hyperparameters(kernel), hyperparameters(kernel, seed=1)
    shared = kernel.share(logs)
    full = kernel.unshare(shared, domain.dim)
    assert full.shape == logs.shape
    assert torch.allclose(kernel.share(full), shared)
    leaf = shared.clone().requires_grad_()
    (expected,) = torch.autograd.grad((kernel.unshare(leaf, domain.dim) * upstream).sum(), leaf)
    assert torch.allclose(kernel.share_gradient(upstream), expected)


def test_a_rarely_tried_value_stays_uncertain() -> None:
    """Data of one value leave the others uncertain, even where the values seem equal."""
    kernel, rng = mixed(MIXED), np.random.default_rng(0)
    x = points(MIXED, 40)
    x[:, :4] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    x[0, :4] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    y = torch.sin(4.0 * x[:, 4:5]) + 1e-3 * torch.tensor(rng.standard_normal((40, 1)))
    y = (y - y.mean()) / y.std(correction=0)
    logs, _ = fit_hyperparameters(x, y, EXACT, kernel)
    gp = condition(kernel, logs[:, :-1], logs[:, -1].exp(), x, y)
    seen, other = x[20:30].clone(), x[20:30].clone()
    other[:, :4] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert (gp(other)[1] > 2e-3).all()
    assert (gp(other)[1] > 10.0 * gp(seen)[1]).all()


@BASES
@pytest.mark.parametrize("domain", [MIXED, THREE], ids=["mixed", "three"])
def test_prior_paths_have_the_covariance_of_the_kernel(domain: Domain, base: Kernel) -> None:
    kernel = mixed(domain, base)
    x, near = points(domain, 1), points(domain, 6, seed=2)
    logs = hyperparameters(kernel, 1)
    # Much noise leaves the prior.
    noise = torch.full((1,), 1e6, dtype=torch.float64)
    gp = condition(kernel, logs, noise, x, torch.zeros(1, 1).double())
    paths = draw_paths(gp, 4000, seed=0)(near)[:, 0]
    found = paths @ paths.mT / paths.shape[1]
    assert torch.allclose(found, kernel.gram(logs, near)[0][0], atol=0.12)


def test_column_structure() -> None:
    assert column_structure(box_domain({"x": bi.Float(0.0, 1.0), "n": bi.Int(0, 3)})) is None
    structure = column_structure(MIXED)
    assert structure is not None
    assert structure.numeric == (4, 6)
    assert structure.choices == ((0, 1, 2, 3), (5,))
    ordered = box_domain({"size": bi.Choice("s", "m", "l", ordered=True)})
    assert column_structure(ordered) is None
