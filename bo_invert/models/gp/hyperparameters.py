"""Hyperparameters of Gaussian processes: penalised marginal likelihood with its gradient, many outputs at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.kernels import RBF, Kernel, lengthscale_prior
from bo_invert.models.optim.batched_lbfgs import minimise_batched

_MAX_LENGTHSCALE = 1e3
MAX_FIT_POINTS = 400
"""More points than this hardly change the hyperparameters, and cost the third power of their number."""


@dataclass(frozen=True)
class NoisePrior:
    """What is believed of the noise before the data.

    Args:
        name: for memos.
        mean: of the logarithm of the noise, as a variance in units of the output's.
        std: of that logarithm.
        floor: least noise.
        shortest: least lengthscale, in units of the unit cube.
        ceiling: most noise.
    """

    name: str
    mean: float
    std: float
    min_noise: float
    min_lengthscale: float = 0.025
    max_noise: float = 1.0


EXACT = NoisePrior("exact", -10.0, 3.0, 1e-8)
"""For deterministic oracles: next to no noise, unless the data say that the model cannot follow them."""
NOISY = NoisePrior("noisy", -4.0, 1.0, 1e-4)
"""BoTorch's default. Also for functions with ripples: the smooth model then sees through them."""
MEASURED = NoisePrior("measured", -2.0, 2.0, 1e-4, min_lengthscale=0.1)
"""For measurements: noise may be most of what varies."""
LABELS = NoisePrior("labels", -4.0, 1.0, 1e-2, min_lengthscale=0.25)
"""For labels 0 and 1: likelihood would follow their jumps with short lengthscales, which then generalise to nothing."""


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
    """The most probable hyperparameters of k outputs, each with its own.

    Several starts for every output go down side by side. Of more than ``ENOUGH`` points, so many are looked at,
    taken evenly from the order they were told in.

    Args:
        inputs: in the unit cube, shape ``(n, d)``, or ``(k, n, d)`` where every output has its own.
        values: mean 0 and variance 1 in each column, shape ``(n, k)``.
        belief: about the noise, and limits.
        kernel: of all outputs.
        warm: earlier answers, shape ``(k, d + 1)``: a start beside the fixed ones.
        known: noise variances of the observations besides the one sought, shape ``(n, k)``.
        rough: near enough to tell models apart.
        tied: one lengthscale for all coordinates, instead of one for each.

    Returns:
        Logarithms of lengthscales and noise, ``(k, d + 1)``, and minus the log posterior of each, ``(k,)``.
    """
    n, d = inputs.shape[-2:]
    if n > MAX_FIT_POINTS:
        some = (
            torch.linspace(0, n - 1, MAX_FIT_POINTS, dtype=torch.float64)
            .round()
            .long()
            .to(inputs.device)
        )
        inputs, values, known_noise = (
            inputs[..., some, :],
            values[some],
            None if known_noise is None else known_noise[some],
        )
    k = values.shape[1]
    short = [math.log(0.2 * math.sqrt(d))] * d + [math.log(max(noise_prior.min_noise, 1e-6))]
    long = [math.log(math.sqrt(d))] * d + [math.log(max(noise_prior.min_noise, 1e-3))]
    starts = inputs.new_tensor([short, long]).expand(k, 2, d + 1)
    if warm_start is not None:
        starts = torch.cat([warm_start.unsqueeze(1), starts], 1)
    many = starts.shape[1]
    spread = _SharedLengthscale(d, starts) if shared_lengthscale else _ArdLengthscales()
    lower = inputs.new_tensor(
        [math.log(noise_prior.min_lengthscale)] * d + [math.log(noise_prior.min_noise)]
    )
    upper = inputs.new_tensor([math.log(_MAX_LENGTHSCALE)] * d + [math.log(noise_prior.max_noise)])

    def function(logs: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        of = which // many
        value, gradient = negative_log_posterior(
            spread.out(logs), inputs if inputs.dim() == 2 else inputs[of], values.T[of], noise_prior, kernel,
            None if known_noise is None else known_noise.T[of],
        )  # fmt: skip
        return value, spread.back(gradient)

    steps, tolerance = (25, 1e-3) if coarse else (80, 1e-6 if warm_start is None else 1e-5)
    start = starts.reshape(k * many, d + 1)
    found, lowest = minimise_batched(
        function,
        spread.into(start),
        spread.into(lower),
        spread.into(upper),
        steps=steps,
        tolerance=tolerance,
    )
    found = spread.out(found)
    best = lowest.reshape(k, many).argmin(1)
    rows = torch.arange(k, device=best.device) * many + best
    return found[rows], lowest[rows]


class _ArdLengthscales:
    """Every coordinate has its own lengthscale."""

    def into(self, logs: Tensor) -> Tensor:
        return logs

    def out(self, logs: Tensor) -> Tensor:
        return logs

    def back(self, gradient: Tensor) -> Tensor:
        return gradient


class _SharedLengthscale:
    """All d coordinates share one lengthscale; the prior counts it d times, which keeps it from the very short.

    Counted once, a rough function in many dimensions would be taken for noise without any noise.
    """

    def __init__(self, d: int, like: Tensor) -> None:
        self.d = d
        self.sum = like.new_ones(d, 1)

    def into(self, logs: Tensor) -> Tensor:
        return torch.cat([logs[..., :-1].mean(-1, keepdim=True), logs[..., -1:]], -1)

    def out(self, logs: Tensor) -> Tensor:
        return torch.cat([logs[..., :1].expand(*logs.shape[:-1], self.d), logs[..., 1:]], -1)

    def back(self, gradient: Tensor) -> Tensor:
        return torch.cat([gradient[..., :-1] @ self.sum, gradient[..., -1:]], -1)


def negative_log_posterior(
    logs: Tensor,
    inputs: Tensor,
    values: Tensor,
    noise_prior: NoisePrior,
    kernel: Kernel,
    known_noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minus log marginal likelihood and log prior, up to a constant, with the gradient in the logarithms.

    The constant mean is the most probable one; being at its optimum, it adds nothing to the gradient.

    Args:
        logs: of lengthscales and noise, shape ``(b, d + 1)``.
        inputs: shape ``(n, d)`` or ``(b, n, d)``.
        values: shape ``(b, n)``.
        belief: prior of the noise.
        kernel: of all.
        known: further noise variances, shape ``(b, n)``.

    Returns:
        Values ``(b,)``, infinite where the covariance is too singular for so little noise; gradients ``(b, d + 1)``.
    """
    n = inputs.shape[-2]
    gram, saved = kernel.gram(logs[:, :-1], inputs)
    noise = logs[:, -1].exp()
    gram.diagonal(dim1=-2, dim2=-1).add_(
        noise[:, None] if known_noise is None else noise[:, None] + known_noise
    )
    factor, info = torch.linalg.cholesky_ex(gram)
    inverse = torch.cholesky_inverse(factor)
    ones = inverse.sum(-1)
    constant = (ones * values).sum(-1) / ones.sum(-1)
    alpha = inverse @ (values - constant[:, None]).unsqueeze(-1)
    residual = (values - constant[:, None]).unsqueeze(-1)
    halves = 0.5 * (residual * alpha).sum((-2, -1)) + factor.diagonal(dim1=-2, dim2=-1).log().sum(
        -1
    )
    upstream = 0.5 * (inverse - alpha @ alpha.mT)
    of_lengthscales = kernel.gradient_in_log_lengthscales(saved, upstream)
    of_noise = noise * upstream.diagonal(dim1=-2, dim2=-1).sum(-1)
    prior, of_prior = lengthscale_prior(logs[:, :-1])
    off = logs[:, -1] - noise_prior.mean
    value = (
        halves
        + 0.5 * n * math.log(2.0 * math.pi)
        + prior
        + 0.5 * (off / noise_prior.std) ** 2
        + logs[:, -1]
    )
    gradient = torch.cat(
        [of_lengthscales + of_prior, (of_noise + off / noise_prior.std**2 + 1.0)[:, None]], 1
    )
    return torch.where(info == 0, value, torch.inf), gradient
