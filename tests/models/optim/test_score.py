"""Tests of scores with gradients, and of L-BFGS for arrays and tensors."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.models.optim.score import DifferentiableScore, SumScore, at_valid, differentiable
from bo_invert.types import Array, Indices

BOX = box_domain({"x": bi.Float(0.0, 1.0), "n": bi.Int(0, 4), "kind": bi.Choice("a", "b", "c")})


class Waves(DifferentiableScore):
    """Two functions sin(w'x) with a closed gradient."""

    frequencies = np.array([[1.0, 2.0, 0.5, -1.0, 3.0], [0.3, -1.0, 2.0, 1.0, 1.5]])

    def values(self, inputs: Array) -> Array:
        return np.sin(self.frequencies[:, : inputs.shape[1]] @ inputs.T)

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        own = self.frequencies[functions, : inputs.shape[1]]
        phase = (own * inputs).sum(1)
        return np.sin(phase), np.cos(phase)[:, None] * own


def same_waves(inputs: Tensor) -> Tensor:
    return (torch.tensor(Waves.frequencies[:, : inputs.shape[1]]) @ inputs.mT).sin()


def one_wave(inputs: Tensor) -> Tensor:
    return same_waves(inputs)[1]


def differences(score: DifferentiableScore, inputs: Array, functions: Indices) -> Array:
    """Return central differences of the function of each input, ``(b, d)``."""

    def values(at: Array) -> Array:
        return np.atleast_2d(score.values(at))[functions, np.arange(len(at))]

    steps = 1e-6 * np.eye(inputs.shape[1])
    return np.stack([(values(inputs + s) - values(inputs - s)) / 2e-6 for s in steps], 1)


@pytest.mark.parametrize("own", [Waves(), differentiable(same_waves)], ids=["closed", "autograd"])
def test_gradients(own: DifferentiableScore) -> None:
    inputs, functions = np.random.default_rng(0).random((4, 3)), np.array([0, 1, 1, 0])
    value, gradient = own.gradient(inputs, functions)
    assert np.allclose(value, own.values(inputs)[functions, np.arange(4)])
    assert np.allclose(gradient, differences(own, inputs, functions), atol=1e-8)


def test_a_score_is_a_differentiable_function_of_tensors() -> None:
    inputs = torch.tensor(np.random.default_rng(1).random((4, 3)), requires_grad=True)
    slopes = [torch.autograd.grad((f(inputs) ** 2).sum(), inputs)[0] for f in (Waves(), same_waves)]
    assert torch.allclose(*slopes)


def test_one_function_is_added_to_each_of_many() -> None:
    total, inputs = SumScore(Waves(), differentiable(one_wave)), np.full((2, 3), 0.4)
    functions = np.array([0, 1])
    assert np.allclose(total.values(inputs), Waves().values(inputs) + Waves().values(inputs)[1])
    value, gradient = total.gradient(inputs, functions)
    assert np.allclose(value, total.values(inputs)[functions, functions])
    assert np.allclose(gradient, differences(total, inputs, functions), atol=1e-8)


def test_points_of_a_latent_are_projected_to_its_ball() -> None:
    score = at_valid(Waves(), gaussian_domain(3, radius=1.5))
    inputs = np.random.default_rng(2).uniform(0.0, 1.0, (12, 3))
    functions = np.zeros(12, dtype=int)
    outside = np.linalg.norm(3.0 * inputs - 1.5, axis=1) > 1.5
    assert 0 < outside.sum() < 12
    assert np.allclose(
        score.gradient(inputs, functions)[1], differences(score, inputs, functions), atol=1e-7
    )


def test_discrete_coordinates_are_rounded_and_have_no_gradient() -> None:
    score, inputs = at_valid(Waves(), BOX), np.random.default_rng(3).random((5, BOX.dim))
    value, gradient = score.gradient(inputs, np.zeros(5, dtype=int))
    valid = np.column_stack([inputs[:, 0], BOX.project(inputs)[:, 1:]])
    assert np.array_equal(value, Waves().values(valid)[0])
    assert (gradient[:, 1:] == 0.0).all()
    assert (gradient[:, 0] != 0.0).all()


def rosenbrock(xp: ModuleType) -> Any:
    def function(x: Any, _: Any) -> tuple[Any, Any]:
        a, b = x[:, :-1], x[:, 1:]
        slope = xp.zeros_like(x)
        slope[:, :-1] = -400.0 * a * (b - a * a) - 2.0 * (1.0 - a)
        slope[:, 1:] += 200.0 * (b - a * a)
        value = (100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2).sum(-1)
        # A part of the box has no values.
        return xp.where(x[:, 0] < -0.9, xp.nan, value), slope

    return function


def test_lbfgs_of_arrays_and_tensors_takes_the_same_steps() -> None:
    starts = np.random.default_rng(4).uniform(-0.8, 1.4, (6, 3))
    lower, upper = np.full(3, -1.0), np.array([0.7, 2.0, 2.0])
    found, values = minimise_batched(rosenbrock(np), starts, lower, upper, steps=60)
    tensors = (torch.tensor(x) for x in (starts, lower, upper))
    expected, lowest = minimise_batched(rosenbrock(torch), *tensors, steps=60)
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(values, lowest, atol=1e-8)
    assert np.allclose(found.min(0), [0.7, 0.49, 0.2401], atol=0.02)
