from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bo_invert.models.gp import derivative_data, derivative_gp
from bo_invert.models.gp.derivative_data import DerivativeData
from bo_invert.models.gp.derivative_gp import (
    DerivativeGP,
    condition,
    fit_derivative_gp,
)

KERNELS = ("rbf", "matern")


def wave(x: Tensor) -> Tensor:
    return torch.sin(3.0 * x[:, 0]) + x[:, 1] * x[:, 2]


def data(n: int = 12, d: int = 3, measured: int | None = None) -> DerivativeData:
    """Return values of ``wave`` at n points, and gradients at the first ones."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(n, d, generator=generator, dtype=torch.float64).requires_grad_()
    values = wave(inputs)
    (gradients,) = torch.autograd.grad(values.sum(), inputs)
    gradients[n if measured is None else measured :] = torch.nan
    values, inputs = values.detach(), inputs.detach()
    return DerivativeData.of(
        inputs, (values - values.mean()) / values.std(), gradients / values.std()
    )


def hyperparameters(d: int = 3) -> Tensor:
    return torch.tensor([math.log(0.7)] * d + [-18.0, -16.0], dtype=torch.float64)


def posterior(kernel: str, some: DerivativeData) -> DerivativeGP:
    return condition(kernel, hyperparameters(some.inputs.shape[1]), some)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_covariance_of_derivatives_is_the_derivative_of_the_covariance(kernel: str) -> None:
    """Finite differences of the mean at the data reproduce the observed derivatives."""
    some = data()
    model = posterior(kernel, some)
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    for x, slopes in zip(some.inputs, some.slopes, strict=True):
        found = (model(x + step)[0] - model(x - step)[0]) / 2e-4
        assert torch.allclose(found, slopes, atol=1e-2)
    assert torch.allclose(model(some.inputs)[0], some.values, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_variance_falls_with_derivatives(kernel: str) -> None:
    inputs = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    relative = [
        (model(inputs)[1] / model.scale).mean()
        for model in (posterior(kernel, data(measured=count)) for count in (0, 6, 12))
    ]
    assert relative[0] > relative[1] > relative[2]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_likelihood_has_the_gradient_of_its_differences(kernel: str) -> None:
    some = data()
    logs = hyperparameters()[None].clone()
    logs[0, -2:] = torch.tensor([-10.0, -7.0])
    logs.requires_grad_()
    (gradient,) = torch.autograd.grad(
        derivative_gp._negative_log_posterior(kernel, logs, some).sum(), logs
    )
    for i in range(logs.shape[1]):
        shift = torch.zeros_like(logs)
        shift[0, i] = 1e-5
        ends = [
            derivative_gp._negative_log_posterior(kernel, logs.detach() + sign * shift, some)
            for sign in (1.0, -1.0)
        ]
        assert float((ends[0] - ends[1]) / 2e-5) == pytest.approx(float(gradient[0, i]), rel=1e-3)


def test_derivatives_improve_predictions() -> None:
    unseen = torch.rand(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    errors = []
    for measured in (0, 12):
        model, _ = fit_derivative_gp(data(measured=measured))
        found, truth = model(unseen)[0], wave(unseen)
        # Both differ by the unit and the mean of the standardisation.
        errors.append(1.0 - float(torch.corrcoef(torch.stack([found, truth]))[0, 1]))
    assert errors[1] < 0.3 * errors[0]


def test_a_memo_saves_the_fit_until_the_data_have_grown() -> None:
    model, memo = fit_derivative_gp(data(12))
    again, same = fit_derivative_gp(data(12), memo)
    assert same == memo
    assert torch.equal(again.logs, model.logs)
    assert fit_derivative_gp(data(13), memo)[1] == memo
    assert fit_derivative_gp(data(14), memo)[1] != memo


def test_false_derivatives_count_little() -> None:
    some = data(20)
    generator = torch.Generator().manual_seed(4)
    noise = 3.0 * torch.randn(20, 3, dtype=torch.float64, generator=generator)
    model, _ = fit_derivative_gp(DerivativeData.of(some.inputs, some.values, noise))
    assert float(model.logs[-1]) > math.log(0.3)
    assert torch.allclose(model(some.inputs)[0], some.values, atol=0.1)


def test_many_derivatives_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivative_data, "_MAX_ROWS", 36)
    some = data(12)
    assert some.directions.shape == (2, 3)
    eye = torch.eye(2, dtype=torch.float64)
    assert torch.allclose(some.directions @ some.directions.T, eye)
    model = posterior("rbf", some)
    assert model.weights.shape == (36,)
    assert torch.allclose(model(some.inputs)[0], some.values, atol=1e-3)


def test_a_pending_point_is_believed_to_have_its_mean() -> None:
    model = posterior("matern", data())
    pending = torch.full((1, 3), 0.37, dtype=torch.float64)
    after = model.believe(pending)
    assert float(after(pending)[0]) == pytest.approx(float(model(pending)[0]), abs=1e-6)
    assert float(after(pending)[1]) < 1e-3 * float(model(pending)[1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_left_out_predictions_are_those_of_models_without_the_observation(kernel: str) -> None:
    some = data(measured=8)
    model = posterior(kernel, some)
    for i, found in enumerate(model.leave_one_out()):
        rest = some.select(torch.arange(12) != i)
        alone = condition(kernel, model.logs, rest, model.constant, model.scale)
        assert float(found) == pytest.approx(float(alone(some.inputs[i : i + 1])[0]), abs=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_warp_transforms_values_and_derivatives_alike(share: float) -> None:
    some = data()
    warped, log_jacobian = some.warped(share)
    assert torch.equal(warped.values.argsort(), some.values.argsort())
    assert float(warped.values.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(warped.values.std(correction=0)) == pytest.approx(1.0)
    # A value moves by its derivative along a line; two close values give the slope of the warp.
    slopes = warped.slopes / some.slopes
    assert torch.allclose(slopes, slopes[:, :1].expand(-1, 3))
    assert log_jacobian == pytest.approx(float(4.0 * slopes[:, 0].log().sum()))
    low, middle, high = some.values.argsort()[[0, 6, 11]]
    assert slopes[low, 0] > slopes[middle, 0] > slopes[high, 0]


def test_values_with_a_heavy_tail_are_warped() -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(20, 3, generator=generator, dtype=torch.float64).requires_grad_()
    values = torch.exp(6.0 * wave(inputs))
    (gradients,) = torch.autograd.grad(values.sum(), inputs)
    values, unit = values.detach(), values.detach().std()
    heavy = DerivativeData.of(inputs.detach(), (values - values.mean()) / unit, gradients / unit)
    assert fit_derivative_gp(heavy)[1]["share"] > 0.0
    assert fit_derivative_gp(data(20))[1]["share"] == 0.0
