"""The posterior of Gaussian processes, exact, with gradients written out.

Batched over k outputs that share their inputs, and over fantasies: several sets of values at the same inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bo_invert.models.gp.kernels import Kernel

_MIN_VARIANCE = 1e-12
"""Below this variance rounding errors speak, and not the data."""


@dataclass(frozen=True, eq=False)
class GPPosterior:
    """k independent Gaussian processes, conditioned on n points.

    Build one with ``condition``. Shapes: k outputs, d coordinates, F fantasies (1 unless some were drawn).

    Args:
        kernel: of all outputs.
        logs: logarithms of the lengthscales, shape ``(k, d)``.
        noise: variances of the observations, shape ``(k, n)``.
        constant: means before the data, shape ``(k,)``.
        inputs: shape ``(n, d)``.
        values: shape ``(k, n, F)``.
        factor: lower Cholesky factors of the covariances, shape ``(k, n, n)``.
        whitener: their inverses, shape ``(k, n, n)``.
        weights: covariances' inverses times values, shape ``(k, n, F)``.
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

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(..., k)`` and variance ``(..., k)`` without noise, at inputs ``(..., d)``; differentiable."""
        mean, variance = self.fantasies(inputs)
        return mean[..., 0], variance

    def fantasies(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``(..., k, F)`` of all fantasies and their common variance ``(..., k)`` at inputs ``(..., d)``."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        mean, variance = _Posterior.apply(flat, self)  # type: ignore[no-untyped-call]
        lead = inputs.shape[:-1]
        return mean.reshape(*lead, *mean.shape[1:]), variance.reshape(*lead, -1)

    def joint(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(k, q, F)`` and covariance ``(k, q, q)`` of the values at inputs ``(q, d)``, without noise."""
        cross, _ = self.kernel.matrix(self.log_lengthscales, inputs, self.inputs)
        white = cross @ self.inverse_cholesky.mT
        prior, _ = self.kernel.gram(self.log_lengthscales, inputs)
        return self.constant[:, None, None] + cross @ self.weights, prior - white @ white.mT

    def fantasize(self, inputs: Tensor, normals: Tensor) -> tuple[GPPosterior, Tensor]:
        """What would be believed after F possible outcomes at inputs ``(p, d)``.

        Args:
            inputs: where outcomes are not known, shape ``(p, d)``.
            normals: standard normal numbers, shape ``(F, k, p)``; one set for each fantasy.

        Returns:
            The processes conditioned on samples of the noiseless values there, and the samples ``(F, k, p)``.
        """
        mean, covariance = self.joint(inputs)
        p = len(inputs)
        # The jitter is far below what separates points worth asking for, and stands for the noise of a fantasy.
        jitter = 1e-8
        lower = cholesky_with_jitter(
            covariance + jitter * torch.eye(p, dtype=mean.dtype, device=mean.device)
        )
        samples = mean + lower @ normals.permute(1, 2, 0)  # (k, p, F)
        cross, _ = self.kernel.matrix(self.log_lengthscales, inputs, self.inputs)
        side = (
            cross @ self.inverse_cholesky.mT
        )  # (k, p, n): rows of the new factor left of its corner
        n, k = len(self.inputs), len(self.log_lengthscales)
        factor = self.cholesky.new_zeros(k, n + p, n + p)
        factor[:, :n, :n], factor[:, n:, :n], factor[:, n:, n:] = self.cholesky, side, lower
        whitener = torch.zeros_like(factor)
        corner = _inverse(lower)
        whitener[:, :n, :n], whitener[:, n:, n:] = self.inverse_cholesky, corner
        whitener[:, n:, :n] = -corner @ side @ self.inverse_cholesky
        told = self.values.expand(k, n, samples.shape[-1])
        values = torch.cat([told, samples], 1)
        weights = whitener.mT @ (whitener @ (values - self.constant[:, None, None]))
        noise = torch.cat(
            [self.noise, torch.full((k, p), jitter, dtype=mean.dtype, device=mean.device)], 1
        )
        after = replace(
            self, noise=noise, inputs=torch.cat([self.inputs, inputs]), values=values, cholesky=factor,
            inverse_cholesky=whitener, weights=weights,
        )  # fmt: skip
        return after, samples.permute(2, 0, 1)

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Means and variances, noise included, ``(n, k)`` each, of every told value predicted from all others.

        Closed form (Rasmussen & Williams 2006, eq. 5.12); hyperparameters and constant stay as they are.
        """
        precision = (self.inverse_cholesky * self.inverse_cholesky).sum(
            1
        )  # the diagonal of the inverse
        mean = self.values[..., 0] - self.weights[..., 0] / precision
        return mean.T, (1.0 / precision).T


def condition(
    kernel: Kernel,
    log_lengthscales: Tensor,
    noise: Tensor,
    inputs: Tensor,
    values: Tensor,
    constant: Tensor | None = None,
) -> GPPosterior:
    """The processes after their data.

    Args:
        kernel: of all outputs.
        logs: logarithms of the lengthscales, shape ``(k, d)``.
        noise: variances, shape ``(k,)``, or ``(k, n)`` where every observation has its own.
        inputs: shape ``(n, d)``.
        values: shape ``(n, k)``.
        constant: means before the data, shape ``(k,)``; default: the most probable ones.
    """
    gram, _ = kernel.gram(log_lengthscales, inputs)
    spread = noise if noise.dim() == 2 else noise[:, None].expand(-1, len(inputs))
    gram.diagonal(dim1=-2, dim2=-1).add_(spread)
    factor = cholesky_with_jitter(gram)
    whitener = _inverse(factor)
    target = values.mT.unsqueeze(-1)
    ones = whitener.sum(-1, keepdim=True)
    if constant is None:
        constant = (ones * (whitener @ target)).sum((-2, -1)) / (ones * ones).sum((-2, -1))
    weights = whitener.mT @ (whitener @ (target - constant[:, None, None]))
    return GPPosterior(
        kernel, log_lengthscales, spread, constant, inputs, target, factor, whitener, weights
    )


def cholesky_with_jitter(matrix: Tensor) -> Tensor:
    """Lower Cholesky factors of covariances ``(..., n, n)``; the diagonal is raised where rounding demands it."""
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    jitter = 1e-10
    while bool(info.any()) and jitter < 1.0:
        raised = matrix.clone()
        raised.diagonal(dim1=-2, dim2=-1).add_(jitter)
        factor, info = torch.linalg.cholesky_ex(raised)
        jitter *= 10.0
    return factor


def _inverse(factor: Tensor) -> Tensor:
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return inverse


class _Posterior(torch.autograd.Function):
    """Mean and variance as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, process: GPPosterior) -> tuple[Tensor, Tensor]:
        cross, saved = process.kernel.matrix(
            process.log_lengthscales, inputs, process.inputs
        )  # (k, m, n)
        white = cross @ process.inverse_cholesky.mT
        mean = process.constant[:, None, None] + cross @ process.weights
        variance = (1.0 - (white * white).sum(-1)).clamp(min=_MIN_VARIANCE)
        ctx.gp, ctx.saved, ctx.white = process, saved, white
        return mean.transpose(0, 1), variance.mT

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        of_mean, of_variance = upstream  # (m, k, F), (m, k)
        process: GPPosterior = ctx.gp
        pull = of_mean.transpose(0, 1) @ process.weights.mT
        pull = pull - 2.0 * of_variance.mT.unsqueeze(-1) * (ctx.white @ process.inverse_cholesky)
        return process.kernel.gradient_in_inputs(ctx.saved, pull).sum(0), None
