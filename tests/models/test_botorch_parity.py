"""Tests of parity with BoTorch."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

import bo_invert as bi
from bo_invert.models.acquisition import expected_improvement as acquisition
from bo_invert.models.botorch_adapter import fit_botorch, from_botorch, to_botorch
from bo_invert.models.gp import hyperparameter_fit as fit
from bo_invert.models.gp.kernels import MATERN, RBF
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.posterior import condition
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs

pytestmark = pytest.mark.peers

warnings.filterwarnings("ignore", module="botorch|gpytorch|linear_operator")
KERNELS = pytest.mark.parametrize("name", ["rbf", "matern"])


def data(
    n: int = 20, d: int = 3, m: int = 2, seed: int = 0, noise: float = 0.1
) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, d))
    y = np.stack([np.sin((3 + j) * x[:, j % d]) + x[:, -1] ** 2 for j in range(m)], 1) * 5.0 + 40.0
    return torch.tensor(x), torch.tensor(y + noise * rng.standard_normal(y.shape))


def single_task(x: Tensor, y: Tensor, name: str = "rbf", **options: Any) -> SingleTaskGP:
    batch = torch.Size([y.shape[1]] if y.shape[1] > 1 else [])
    covar = get_covar_module_with_dim_scaled_prior(x.shape[1], batch, use_rbf_kernel=name == "rbf")
    return SingleTaskGP(x, y, covar_module=covar.to(x), **options)


def likelihood_of(model: SingleTaskGP) -> Tensor:
    """Return BoTorch's log posterior of the hyperparameters, summed over outputs."""
    model.train()
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    return (
        mll(model(*model.train_inputs), model.train_targets).sum() * model.train_targets.shape[-1]
    )


@KERNELS
@pytest.mark.parametrize("m", [1, 2])
def test_marginal_likelihood_and_gradient(name: str, m: int) -> None:
    x, y = data(m=m)
    model = single_task(x, y, name)
    kernel = RBF if name == "rbf" else MATERN
    rng = np.random.default_rng(1)
    values = []
    for _ in range(3):
        logs = torch.tensor(rng.uniform(-1.0, 1.0, (m, 4))) + torch.tensor([0.0, 0.0, 0.0, -3.0])
        z = model.train_targets.reshape(m, -1)
        ours, slope = fit.negative_log_posterior(logs, x, z, fit.NOISY, kernel)
        constant = condition(kernel, logs[:, :-1], logs[:, -1].exp(), x, z.mT).constant
        model.covar_module.lengthscale = (
            logs[:, :-1].exp().reshape(model.covar_module.lengthscale.shape)
        )
        model.likelihood.noise = logs[:, -1].exp().reshape(model.likelihood.noise.shape)
        model.mean_module.constant = constant.reshape(model.mean_module.constant.shape)
        theirs = likelihood_of(model)
        model.zero_grad()
        theirs.backward()
        # raw parameters are the lengthscales and noises themselves; ours are their logarithms
        of_lengthscales = model.covar_module.raw_lengthscale.grad.reshape(m, 3) * logs[:, :-1].exp()
        of_noise = model.likelihood.noise_covar.raw_noise.grad.reshape(m) * logs[:, -1].exp()
        assert torch.allclose(slope[:, :-1], -of_lengthscales, rtol=1e-6, atol=1e-6)
        assert torch.allclose(slope[:, -1], -of_noise, rtol=1e-6, atol=1e-6)
        assert model.mean_module.raw_constant.grad.abs().max() < 1e-6
        values.append((ours.sum() + theirs).item())
    # ours leaves out the normalising constants of the priors
    normaliser = m * (
        3 * (math.log(math.sqrt(3.0)) + 0.5 * math.log(2 * math.pi)) + 0.5 * math.log(2 * math.pi)
    )
    assert values == pytest.approx([-normaliser] * 3, abs=1e-6)


@KERNELS
@pytest.mark.parametrize("m", [1, 2])
def test_to_botorch_predicts_the_same(name: str, m: int) -> None:
    x, y = data(m=m)
    surrogate = fit_surrogate(
        x.numpy(), y.numpy(), search_space=ModelSearchSpace((name,), (fit.NOISY,))
    )
    new = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, variance = surrogate.gp(new)
    spread = surrogate.weights.diagonal()
    standard, raw = (
        to_botorch(surrogate.gp).posterior(new),
        to_botorch(surrogate).posterior(new),
    )
    assert torch.allclose(standard.mean, mean, atol=1e-6)
    assert torch.allclose(standard.variance, variance, atol=1e-6)
    assert torch.allclose(raw.mean, surrogate.mean(new), rtol=1e-6)
    assert torch.allclose(raw.variance, variance * spread**2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize(
    ("offset", "scale"),
    [(1e8, 1.0), (-1e8, 1e-3), (0.0, 1e-12), (0.0, 1e12), (1e-3, 1e-12), (1e8, 1e12)],
)
def test_conversions_are_in_double_precision(offset: float, scale: float, m: int) -> None:
    x, y = data(m=m)
    y = offset + scale * (y - y.mean(0)) / y.std(0)
    search_space = ModelSearchSpace(("rbf",), (fit.NOISY,))
    surrogate = fit_surrogate(x.numpy(), y.numpy(), search_space=search_space)
    model = to_botorch(surrogate)
    for module in (model, model.outcome_transform):
        for tensor in module.state_dict().values():
            assert tensor.dtype in (torch.float64, torch.bool)
    new = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    posterior = model.posterior(new)
    variance = surrogate.gp(new)[1] * surrogate.weights.diagonal() ** 2
    assert torch.allclose(posterior.mean, surrogate.mean(new), rtol=0.0, atol=1e-6 * scale)
    assert torch.allclose(posterior.variance, variance, rtol=1e-6, atol=0.0)
    assert torch.allclose(
        from_botorch(model).mean(new), surrogate.mean(new), rtol=0.0, atol=1e-6 * scale
    )
    drawn = posterior.rsample(torch.Size([64]))
    assert drawn.shape == (64, 7, m)
    assert ((drawn.mean(0) - posterior.mean).abs() < posterior.variance.sqrt()).all()


@KERNELS
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("standardized", [False, True])
def test_from_botorch_predicts_the_same(name: str, m: int, standardized: bool) -> None:
    x, y = data(m=m)
    y = y if standardized else (y - y.mean(0)) / y.std(0)
    model = single_task(x, y, name, outcome_transform=Standardize(m) if standardized else None)
    model.mean_module.constant = torch.full_like(model.mean_module.constant, 0.3)
    model.likelihood.noise = torch.full_like(model.likelihood.noise, 0.02)
    surrogate = from_botorch(model)
    new = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    posterior = model.eval().posterior(new)
    assert torch.allclose(surrogate.mean(new), posterior.mean, rtol=1e-6, atol=1e-6)
    assert torch.allclose(
        surrogate.gp(new)[1] * surrogate.weights.diagonal() ** 2,
        posterior.variance,
        rtol=1e-5,
    )
    again = to_botorch(surrogate)
    assert torch.allclose(again.covar_module.lengthscale, model.covar_module.lengthscale)
    assert torch.allclose(again.likelihood.noise, model.likelihood.noise)
    assert torch.allclose(again.mean_module.constant, model.mean_module.constant)
    assert torch.allclose(again.posterior(new).mean, posterior.mean)


@KERNELS
def test_log_h_agrees_with_botorch(name: str) -> None:
    x, y = data(m=1, noise=0.0)
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize(), outputs=1)
    outputs = ModelledOutputs(problem.statement, y.numpy(), y[:, 0].numpy())
    model = single_task(
        x, y, name, likelihood=to_botorch(from_botorch(single_task(x, y)), fit.EXACT).likelihood
    )
    model.covar_module.lengthscale = [0.4, 0.9, 0.6]
    model.likelihood.noise = 5e-5
    surrogate = from_botorch(model)
    known = acquisition.AcquisitionData(y[:, 0].numpy(), np.ones(20, dtype=bool), np.empty((0, 3)))
    score = acquisition.log_expected_improvement(surrogate, outputs, known, seed=0)
    theirs = LogExpectedImprovement(model.eval(), y.min(), maximize=False)
    new = torch.rand(
        200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    ).requires_grad_()
    expected = theirs(new[:, None]) - surrogate.weights[0, 0].log()
    ours = score(new)
    assert expected.min() < -10.0
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-6)
    slopes = [torch.autograd.grad(value.sum(), new)[0] for value in (ours, expected)]
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_fit_is_at_least_as_good_as_botorch(seed: int) -> None:
    name = ["rbf", "matern"][seed % 2]
    x, y = data(n=15 + 5 * seed, d=2 + seed, m=1 + seed % 2, seed=seed, noise=[0.0, 0.5][seed // 2])
    ours, theirs = single_task(x, y, name), single_task(x, y, name)
    assert fit_botorch(ours) is ours
    fit_gpytorch_mll(ExactMarginalLogLikelihood(theirs.likelihood, theirs))
    assert likelihood_of(ours) >= likelihood_of(theirs) - 1e-3
    assert (ours.likelihood.noise >= 1e-4).all()


def test_fit_respects_an_input_transform_and_known_noise() -> None:
    x, y = data(m=1)
    variance = torch.full_like(y, 0.01)
    bounds = torch.tensor([[-7.0] * 3, [93.0] * 3], dtype=torch.float64)
    models = [
        SingleTaskGP(100.0 * x - 7.0, y, variance, input_transform=Normalize(3, bounds=bounds))
        for _ in range(2)
    ]
    fit_botorch(models[0])
    fit_gpytorch_mll(ExactMarginalLogLikelihood(models[1].likelihood, models[1]))
    assert likelihood_of(models[0]) >= likelihood_of(models[1]) - 1e-3
    assert torch.allclose(
        models[0].covar_module.lengthscale, models[1].covar_module.lengthscale, rtol=0.05
    )


def test_noise_of_every_observation_converts_both_ways() -> None:
    x, y = data(m=2)
    noise = torch.linspace(0.01, 0.3, 40, dtype=torch.float64).reshape(20, 2)
    plain = fit_surrogate(x.numpy(), y.numpy())
    scores = (y - plain.offset) / plain.weights.diagonal()
    gp = condition(plain.gp.kernel, plain.gp.log_lengthscales, noise.T, x, scores)
    surrogate = replace(plain, gp=gp)
    model = to_botorch(surrogate)
    assert torch.allclose(model.posterior(x).mean, surrogate.mean(x), rtol=1e-6)
    back = from_botorch(model)
    assert torch.allclose(back.gp.noise, surrogate.gp.noise)
    assert torch.allclose(back.gp.weights, surrogate.gp.weights)


def test_models_without_equivalent_are_rejected() -> None:
    x, y = data(m=1)
    scaled = SingleTaskGP(x, y, covar_module=ScaleKernel(MaternKernel(ard_num_dims=3)))
    with pytest.raises(bi.InvalidInputError, match="ScaleKernel"):
        fit_botorch(scaled)
    with pytest.raises(bi.InvalidInputError, match="dimension-scaled"):
        fit_botorch(SingleTaskGP(x, y, covar_module=MaternKernel(ard_num_dims=3)))
    surrogate = fit_surrogate(x.numpy(), y.numpy())
    fantasies, _ = surrogate.gp.fantasize(x[:1], torch.zeros(2, 1, 1, dtype=torch.float64))
    with pytest.raises(bi.InvalidInputError, match="fantasies"):
        to_botorch(fantasies)
    warped = fit_surrogate(
        x.numpy(), y.exp().numpy(), search_space=ModelSearchSpace(warp_directions=(1,))
    )
    assert warped.warp is not None
    with pytest.raises(bi.InvalidInputError, match="warped"):
        to_botorch(warped)


def test_the_example_of_the_docs_runs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    code = text.split("## BoTorch models")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(code, names)
    assert names["gain"].isfinite().all()
    assert torch.allclose(
        names["back"].posterior(names["X"]).mean, names["model"].posterior(names["X"]).mean
    )
