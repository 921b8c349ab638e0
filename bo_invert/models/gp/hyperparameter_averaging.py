"""Posterior of Gaussian processes averaged over hyperparameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.hyperparameter_fit import NoisePrior, evenly_spaced, negative_log_posterior
from bo_invert.models.gp.posterior import GPPosterior, condition

_LOG_FACTORS = tuple(math.log(2.0) * power for power in range(-1, 6))
"""Logarithms of the factors (1/2 to 32, dimensionless) on all lengthscales. Engineering choice:
with much noise the most probable lengthscales are too short, so most factors exceed 1."""
_MAX_POINTS = 200
"""Largest number of observations in the weights. Engineering choice: a likelihood costs O(n^3)."""
_MIN_WEIGHT = 0.02
"""Share of the largest weight below which a grid point is omitted. Engineering choice."""


@dataclass(frozen=True, eq=False)
class HyperparameterAverage:
    """Mixture of Gaussian processes over a grid of hyperparameters, one list for each output.

    E y = sum w m and Var y = sum w (v + m^2) - (E y)^2.

    Args:
        components: Processes of each of k outputs.
        weights: Their weights, shape ``(components of the output,)`` each.
    """

    components: list[list[GPPosterior]]
    weights: list[Tensor]

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and noise-free variance ``(b, k)`` at unit inputs ``(b, d)``."""
        return self._mixed([[gp(points) for gp in row] for row in self.components])

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Return leave-one-out means and variances with noise, ``(n, k)`` each."""
        return self._mixed([[gp.leave_one_out() for gp in row] for row in self.components])

    @property
    def noise(self) -> Tensor:
        """Expected noise variance of each output, shape ``(k,)``."""
        pairs = zip(self.components, self.weights, strict=True)
        return torch.stack(
            [
                (weights * torch.cat([gp.typical_noise for gp in row])).sum()
                for row, weights in pairs
            ]
        )

    def _mixed(self, moments: list[list[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
        means, variances = [], []
        for row, weights in zip(moments, self.weights, strict=True):
            mean, square = torch.zeros_like(row[0][0][:, 0]), torch.zeros_like(row[0][0][:, 0])
            for (centre, variance), weight in zip(row, weights, strict=True):
                mean += weight * centre[:, 0]
                square += weight * (variance[:, 0] + centre[:, 0] ** 2)
            means.append(mean)
            variances.append((square - mean**2).clamp(min=1e-12))
        return torch.stack(means, -1), torch.stack(variances, -1)


def average_hyperparameters(gp: GPPosterior, noise_prior: NoisePrior) -> HyperparameterAverage:
    """Average a posterior over hyperparameters.

    A grid scales all lengthscales by common factors and spans the noise bounds. Each grid point is
    weighted by its posterior density. Maximum a posteriori alone is overconfident with few noisy
    data, which short lengthscales explain as well as noise.

    Args:
        gp: Posterior at the most probable hyperparameters.
        noise_prior: Noise prior of the fit.
    """
    outputs = [_grid(gp, j, noise_prior) for j in range(len(gp.log_lengthscales))]
    return HyperparameterAverage([row for row, _ in outputs], [weights for _, weights in outputs])


def averaged_posterior(
    gp: GPPosterior, noise_prior: NoisePrior, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and variance ``(b, k)`` at unit inputs ``(b, d)``, averaged over hyperparameters.

    Args:
        gp: Posterior at the most probable hyperparameters.
        noise_prior: Noise prior of the fit.
        points: Unit inputs, shape ``(b, d)``.
    """
    return average_hyperparameters(gp, noise_prior)(points)


def _grid(
    gp: GPPosterior, output: int, noise_prior: NoisePrior
) -> tuple[list[GPPosterior], Tensor]:
    """Return the processes of one output on the grid, and their weights."""
    inputs, values = gp.inputs, gp.values[output, :, 0]
    noises = torch.arange(
        math.ceil(math.log(noise_prior.min_noise)), math.floor(math.log(noise_prior.max_noise)) + 1
    ).to(values)
    factors = values.new_tensor(_LOG_FACTORS)[:, None]
    scaled = gp.kernel.scale_lengthscales(gp.log_lengthscales[output], factors)
    # Each row is a pair of a factor and a noise variance.
    pairs = [scaled.repeat_interleave(len(noises), 0), noises.repeat(len(scaled))[:, None]]
    logs = torch.cat(pairs, 1)
    some = evenly_spaced(len(inputs), _MAX_POINTS)
    lowest, _ = negative_log_posterior(
        logs, inputs[some], values[some].expand(len(logs), -1), noise_prior, gp.kernel
    )
    # The densities are those of lengthscales and noise; the grid is even in their logarithms.
    # The change of variables adds log noise and the mean log lengthscale to the log density.
    columns = gp.kernel.column_log_lengthscales(logs[:, :-1])
    weights = torch.softmax(logs[:, -1] + columns.mean(1) - lowest, 0)
    relevant = torch.nonzero(weights >= _MIN_WEIGHT * weights.max())[:, 0]
    weights = weights[relevant] / weights[relevant].sum()
    found = [
        condition(gp.kernel, row[None, :-1], row[-1:].exp(), inputs, values[:, None])
        for row in logs[relevant]
    ]
    return found, weights
