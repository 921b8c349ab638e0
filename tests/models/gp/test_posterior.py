"""Tests of kernels, fits and posteriors against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from torch import Tensor

import bo_invert as bi
from bo_invert.models.acquisition.log_ei import log_fat_softplus, log_h, sobol_normals
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.gp import hyperparameter_fit as fit
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel, get_kernel, lengthscale_prior
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.output_warp import Warp, threshold_candidates
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.optim import duplicates as spacing
from bo_invert.models.optim.batched_lbfgs import minimise_batched

KERNELS = pytest.mark.parametrize("which", [RBF, MATERN], ids=lambda k: k.name)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).random(shape))


def smooth(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.sin(4 * x[:, 0]) + 0.1 * x[:, 1], 50.0 + 20.0 * np.cos(3 * x[:, 1])])


def processes(which: Kernel = RBF, n: int = 14, seed: int = 1, noise: float = 1e-3) -> GPPosterior:
    x, z = drawn(n, 3, seed=seed), drawn(n, 2, seed=seed + 1) - 0.5
    logs = torch.tensor([[-1.0, -0.3, 0.4], [0.1, -1.2, -0.5]], dtype=torch.float64)
    return condition(which, logs, torch.tensor([noise, 2 * noise], dtype=torch.float64), x, z)


# Kernels


@KERNELS
def test_kernels_agree_with_scipy(which: Kernel) -> None:
    a, b, logs = drawn(5, 3), drawn(4, 3, seed=1), drawn(3, seed=2).log()
    r = np.linalg.norm((a[:, None] - b[None]).numpy() / logs.exp().numpy(), axis=-1)
    if which is RBF:
        expected = np.exp(-0.5 * r**2)
    else:  # the general Matern, by its Bessel function
        s = np.sqrt(5.0) * r
        expected = 2**-1.5 / special.gamma(2.5) * s**2.5 * special.kv(2.5, s)
    assert np.allclose(which.matrix(logs, a, b)[0], expected, atol=1e-12)
    gram = which.gram(logs, a)[0]
    assert (gram.diagonal() == 1.0).all()
    assert torch.allclose(gram, which.matrix(logs, a, a)[0], atol=1e-7)


@KERNELS
def test_kernel_gradients(which: Kernel) -> None:
    a, b = drawn(2, 5, 3).requires_grad_(), drawn(2, 4, 3, seed=1)
    logs = (drawn(2, 3, seed=2) - 0.5).requires_grad_()
    upstream = drawn(2, 5, 4, seed=3)
    value, saved = which.matrix(logs, a, b)
    of_logs, of_inputs = torch.autograd.grad((upstream * value).sum(), [logs, a])
    assert torch.allclose(which.gradient_in_log_lengthscales(saved, upstream), of_logs)
    assert torch.allclose(which.gradient_in_inputs(saved, upstream), of_inputs)


def test_kernels_by_name() -> None:
    assert get_kernel("matern") is MATERN
    with pytest.raises(bi.InvalidInputError, match="'rbf', 'matern'"):
        get_kernel("cubic")


def test_lengthscale_prior_is_log_normal() -> None:
    logs = drawn(3, 4)
    value, gradient = lengthscale_prior(logs)
    density = stats.lognorm(s=math.sqrt(3.0), scale=math.exp(math.sqrt(2.0)) * 2.0).logpdf(
        logs.exp().numpy()
    )
    assert np.allclose(np.diff(value), np.diff(-density.sum(-1)))
    assert torch.autograd.gradcheck(
        lambda at: lengthscale_prior(at)[0], logs.clone().requires_grad_()
    )
    numeric = optimize.approx_fprime(
        logs[0].numpy(), lambda at: lengthscale_prior(torch.tensor(at))[0].item()
    )
    assert np.allclose(gradient[0], numeric, atol=1e-6)


# Many minimisations at once


def rosenbrock(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = (100.0 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1.0 - x[:, :-1]) ** 2).sum(-1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-2.0, 0.6), (1.2, 3.0)])
def test_lbfgs_agrees_with_scipy(low: float, high: float) -> None:
    start = low + (high - low) * drawn(5, 4)
    lower, upper = (torch.full((4,), bound, dtype=torch.float64) for bound in (low, high))
    found, values = minimise_batched(rosenbrock, start, lower, upper, steps=500, tolerance=1e-14)
    assert ((found >= low) & (found <= high)).all()
    _, gradient = rosenbrock(found, torch.arange(5))
    assert (
        (found - gradient).clamp(low, high) - found
    ).abs().max() < 1e-4  # nowhere left to go within the bounds
    theirs = [
        optimize.minimize(
            optimize.rosen,
            row.numpy(),
            jac=optimize.rosen_der,
            method="L-BFGS-B",
            bounds=[(low, high)] * 4,
            options={"ftol": 1e-15, "gtol": 1e-10},
        ).fun
        for row in start
    ]
    assert values.min().item() == pytest.approx(min(theirs), rel=1e-6, abs=1e-8)
    assert values.max().item() <= max(theirs) + 1e-6


def test_lbfgs_rejects_values_that_are_not_finite() -> None:
    def function(x: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        value = (x - 1.0 - which[:, None]).square().sum(-1)
        return torch.where(x[:, 0] > 0.5, torch.nan, value), 2.0 * (x - 1.0 - which[:, None])

    start = torch.tensor([[0.0, 0.0], [0.1, 2.0], [0.9, 0.0]], dtype=torch.float64)
    wide = torch.full((2,), 10.0, dtype=torch.float64)
    found, values = minimise_batched(function, start, -wide, wide)
    assert values[2] == torch.inf  # it started where there is nothing
    assert torch.equal(found[2], start[2])
    assert (values[:2] < function(start, torch.arange(3))[0][:2]).all()
    assert (found[:2, 0] <= 0.5).all()


# Fits


@KERNELS
@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_marginal_likelihood_and_its_gradient(which: Kernel, heteroscedastic: bool) -> None:
    x, z = drawn(9, 2), drawn(2, 9, seed=1)
    known = 0.2 * drawn(2, 9, seed=2) if heteroscedastic else None
    logs = torch.tensor([[-1.0, 0.2, -3.0], [0.3, -0.4, -1.0]], dtype=torch.float64)
    value, gradient = fit.negative_log_posterior(logs, x, z, fit.NOISY, which, known)
    for row in range(2):
        noise = logs[row, -1].exp().item() + (0.0 if known is None else known[row].numpy())
        cov = which.gram(logs[row, :-1], x)[0].numpy() + np.diag(np.broadcast_to(noise, 9))
        inverse = np.linalg.inv(cov)
        constant = (inverse @ z[row].numpy()).sum() / inverse.sum()
        likelihood = stats.multivariate_normal(np.full(9, constant), cov).logpdf(z[row].numpy())
        off = logs[row, -1].item() + 4.0
        prior = lengthscale_prior(logs[row, :-1])[0].item() + 0.5 * off**2 + logs[row, -1].item()
        assert value[row].item() == pytest.approx(prior - likelihood)
        numeric = optimize.approx_fprime(
            logs[row].numpy(),
            lambda at, row=row: fit.negative_log_posterior(
                torch.tensor(at)[None], x, z[row : row + 1], fit.NOISY, which,
                None if known is None else known[row : row + 1],
            )[0].item(),
        )  # fmt: skip
        assert np.allclose(gradient[row], numeric, rtol=1e-4, atol=1e-5)


def test_fit_agrees_with_scipy() -> None:
    x = drawn(25, 3)
    values = torch.stack([(5 * x[:, 0]).sin(), (3 * x[:, 1]).cos() * x[:, 2]], 1)
    values = (values - values.mean(0)) / values.std(0, correction=0)
    found, lowest = fit.fit_hyperparameters(x, values, fit.NOISY)
    assert torch.allclose(lowest, fit.negative_log_posterior(found, x, values.T, fit.NOISY, RBF)[0])
    for j in range(2):

        def function(at: np.ndarray, j: int = j) -> tuple[float, np.ndarray]:
            value, slope = fit.negative_log_posterior(
                torch.tensor(at)[None], x, values[:, j][None], fit.NOISY, RBF
            )
            return value.item(), slope[0].numpy()

        theirs = min(
            optimize.minimize(
                function, [math.log(length)] * 3 + [math.log(noise)], jac=True, method="L-BFGS-B",
                bounds=[(math.log(0.025), math.log(1e3))] * 3 + [(math.log(1e-4), 0.0)],
            ).fun
            for length, noise in [(0.2 * 3**0.5, 1e-4), (3**0.5, 1e-3), (1.0, 0.1)]
        )  # fmt: skip
        assert lowest[j] <= theirs + 1e-3


def test_hyperparameters_identify_relevant_inputs_and_noise() -> None:
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.random((60, 2)))
    clean = torch.sin(6 * x[:, 0])
    noisy = clean + 0.3 * torch.tensor(rng.standard_normal(60))
    values = torch.stack([clean, noisy], 1)
    logs, _ = fit.fit_hyperparameters(x, (values - values.mean(0)) / values.std(0, correction=0))
    assert logs[0, 0] < logs[0, 1] - 1.0
    assert logs[0, -1].exp() < 1e-6
    assert 0.03 < logs[1, -1].exp() < 0.5


def test_known_noise_weights_the_observations() -> None:
    x = torch.linspace(0.0, 1.0, 30, dtype=torch.float64)[:, None]
    truth = torch.sin(6 * x[:, 0])
    wild = torch.arange(30) % 3 == 0
    values = truth + wild * torch.tensor(np.random.default_rng(0).standard_normal(30))
    offset, scale = values.mean(), values.std(correction=0)
    errors = []
    for noise in (torch.where(wild, 1.0, 0.0) / scale**2, torch.zeros(30)):
        noise, scores = noise.double()[:, None], ((values - offset) / scale)[:, None]
        logs, _ = fit.fit_hyperparameters(x, scores, known_noise=noise)
        gp = condition(RBF, logs[:, :-1], logs[:, -1].exp()[:, None] + noise.T, x, scores)
        errors.append((offset + scale * gp(x)[0][:, 0] - truth).abs().max().item())
    assert errors[0] < 0.1 < errors[1]


# Posteriors


@KERNELS
def test_posterior_agrees_with_the_formula(which: Kernel) -> None:
    process, new = processes(which), drawn(6, 3, seed=9)
    mean, variance = process(new)
    joint_mean, joint = process.joint(new)
    for j in range(2):
        k = which.gram(process.log_lengthscales[j], process.inputs)[0].numpy() + np.diag(
            process.noise[j].numpy()
        )
        cross = which.matrix(process.log_lengthscales[j], new, process.inputs)[0].numpy()
        constant = process.constant[j].item()
        expected = constant + cross @ np.linalg.solve(k, process.values[j, :, 0].numpy() - constant)
        covariance = which.gram(process.log_lengthscales[j], new)[
            0
        ].numpy() - cross @ np.linalg.solve(k, cross.T)
        assert np.allclose(mean[:, j], expected)
        assert np.allclose(joint_mean[j, :, 0], expected)
        assert np.allclose(variance[:, j], np.diag(covariance), atol=1e-9)
        assert np.allclose(joint[j], covariance, atol=1e-9)


@KERNELS
def test_posterior_gradients(which: Kernel) -> None:
    process = processes(which)
    fantasies, _ = process.fantasize(drawn(2, 3, seed=5), drawn(3, 2, 2, seed=6))
    at = drawn(2, 2, 3, seed=7).requires_grad_()
    assert torch.autograd.gradcheck(process, at)
    assert torch.autograd.gradcheck(fantasies.fantasies, at)


def test_fantasies_equal_refits() -> None:
    process, anchors, new = processes(), drawn(3, 3, seed=5), drawn(4, 3, seed=6)
    numbers = sobol_normals(8, 6, 0, anchors).reshape(8, 2, 3)
    after, outcomes = process.fantasize(anchors, numbers)
    mean, variance = after.fantasies(new)
    inputs = torch.cat([process.inputs, anchors])
    for f in range(8):
        for j in range(2):
            noise = torch.cat([process.noise[j], torch.full((3,), 1e-8, dtype=torch.float64)])
            k = RBF.gram(process.log_lengthscales[j], inputs)[0] + noise.diag()
            cross = RBF.matrix(process.log_lengthscales[j], new, inputs)[0]
            off = torch.cat([process.values[j, :, 0], outcomes[f, j]]) - process.constant[j]
            assert torch.allclose(
                mean[:, j, f], process.constant[j] + cross @ torch.linalg.solve(k, off), atol=1e-6
            )
            expected = 1.0 - (cross * torch.linalg.solve(k, cross.mT).mT).sum(-1)
            assert torch.allclose(variance[:, j], expected, atol=1e-6)
    again, _ = after.fantasize(new[:1], sobol_normals(8, 2, 1, anchors).reshape(8, 2, 1))
    assert again.values.shape == (2, 18, 8)
    assert again.fantasies(new[:1])[1].max() < 1e-6


def test_fantasies_have_the_posterior_moments() -> None:
    process, anchors = processes(), drawn(2, 3, seed=5)
    mean, covariance = process.joint(anchors)
    _, outcomes = process.fantasize(anchors, sobol_normals(4096, 4, 0, anchors).reshape(4096, 2, 2))
    assert torch.allclose(outcomes.mean(0), mean[..., 0], atol=2e-3)
    assert torch.allclose(
        torch.stack([torch.cov(outcomes[:, j].T) for j in range(2)]), covariance, atol=1e-2
    )


def test_leave_one_out_equals_refits() -> None:
    process = processes(noise=0.05)
    means, variances = process.leave_one_out()
    for i in range(len(process.inputs)):
        rest = torch.arange(len(process.inputs)) != i
        for j in range(2):
            k = (
                RBF.gram(process.log_lengthscales[j], process.inputs[rest])[0]
                + process.noise[j][rest].diag()
            )
            cross = RBF.matrix(
                process.log_lengthscales[j], process.inputs[i : i + 1], process.inputs[rest]
            )[0][0]
            off = process.values[j, rest, 0] - process.constant[j]
            assert means[i, j] == pytest.approx(
                (process.constant[j] + cross @ torch.linalg.solve(k, off)).item()
            )
            expected = 1.0 - cross @ torch.linalg.solve(k, cross) + process.noise[j, i]
            assert variances[i, j] == pytest.approx(expected.item())


# Warps and the choice of a model


def test_warp_inverse_and_slope() -> None:
    rng = np.random.default_rng(0)
    values = torch.tensor(np.exp(2 * rng.standard_normal((40, 3))))
    sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    knee = torch.tensor([0.3, 2.0, torch.inf], dtype=torch.float64)
    warp = Warp(sign, (sign * values).amin(0), knee)
    beyond = torch.cat([values, values - 3.0, values + 30.0])
    assert torch.allclose(warp.inverse(warp(beyond)), beyond)
    assert torch.equal(warp(beyond)[:, 2], beyond[:, 2])
    assert torch.equal(warp(beyond).argsort(0), beyond.argsort(0))
    at = beyond.clone().requires_grad_()
    (slope,) = torch.autograd.grad(warp(at).sum(), at)
    assert torch.allclose(slope.log(), warp.log_slope(beyond))
    back = torch.tensor(rng.standard_normal((5, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(warp.inverse, back)


def test_threshold_candidates_are_distances_from_the_best() -> None:
    values = torch.arange(11.0, dtype=torch.float64)
    assert threshold_candidates(values, 1.0) == pytest.approx([5.0, 2.5, 1.0])
    assert threshold_candidates(-values, -1.0) == pytest.approx([5.0, 2.5, 1.0])
    assert threshold_candidates(torch.ones(5, dtype=torch.float64), 1.0) == []


@pytest.mark.parametrize(("power", "warped"), [(1.0, False), (6.0, True)])
def test_only_heavy_tails_are_warped(power: float, warped: bool) -> None:
    x = np.random.default_rng(3).random((40, 2))
    y = (0.1 + 3 * (x[:, :1] - 0.4) ** 2 + np.sin(3 * x[:, 1:]) ** 2) ** power
    surrogate = fit_surrogate(x, y, search_space=ModelSearchSpace(warp_directions=(1,)))
    assert (surrogate.warp is not None) == warped
    assert np.allclose(surrogate.mean(torch.tensor(x)).numpy(), y, rtol=1e-2, atol=1e-2 * y.std())
    other = fit_surrogate(x, -y, search_space=ModelSearchSpace(warp_directions=(-1,)))
    assert torch.allclose(other.gp.values, -surrogate.gp.values)
    assert fit_surrogate(x, y, search_space=ModelSearchSpace(warp_directions=(0,))).warp is None


def test_the_kernel_with_better_predictions_is_selected() -> None:
    x = np.random.default_rng(4).random((40, 1))
    both = ModelSearchSpace(("rbf", "matern"))
    assert fit_surrogate(x, np.sin(6 * x), search_space=both).memo["kernel"] == "rbf"
    kinks = np.abs(((4 * x) % 1.0) - 0.5)
    assert fit_surrogate(x, kinks, search_space=both).memo["kernel"] == "matern"


def test_memo_saves_a_fit_if_compatible() -> None:
    x = np.random.default_rng(4).random((30, 2))
    first = fit_surrogate(x[:29], smooth(x[:29]))
    assert first.memo["n"] == 29
    assert fit_surrogate(x, smooth(x), first.memo).memo["n"] == 30
    later = fit_surrogate(
        np.vstack([x, x + 1e-3]), smooth(np.vstack([x, x])), {**first.memo, "n": 60, "chosen": 60}
    )
    assert later.memo["logs"] == first.memo["logs"]
    other = fit_surrogate(x[:, :1], smooth(x), first.memo)
    assert len(other.memo["logs"][0]) == 2
    matern = fit_surrogate(x, smooth(x), first.memo, search_space=ModelSearchSpace(("matern",)))
    assert matern.memo["kernel"] == "matern"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_constant_and_repeated_data_do_not_break_the_fit(n: int) -> None:
    x = np.full((n, 2), 0.5)
    surrogate = fit_surrogate(x, np.full((n, 1), 3.0))
    assert surrogate.mean(torch.full((1, 2), 0.5, dtype=torch.float64)).item() == pytest.approx(3.0)


def test_surrogate_interpolates_in_raw_units() -> None:
    rng = np.random.default_rng(2)
    x, new = rng.random((40, 2)), rng.random((20, 2))
    surrogate = fit_surrogate(x, smooth(x))
    assert np.abs(surrogate.mean(torch.tensor(x)).numpy() - smooth(x)).max() < 1e-3
    assert np.abs(surrogate.mean(torch.tensor(new)).numpy() - smooth(new)).max() < 0.2
    mean, std = surrogate.warped_moments(torch.zeros(2).double(), torch.ones(2).double())
    assert torch.allclose(mean, torch.tensor(smooth(x)).mean(0))
    assert torch.allclose(std, torch.tensor(smooth(x)).std(0, correction=0))


def test_many_outputs_are_modelled_by_few_components() -> None:
    rng = np.random.default_rng(3)
    grid = np.linspace(0.0, 1.0, 120)

    def spectrum(x: np.ndarray) -> np.ndarray:
        return np.sin(5 * grid * x[:, :1]) + np.exp(-(((grid - x[:, 1:]) / 0.3) ** 2))

    x, new = rng.random((50, 2)), rng.random((10, 2))
    surrogate = fit_surrogate(x, spectrum(x))
    assert 2 <= surrogate.weights.shape[0] <= MAX_INDEPENDENT_OUTPUTS
    guessed = surrogate.mean(torch.tensor(new)).numpy()
    assert guessed.shape == (10, 120)
    assert np.abs(guessed - spectrum(new)).max() < 0.1
    assert (surrogate.residual_variance <= 1e-6 * torch.tensor(spectrum(x).var(0))).all()


def test_residual_variance_of_components() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((60, 40))  # nothing in common
    surrogate = fit_surrogate(rng.random((60, 2)), values)
    components = surrogate.gp.values[..., 0].T @ surrogate.weights + surrogate.offset
    missing = (torch.tensor(values) - components).var(0, correction=0)
    assert torch.allclose(surrogate.residual_variance, missing, rtol=1e-6)
    assert surrogate.residual_variance.mean() > 0.2
    assert (fit_surrogate(rng.random((60, 2)), values[:, :3]).residual_variance == 0).all()


# Pieces of the improvement


@pytest.mark.parametrize("u", [8.0, 1.0, 0.0, -0.999, -1.001, -5.0, -20.0, -35.0])
def test_log_h_agrees_with_quadrature(u: float) -> None:
    """E[max(u + Z, 0)] with its height taken out, so that quadrature sees numbers near 1."""
    peak = -0.5 * min(u, 0.0) ** 2
    density = integrate.quad(
        lambda t: t * math.exp(-0.5 * (t - u) ** 2 - peak),
        0.0,
        max(u, 0.0) + 15.0,
        epsabs=0.0,
        epsrel=1e-12,
        limit=200,
    )[0]
    expected = math.log(density) + peak - 0.5 * math.log(2 * math.pi)
    at = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    value = log_h(at)
    assert value.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)
    (slope,) = torch.autograd.grad(value, at)
    assert slope.item() == pytest.approx(math.exp(special.log_ndtr(u) - expected), rel=1e-7)


def test_log_h_has_the_right_slope_in_the_far_tail() -> None:
    u = -torch.logspace(2, 9, 60, dtype=torch.float64).requires_grad_()
    value = log_h(u)
    expected = -0.5 * u**2 - 0.5 * math.log(2 * math.pi) - 2.0 * (-u).log()
    assert torch.allclose(value, expected, rtol=1e-7)
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert torch.allclose(slope, -u, rtol=1e-3)


def test_fat_softplus_is_positive_and_increasing() -> None:
    gain = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64) * 1e-3
    value = log_fat_softplus(gain)
    assert (value[210:].exp() - gain[210:]).abs().max() < 1e-6
    assert (value[1:] > value[:-1]).all()
    assert value.isfinite().all()


def test_one_thread_restores_the_settings() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_symmetric_points_are_no_plateau() -> None:
    corners = np.concatenate([np.eye(4), 1.0 - np.eye(4), np.random.default_rng(0).random((6, 4))])
    values = ((corners - 0.5) ** 2).sum(1, keepdims=True)
    assert len(np.unique(values)) < len(values)
    assert spacing.plateau_width(corners, values) == 0.0


def test_plateau_width_of_flat_functions_only() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((20, 2))
    flat = np.sin(3 * inputs[:, :1])
    assert spacing.plateau_width(inputs, flat) == 0.0
    steps = np.round(4 * inputs[:, :1])
    wide = spacing.plateau_width(inputs, steps)
    assert 0.0 < wide <= 0.1 * 2**0.5
    near = inputs[:2] + 1e-4
    found = spacing.plateau_width(np.concatenate([inputs, near]), np.concatenate([flat, flat[:2]]))
    assert found == pytest.approx(2 * np.sqrt(2) * 1e-4)
