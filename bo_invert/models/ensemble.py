"""Ensemble of small neural networks as a differentiable surrogate of the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from bo_invert.types import Array


def fit_ensemble(
    points: Array, y: Array, seed: int, members: int = 4, width: int = 32
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fit regressors that differ in their initial weights.

    Each one is a perceptron with two hidden layers and SiLU activations. 150 steps of AdamW train
    it on standardised data (Lakshminarayanan et al. 2017, without adversarial training).

    Args:
        points: Observed points, shape ``(n, d)``.
        y: Observed outputs, shape ``(n, m)``.
        seed: Seed of the initial weights.
        members: Number of regressors.
        width: Number of units of each hidden layer.

    Returns:
        Differentiable function from points ``(k, d)`` to outputs ``(members, k, m)``.
    """
    generator = torch.Generator().manual_seed(seed)
    x, targets = torch.from_numpy(points.copy()), torch.from_numpy(y.copy())
    centre, scale = x.mean(0), x.std(0).clamp(min=1e-3)
    middle, spread = targets.mean(0), targets.std(0).clamp(min=1e-9)
    sizes = [(points.shape[1], width), (width, width), (width, y.shape[1])]
    # Weights with variance 1 / fan-in preserve the variance of the activations (LeCun et al. 1998).
    weights = [
        torch.randn(members, *s, generator=generator, dtype=torch.float64) / math.sqrt(s[0])
        for s in sizes
    ]
    biases = [torch.zeros(members, 1, s[1], dtype=torch.float64) for s in sizes]

    def predict(points: torch.Tensor) -> torch.Tensor:
        hidden = (points - centre) / scale
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden = torch.nn.functional.silu(hidden @ weight + bias)
        return hidden @ weights[-1] + biases[-1]

    parameters = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.01)
    # Members share no parameters, so one optimiser of the mean loss trains them independently.
    for _ in range(150):
        loss = ((predict(x) - (targets - middle) / spread) ** 2).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    for tensor in parameters:
        tensor.requires_grad_(False)
    return lambda points: predict(points) * spread + middle
