"""What Gaussian processes believe when their hyperparameters are not settled: an average over many of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bo_invert.models.gp.hyperparameters import NoisePrior, negative_log_posterior
from bo_invert.models.gp.posterior import GPPosterior, condition

_STRETCHES = tuple(math.log(2.0) * power for power in range(-1, 6))
"""Logarithms of factors on all lengthscales. A fit in much noise errs on the short side, so most of them are longer."""
_MAX_POINTS = 200
"""So many points at most tell hyperparameters apart."""
_MIN_WEIGHT = 0.02
"""Less than this share of the greatest weight is left out."""


def averaged_posterior(
    process: GPPosterior, noise_prior: NoisePrior, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(b, k)`` of the numbers at unit inputs ``(b, d)``, averaged over hyperparameters.

    The most probable ones alone are too sure of themselves where noise is as large as what is to be seen: with few
    points, short lengthscales and little noise explain anything. Here lengthscales are stretched together and every
    noise that ``belief`` allows is tried, each with the weight of its posterior density.

    Args:
        process: at its most probable hyperparameters.
        belief: about the noise, as in the fit.
        points: where.
    """
    moments = [
        _averaged_output(process, j, noise_prior, points)
        for j in range(len(process.log_lengthscales))
    ]
    return torch.stack([mean for mean, _ in moments], -1), torch.stack(
        [variance for _, variance in moments], -1
    )


def _averaged_output(
    process: GPPosterior, number: int, noise_prior: NoisePrior, points: Tensor
) -> tuple[Tensor, Tensor]:
    lengthscales, inputs, values = (
        process.log_lengthscales[number],
        process.inputs,
        process.values[number, :, 0],
    )
    noises = torch.arange(
        math.ceil(math.log(noise_prior.min_noise)), math.floor(math.log(noise_prior.max_noise)) + 1
    ).to(values)
    stretches = values.new_tensor(_STRETCHES)
    logs = torch.cat(
        [
            (lengthscales + stretches[:, None]).repeat_interleave(len(noises), 0),
            noises.repeat(len(stretches))[:, None],
        ],
        1,
    )
    some = (
        torch.linspace(0, len(inputs) - 1, min(len(inputs), _MAX_POINTS), dtype=torch.float64)
        .round()
        .long()
    )
    told = values[some].expand(len(logs), -1)
    lowest, _ = negative_log_posterior(logs, inputs[some], told, noise_prior, process.kernel)
    # There densities are those of lengthscales and noise; here the logarithms of noise and stretch are evenly spaced.
    weights = torch.softmax(logs[:, -1] + logs[:, :-1].mean(1) - lowest, 0)
    kept = torch.nonzero(weights >= _MIN_WEIGHT * weights.max())[:, 0]
    weights = weights[kept] / weights[kept].sum()
    mean, square = points.new_zeros(len(points)), points.new_zeros(len(points))
    for row, weight in zip(logs[kept], weights, strict=True):
        own = condition(process.kernel, row[None, :-1], row[-1:].exp(), inputs, values[:, None])
        middle, variance = own(points)
        mean += weight * middle[:, 0]
        square += weight * (variance[:, 0] + middle[:, 0] ** 2)
    return mean, (square - mean**2).clamp(min=1e-12)
