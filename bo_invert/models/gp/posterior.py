"""Exact posterior of Gaussian processes with analytic gradients.

It is batched over k outputs with the same inputs, and over fantasies: sets of values at the same
inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.models.array_module import A, as_array, clamp_below_, diagonal
from bo_invert.models.gp.cholesky import cholesky, invert_triangles
from bo_invert.models.gp.kernels import Kernel, KernelCache

_MIN_VARIANCE = 1e-12
"""Lower bound of a posterior variance in units of the prior variance. Engineering choice: smaller
values of 1 - k'C^-1 k are rounding errors."""
_JITTER = 1e-8
"""Noise variance of a fantasy in units of the prior variance. Engineering choice: far below the
variance at useful points."""


class MomentsCache(NamedTuple, Generic[A]):
    """Intermediate results for gradients of moments."""

    kernel: KernelCache[A]
    white: A
    """L^-1 k(x), shape ``(k, m, n)``."""
    known: A | None = None
    """Gradient of an output that is a known function of the input, shape ``(m, d)``."""


@dataclass(frozen=True, eq=False)
class Moments(Generic[A]):
    """Mean and variance of a posterior with their gradients; arguments as of ``GPPosterior``."""

    kernel: Kernel
    log_lengthscales: A
    constant: A
    inputs: A
    inverse_cholesky: A
    weights: A

    def __call__(self, inputs: A) -> tuple[A, A, MomentsCache[A]]:
        """Return means ``(m, k, F)``, variances ``(m, k)`` and a cache at inputs ``(m, d)``."""
        cross, cache = self._kernel_matrix(inputs)  # (k, m, n)
        white = cross @ self.inverse_cholesky.swapaxes(-1, -2)
        mean: A = self.constant[:, None, None] + cross @ self.weights
        # k'C^-1 k = |L^-1 k|^2 is never negative, unlike its expanded form
        variance: A = clamp_below_(1.0 - (white * white).sum(-1), _MIN_VARIANCE)
        return mean.swapaxes(0, 1), variance.swapaxes(0, 1), MomentsCache(cache, white)

    def gradient(self, cache: MomentsCache[A], by_mean: A, by_variance: A) -> A:
        """Return the gradient ``(m, d)`` of sum(by_mean * mean) + sum(by_variance * variance).

        With w = L^-1 k(x): d mean = weights' dk and d variance = -2 w' L^-1 dk.
        """
        pull = by_mean.swapaxes(0, 1) @ self.weights.swapaxes(-1, -2)
        slopes = (-2.0 * by_variance).swapaxes(0, 1)[..., None]
        pull = pull + (slopes * cache.white) @ self.inverse_cholesky
        gradient: A = self.kernel.gradient_in_inputs(cache.kernel, pull).sum(0)
        return gradient

    @cached_property
    def _kernel_matrix(self) -> Callable[[A], tuple[A, KernelCache[A]]]:
        return self.kernel.against(self.log_lengthscales, self.inputs)


@dataclass(frozen=True, eq=False)
class GPPosterior:
    """Posterior of k independent Gaussian processes, given n observations.

    mean(x) = m + k(x)' C^-1 (y - m), variance(x) = 1 - k(x)' C^-1 k(x), C = K + noise (Rasmussen &
    Williams 2006, eq. 2.25). ``condition`` builds one. F is the number of fantasies, and 1 without
    fantasies.

    Args:
        kernel: Kernel of all outputs.
        log_lengthscales: Logarithms of the lengthscales, shape ``(k, d)``.
        noise: Noise variances of the observations, shape ``(k, n)``.
        constant: Prior means m, shape ``(k,)``.
        inputs: Observed inputs, shape ``(n, d)``.
        values: Observed values y, shape ``(k, n, F)``.
        cholesky: Lower Cholesky factors L of C, shape ``(k, n, n)``.
        inverse_cholesky: Inverses of L, shape ``(k, n, n)``.
        weights: C^-1 (y - m), shape ``(k, n, F)``.
    """

    kernel: Kernel
    log_lengthscales: Tensor
    noise: Tensor
    constant: Tensor
    inputs: Tensor
    values: Tensor
    cholesky: Tensor
    inverse_cholesky: Tensor
    weights: Tensor

    @property
    def typical_noise(self) -> Tensor:
        """Noise variance of an observation of each output, shape ``(k,)``."""
        return self.noise[:, 0]

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and noise-free variance, ``(..., k)`` each, at inputs ``(..., d)``."""
        mean, variance = self.fantasies(inputs)
        return mean[..., 0], variance

    def fantasies(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return means ``(..., k, F)`` of all fantasies and their common variance ``(..., k)``."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        mean, variance = _Posterior.apply(flat, self)  # type: ignore[no-untyped-call]
        lead = inputs.shape[:-1]
        return mean.reshape(*lead, *mean.shape[1:]), variance.reshape(*lead, *variance.shape[1:])

    def linearised(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and variance ``(m, k)`` and slopes of the mean ``(m, k, d)`` at ``(m, d)``.

        They are those without fantasies. One pass, unlike k passes of automatic differentiation.
        """
        mean, variance, cache = self.moments(inputs)
        pull = self.weights[:, None, :, 0].expand_as(cache.white)
        slopes = self.kernel.gradient_in_inputs(cache.kernel, pull)  # (k, m, d)
        return mean[..., 0], variance, slopes.transpose(0, 1)

    @property
    def moments(self) -> Moments[Tensor]:
        """Mean and variance as functions of tensors."""
        return Moments(
            self.kernel, self.log_lengthscales, self.constant, self.inputs,
            self.inverse_cholesky, self.weights,
        )  # fmt: skip

    @property
    def array_moments(self) -> Moments[NDArray[Any]]:
        """Mean and variance as functions of arrays, for a posterior on the CPU."""
        tensors = (
            self.log_lengthscales, self.constant, self.inputs, self.inverse_cholesky, self.weights
        )  # fmt: skip
        return Moments(self.kernel, *map(as_array, tensors))

    def joint(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(k, q, F)`` and covariance ``(k, q, q)``, without noise, at ``(q, d)``."""
        # K(x, x) - K(x, X) C^-1 K(X, x) with C^-1 = L^-T L^-1
        cross, _ = self.kernel.matrix(self.log_lengthscales, inputs, self.inputs)
        white = cross @ self.inverse_cholesky.mT
        prior, _ = self.kernel.gram(self.log_lengthscales, inputs)
        return self.constant[:, None, None] + cross @ self.weights, prior - white @ white.mT

    def covariance(self, inputs: Tensor, others: Tensor) -> Tensor:
        """Return covariances ``(k, n, c)`` without noise of inputs ``(n, d)`` and ``(c, d)``."""
        # K(x, x') - K(x, X) C^-1 K(X, x')
        white = [
            self.kernel.matrix(self.log_lengthscales, x, self.inputs)[0] @ self.inverse_cholesky.mT
            for x in (inputs, others)
        ]
        prior, _ = self.kernel.matrix(self.log_lengthscales, inputs, others)
        return prior - white[0] @ white[1].mT

    def fantasize(self, inputs: Tensor, normals: Tensor) -> tuple[GPPosterior, Tensor]:
        """Condition on F samples of the noise-free values at pending inputs.

        Args:
            inputs: Pending inputs, shape ``(p, d)``.
            normals: Standard normal numbers, one set per fantasy, shape ``(F, k, p)``.

        Returns:
            Posterior with F fantasies, and the samples ``(F, k, p)``.
        """
        samples = draw_normals(*self.joint(inputs), normals)
        return self.extend(inputs, samples), samples.permute(2, 0, 1)

    def extend(self, inputs: Tensor, samples: Tensor) -> Self:
        """Condition on sampled values ``(k, p, F)`` of the noise-free outputs at ``(p, d)``."""
        p, (n, k) = len(inputs), (len(self.inputs), len(self.log_lengthscales))
        cross, _ = self.kernel.matrix(self.log_lengthscales, inputs, self.inputs)
        prior, _ = self.kernel.gram(self.log_lengthscales, inputs)
        # The factor of [[C, K'], [K, S]] is [[L, 0], [K L^-T, lower]]; blocks give its inverse too.
        side = cross @ self.inverse_cholesky.mT  # (k, p, n)
        lower = _jittered_cholesky(prior - side @ side.mT)
        factor = self.cholesky.new_zeros(k, n + p, n + p)
        factor[:, :n, :n], factor[:, n:, :n], factor[:, n:, n:] = self.cholesky, side, lower
        inverse = torch.zeros_like(factor)
        corner = invert_triangles(lower)
        inverse[:, :n, :n], inverse[:, n:, n:] = self.inverse_cholesky, corner
        inverse[:, n:, :n] = -corner @ side @ self.inverse_cholesky
        observed = self.values.expand(k, n, samples.shape[-1])
        values = torch.cat([observed, samples], 1)
        weights = inverse.mT @ (inverse @ (values - self.constant[:, None, None]))
        noise = torch.cat([self.noise, self.noise.new_full((k, p), _JITTER)], 1)
        return replace(
            self, noise=noise, inputs=torch.cat([self.inputs, inputs]), values=values,
            cholesky=factor, inverse_cholesky=inverse, weights=weights,
        )  # fmt: skip

    def select(self, rows: Tensor) -> GPPosterior:
        """Return the posterior of some of the k processes, given by a mask ``(k,)``."""
        fields = (
            self.log_lengthscales, self.noise, self.constant, self.inputs, self.values,
            self.cholesky, self.inverse_cholesky, self.weights,
        )  # fmt: skip
        own = (field if field is self.inputs else field[rows] for field in fields)
        return GPPosterior(self.kernel, *own)

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Return leave-one-out means and variances with noise, ``(n, k)`` each.

        mean_i = y_i - (C^-1 (y - m))_i / (C^-1)_ii and variance_i = 1 / (C^-1)_ii (Rasmussen &
        Williams 2006, eq. 5.12), at fixed hyperparameters and constant.
        """
        precision = (self.inverse_cholesky * self.inverse_cholesky).sum(1)  # diagonal of C^-1
        mean = self.values[..., 0] - self.weights[..., 0] / precision
        return mean.T, (1.0 / precision).T

    def with_noise(self, most: Tensor) -> Self:
        """Return the posterior with noise variances of at most ``most`` ``(k, n)``."""
        noise, values = torch.minimum(self.noise, most), self.values[..., 0].mT
        own = condition(
            self.kernel, self.log_lengthscales, noise, self.inputs, values, self.constant
        )
        return replace(self, **vars(own))

    def leave_twins_out(self, correlation: float, most: int) -> tuple[Tensor, Tensor]:
        """Return errors and variances of observations left out with their twins, ``(n, k)`` each.

        With the precision P = C^-1, w = P (y - m) and the left-out rows N, the errors are
        ``P_NN^-1 w_N`` with the covariance ``P_NN^-1`` (Rasmussen & Williams 2006, eq. 5.12, for
        several rows).

        Args:
            correlation: Prior correlation above which observations are twins.
            most: Largest number of observations that are left out at once.
        """
        pairs = [self._left_out(k, correlation, most) for k in range(len(self.log_lengthscales))]
        errors, variances = (torch.stack(some, -1) for some in zip(*pairs, strict=True))
        return errors, variances

    def _left_out(self, k: int, correlation: float, most: int) -> tuple[Tensor, Tensor]:
        """Return ``leave_twins_out`` of one process, ``(n,)`` each."""
        inverse, own = self.inverse_cholesky[k], slice(k, k + 1)
        precision = inverse.mT @ inverse
        prior = self.kernel.gram(self.log_lengthscales[own], self.inputs)[0][0].clone()
        prior.diagonal().fill_(torch.inf)  # first among its twins
        near, rows = prior.topk(min(most, len(prior)), dim=-1)
        twin = near > correlation
        block = precision[rows[:, :, None], rows[:, None]]
        both = twin[:, :, None] & twin[:, None]
        block = torch.where(both, block, torch.eye(rows.shape[1]).to(block))
        covariance = torch.linalg.inv(block)
        weights = torch.where(twin, self.weights[k, :, 0][rows], torch.zeros_like(near))
        return (covariance[:, 0] * weights).sum(-1), covariance[:, 0, 0]


def draw_normals(mean: Tensor, covariance: Tensor, normals: Tensor) -> Tensor:
    """Return samples ``(k, p, F)`` of N(mean, covariance) from normals ``(F, k, p)``."""
    return mean + _jittered_cholesky(covariance) @ normals.permute(1, 2, 0)


def condition(
    kernel: Kernel,
    log_lengthscales: Tensor,
    noise: Tensor,
    inputs: Tensor,
    values: Tensor,
    constant: Tensor | None = None,
) -> GPPosterior:
    """Condition Gaussian processes on observations.

    Args:
        kernel: Kernel of all outputs.
        log_lengthscales: Logarithms of the lengthscales, shape ``(k, d)``.
        noise: Noise variances, shape ``(k,)``, or ``(k, n)`` with one per observation.
        inputs: Observed inputs, shape ``(n, d)``.
        values: Observed values, shape ``(n, k)``.
        constant: Prior means, shape ``(k,)``; by default the most probable ones.
    """
    gram, _ = kernel.gram(log_lengthscales, inputs)
    spread = noise if noise.dim() == 2 else noise[:, None].expand(-1, len(inputs))
    gram.diagonal(dim1=-2, dim2=-1).add_(spread)
    factor = cholesky_with_jitter(gram)
    inverse = invert_triangles(factor)
    target = values.mT.unsqueeze(-1)
    ones = inverse.sum(-1, keepdim=True)
    if constant is None:
        # m = 1'C^-1 y / 1'C^-1 1, with C^-1 = L^-T L^-1
        constant = (ones * (inverse @ target)).sum((-2, -1)) / (ones * ones).sum((-2, -1))
    weights = inverse.mT @ (inverse @ (target - constant[:, None, None]))
    return GPPosterior(
        kernel, log_lengthscales, spread, constant, inputs, target, factor, inverse, weights
    )


def cholesky_with_jitter(matrix: Tensor) -> Tensor:
    """Return lower Cholesky factors of ``(..., n, n)``, with growing jitter if one is singular."""
    factor, singular = cholesky(matrix)
    # Rounding errors of C are about n times machine epsilon; jitter grows until it exceeds them.
    jitter = 1e-10
    while singular and jitter < 1.0:
        raised = matrix.clone()
        diagonal(raised).add_(jitter)
        factor, singular = cholesky(raised)
        jitter *= 10.0
    return factor


def _jittered_cholesky(covariance: Tensor) -> Tensor:
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return cholesky_with_jitter(covariance + _JITTER * eye)


class _Posterior(torch.autograd.Function):
    """Posterior mean and variance as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, gp: GPPosterior) -> tuple[Tensor, Tensor]:
        ctx.moments = gp.moments
        mean, variance, ctx.cache = ctx.moments(inputs)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.moments.gradient(ctx.cache, *upstream), None
