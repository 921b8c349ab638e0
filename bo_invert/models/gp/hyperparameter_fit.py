"""Maximum a posteriori hyperparameters of Gaussian processes, for many outputs at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.kernels import RBF, Kernel
from bo_invert.models.optim.batched_lbfgs import minimise_batched

_MAX_LENGTHSCALE = 1e3
"""Upper bound of a lengthscale in units of the unit cube. Engineering choice: longer ones give a
constant kernel."""
MAX_FIT_POINTS = 400
"""Largest number of observations in a fit. Engineering choice: more observations hardly change the
hyperparameters, and a likelihood costs O(n^3)."""


@dataclass(frozen=True)
class NoisePrior:
    """Log-normal prior of the noise variance, and bounds of a fit.

    Args:
        name: Name in memos.
        log_mean: Mean of log noise, as a variance in units of the standardised output.
        log_std: Standard deviation of log noise.
        min_noise: Lower bound of the noise variance.
        min_lengthscale: Lower bound of the lengthscales in units of the unit cube.
        max_noise: Upper bound of the noise variance.
    """

    name: str
    log_mean: float
    log_std: float
    min_noise: float
    min_lengthscale: float = 0.025
    max_noise: float = 1.0


EXACT = NoisePrior("exact", -10.0, 3.0, 1e-8)
"""Prior for exact oracles: little noise, unless the model misfits the data."""
NOISY = NoisePrior("noisy", -4.0, 1.0, 1e-4)
"""Default of BoTorch. It smooths over structure that is too fine for the model."""
MEASURED = NoisePrior("measured", -2.0, 2.0, 1e-4, min_lengthscale=0.1)
"""Prior for measurements, in which noise may explain most of the variance."""
LABELS = NoisePrior("labels", -4.0, 1.0, 1e-2, min_lengthscale=0.25)
"""Prior for labels 0 and 1. Shorter lengthscales would follow the jumps and not generalise."""
RARE_LABELS = NoisePrior("rare labels", -4.0, 1.0, 1e-2, min_lengthscale=0.025, max_noise=0.05)
"""Prior for labels 0 and 1 if few are 1. Only points near these are then predictable."""


def evenly_spaced(n: int, most: int) -> Tensor:
    """Return at most ``most`` evenly spaced positions of n observations."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def fit_hyperparameters(
    inputs: Tensor,
    values: Tensor,
    noise_prior: NoisePrior = EXACT,
    kernel: Kernel = RBF,
    warm_start: Tensor | None = None,
    known_noise: Tensor | None = None,
    coarse: bool = False,
    shared_lengthscale: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fit the hyperparameters of k outputs by maximum a posteriori, independently.

    A batched L-BFGS minimises ``negative_log_posterior`` from several starts per output. Of more
    than ``MAX_FIT_POINTS`` observations, an evenly spaced subset is used.

    Args:
        inputs: Unit inputs, shape ``(n, d)``, or ``(k, n, d)`` with one set per output.
        values: Values with mean 0 and variance 1 in each column, shape ``(n, k)``.
        noise_prior: Noise prior and bounds.
        kernel: Kernel of all outputs.
        warm_start: Earlier optima, shape ``(k, h + 1)``: one more start per output.
        known_noise: Known noise variances, added to the fitted one, shape ``(n, k)``.
        coarse: Stop early, with an accuracy that suffices to compare models.
        shared_lengthscale: Fit one lengthscale for all coordinates.

    Returns:
        Hyperparameters of the kernel and log noise, ``(k, h + 1)``, and negative log posteriors,
        ``(k,)``.
    """
    (n, d), k = inputs.shape[-2:], values.shape[1]
    if n > MAX_FIT_POINTS:
        some = evenly_spaced(n, MAX_FIT_POINTS).to(inputs.device)
        inputs, values = inputs[..., some, :], values[some]
        known_noise = None if known_noise is None else known_noise[some]
    floor, h, size = noise_prior.min_noise, kernel.size(d), kernel.parameters(d)
    # A short and a long start: typical distances in the cube grow with sqrt(d). Then the bounds.
    lower, upper = kernel.bounds(d, noise_prior.min_lengthscale, _MAX_LENGTHSCALE)
    short, long = (kernel.start(d, factor * math.sqrt(size)) for factor in (0.2, 1.0))
    noises = max(floor, 1e-6), max(floor, 1e-3), floor, noise_prior.max_noise
    pairs = zip((short, long, lower, upper), noises, strict=True)
    logs = inputs.new_tensor([[*own, math.log(noise)] for own, noise in pairs])
    warm = [] if warm_start is None else [warm_start.unsqueeze(1)]
    starts = torch.cat([*warm, logs[:2].expand(k, 2, h + 1)], 1)
    n_starts = starts.shape[1]
    free = [starts.reshape(k * n_starts, h + 1), *logs[2:]]
    if shared_lengthscale:
        free = [torch.cat([kernel.share(p[..., :-1]), p[..., -1:]], -1) for p in free]

    def unpack(packed: Tensor) -> Tensor:
        """Return hyperparameters ``(..., h + 1)`` of free ones; repeat a shared lengthscale."""
        if not shared_lengthscale:
            return packed
        return torch.cat([kernel.unshare(packed[..., :-1], d), packed[..., -1:]], -1)

    def function(packed: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        output = which // n_starts
        # The prior counts a shared lengthscale d times. Counted once, it would favour short ones,
        # and a rough function in many dimensions would look like noise.
        value, gradient = negative_log_posterior(
            unpack(packed),
            inputs if inputs.dim() == 2 else inputs[output],
            values.T[output],
            noise_prior,
            kernel,
            None if known_noise is None else known_noise.T[output],
        )
        if shared_lengthscale:
            gradient = torch.cat(
                [kernel.share_gradient(gradient[..., :-1]), gradient[..., -1:]], -1
            )
        return value, gradient

    # Warm starts are near an optimum, so a looser tolerance reaches the same accuracy.
    steps, tolerance = (25, 1e-3) if coarse else (80, 1e-6 if warm_start is None else 1e-5)
    # Gradients are analytic. Without autograd's records, small operations are a fifth faster.
    with torch.inference_mode():
        found, lowest = minimise_batched(function, *free, steps=steps, tolerance=tolerance)
    # The best start of each output; starts of one output are adjacent rows.
    best = lowest.reshape(k, n_starts).argmin(1)
    rows = torch.arange(k, device=best.device) * n_starts + best
    return unpack(found)[rows], lowest[rows]


def negative_log_posterior(
    logs: Tensor,
    inputs: Tensor,
    values: Tensor,
    noise_prior: NoisePrior,
    kernel: Kernel,
    known_noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the negative log marginal likelihood minus the log prior, and its gradient.

    r'C^-1 r / 2 + log|C| / 2 + n log(2 pi) / 2 - log p(l) - log p(noise), up to a constant, with
    C = K + noise I and r = y - m (Rasmussen & Williams 2006, eq. 2.30 and 5.9). The constant mean m
    has its most probable value, so its derivative vanishes.

    Args:
        logs: Hyperparameters of the kernel and log noise, shape ``(b, h + 1)``.
        inputs: Unit inputs, shape ``(n, d)`` or ``(b, n, d)``.
        values: Values, shape ``(b, n)``.
        noise_prior: Prior of the noise.
        kernel: Kernel of all rows.
        known_noise: Further noise variances, shape ``(b, n)``.

    Returns:
        Values ``(b,)``, infinite for singular covariances, and gradients ``(b, h + 1)``.
    """
    n = inputs.shape[-2]
    gram, cache = kernel.gram(logs[:, :-1], inputs)
    noise = logs[:, -1].exp()
    gram.diagonal(dim1=-2, dim2=-1).add_(
        noise[:, None] if known_noise is None else noise[:, None] + known_noise
    )
    factor, info = torch.linalg.cholesky_ex(gram)
    inverse = torch.cholesky_inverse(factor)
    # m = 1'C^-1 y / 1'C^-1 1
    ones = inverse.sum(-1)
    constant = (ones * values).sum(-1) / ones.sum(-1)
    residual = (values - constant[:, None]).unsqueeze(-1)
    alpha = inverse @ residual
    # log|C| / 2 is the sum of the logarithms on the diagonal of the Cholesky factor.
    halves = 0.5 * (residual * alpha).sum((-2, -1)) + factor.diagonal(dim1=-2, dim2=-1).log().sum(
        -1
    )
    # dL/dC = (C^-1 - alpha alpha') / 2, chained with dC/d(log l) and dC/d(log noise) = noise I
    upstream = 0.5 * (inverse - alpha @ alpha.mT)
    by_lengthscales = kernel.gradient_in_log_lengthscales(cache, upstream)
    by_noise = noise * upstream.diagonal(dim1=-2, dim2=-1).sum(-1)
    prior, by_prior = kernel.negative_log_prior(logs[:, :-1])
    # -log p(noise) = (log noise - mean)^2 / (2 std^2) + log noise + const.
    off = logs[:, -1] - noise_prior.log_mean
    value = (
        halves
        + 0.5 * n * math.log(2.0 * math.pi)
        + prior
        + 0.5 * (off / noise_prior.log_std) ** 2
        + logs[:, -1]
    )
    gradient = torch.cat(
        [by_lengthscales + by_prior, (by_noise + off / noise_prior.log_std**2 + 1.0)[:, None]], 1
    )
    return torch.where(info == 0, value, torch.inf), gradient
