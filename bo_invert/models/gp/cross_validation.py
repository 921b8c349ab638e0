"""Log densities of held-out observations under cross-validated fits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bo_invert.models.gp.hyperparameter_fit import NoisePrior, fit_hyperparameters
from bo_invert.models.gp.kernels import Kernel
from bo_invert.models.gp.posterior import condition

FOLDS = 4
"""Number of folds of the cross-validation. Engineering choice."""


def cross_validated_log_densities(
    x: Tensor,
    scores: Tensor,
    kernel: Kernel,
    noise_prior: NoisePrior,
    shared_lengthscale: bool,
    scales: Sequence[float],
    start: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return log densities of standardised values for each output scale, and the fits.

    Leave-one-out with fixed hyperparameters would favour many lengthscales: they can be fitted so
    that the observations predict one another.

    Args:
        x: Unit inputs, shape ``(n, d)``.
        scores: Standardised values, shape ``(n, k)``.
        kernel: Kernel.
        noise_prior: Noise prior.
        shared_lengthscale: Fit one lengthscale for all coordinates.
        scales: Output scales, s of them.
        start: Start of the fits, shape ``(folds * s * k, h + 1)``.

    Returns:
        Log densities of all values, ``(s, k)``, and the fits, shaped like ``start``.
    """
    k = scores.shape[1]
    # A process with output scale s of y is one with scale 1 of y / s.
    scaled = torch.cat([scores / scale for scale in scales], 1)  # (n, s k)
    folds = [torch.arange(len(x), device=x.device) % FOLDS == fold for fold in range(FOLDS)]
    # Equal sizes allow one batched fit of all folds.
    size = min(int((~fold).sum()) for fold in folds)
    training = [torch.nonzero(~fold)[:size, 0] for fold in folds]
    logs, _ = fit_hyperparameters(
        torch.stack([x[rows] for rows in training]).repeat_interleave(scaled.shape[1], 0),
        torch.cat([scaled[rows] for rows in training], 1),
        noise_prior,
        kernel,
        start,
        coarse=True,
        shared_lengthscale=shared_lengthscale,
        single_start=True,
    )
    # log p(y) = log p(y / s) - log s
    total = -len(x) * scores.new_tensor(scales).log()[:, None].expand(-1, k)
    for own, fold, rows in zip(logs.chunk(FOLDS), folds, training, strict=True):
        # Outcomes include noise, so the predictive variance does as well.
        gp = condition(kernel, own[:, :-1], own[:, -1].exp(), x[rows], scaled[rows])
        mean, variance = gp(x[fold])
        densities = log_densities(scaled[fold], mean, variance + own[:, -1].exp())
        total = total + densities.reshape(len(scales), k)
    return total, logs


def log_densities(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return log N(value; mean, variance), summed over the rows of ``(n, k)``, shape ``(k,)``."""
    return (-0.5 * (values - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()).sum(0)
