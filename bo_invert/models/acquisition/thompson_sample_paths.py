"""Thompson samples: differentiable functions drawn from a posterior.

A prior draw, a sum of random cosines (Rahimi & Recht 2007), is corrected at the data by Matheron's
rule (Wilson et al., ICML 2020). The correction is exact, so samples interpolate the data with any
number of cosines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.gp.kernels import Kernel
from bo_invert.models.gp.mixed_kernel import MixedKernel
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.output_transforms import ModelledOutputs

_WORST = 1e6
"""Bound of a feasible score in standard deviations of the observed losses. Engineering choice:
violations score below it."""


@dataclass(frozen=True, eq=False)
class PosteriorPaths:
    """Samples f(x) = m + sum_r [c_r cos(w_r'x) + s_r sin(w_r'x)] + k(x)' u; see ``draw_paths``.

    Args:
        gp: Posterior of the samples.
        frequencies: w, shared by the samples of an output, shape ``(k, R, d)``.
        cosines: Amplitudes c, shape ``(k, R, q)``.
        sines: Amplitudes s, shape ``(k, R, q)``.
        update: Weights u of the kernel at the data, shape ``(k, n, q)``.
    """

    gp: GPPosterior
    frequencies: Tensor
    cosines: Tensor
    sines: Tensor
    update: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return values ``(..., k, q)`` of all samples at inputs ``(..., d)``."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        values: Tensor = _Evaluation.apply(flat, self)  # type: ignore[no-untyped-call]
        return values.reshape(*inputs.shape[:-1], *values.shape[1:])


def draw_paths(gp: GPPosterior, count: int, seed: int, features: int = 512) -> PosteriorPaths:
    """Draw independent functions from the posterior of each output.

    Matheron's rule: f | y = f + k(x)' C^-1 (y - m - f(X) - noise) with a prior draw f.

    Args:
        gp: Posterior without fantasies.
        count: Number of functions q, at least 1.
        seed: Seed of the random numbers.
        features: Number of frequencies R of each output. The error of the prior covariance is
            about R^-1/2 far from the data, and 0 at the data.
    """
    k, n = gp.noise.shape
    like = gp.inputs
    unit = _frequencies(gp.kernel, features, like.shape[1], seed, like)
    scales = gp.kernel.column_log_lengthscales(gp.log_lengthscales).exp()
    frequencies = unit / scales.unsqueeze(1)
    if isinstance(gp.kernel, MixedKernel):
        # The spectral density of a sum of kernels is a mixture; each frequency has one term.
        order = torch.randperm(features, generator=torch.Generator().manual_seed(seed))
        terms = (order.to(like) + 0.5) / features
        frequencies = frequencies * gp.kernel.term_factors(gp.log_lengthscales, terms)
    generator = torch.Generator().manual_seed(seed)
    # c_r, s_r ~ N(0, 1/R) give the covariance mean_r cos(w_r'(x - x')), which tends to k(x, x').
    amplitudes = torch.randn(2, k, features, count, dtype=torch.float64, generator=generator)
    cosines, sines = amplitudes.to(like) / math.sqrt(features)
    # The noise draw makes the sample exact for noisy data, too.
    error = torch.randn(k, n, count, dtype=torch.float64, generator=generator).to(like)
    phase = gp.inputs @ frequencies.mT
    prior = phase.cos() @ cosines + phase.sin() @ sines
    off = (
        gp.values[..., :1]
        - gp.constant[:, None, None]
        - prior
        - gp.noise.sqrt().unsqueeze(-1) * error
    )
    update = gp.inverse_cholesky.mT @ (gp.inverse_cholesky @ off)
    return PosteriorPaths(gp, frequencies, cosines, sines, update)


def thompson_scores(
    surrogate: Surrogate, outputs: ModelledOutputs, count: int, seed: int
) -> Callable[[Tensor], Tensor]:
    """Build scores ``(q, b)`` of unit inputs ``(b, d)``: one row for each drawn function.

    A score is the negative loss in standard deviations of the observed losses. Infeasible values
    rank below all feasible ones, by their violation (SCBO: Eriksson & Poloczek, AISTATS 2021).

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Map from modelled outputs to losses.
        count: Number of functions q.
        seed: Seed of the draws.
    """
    paths = draw_paths(surrogate.gp, count, seed)
    loss = surrogate.loss_function(outputs)
    observed = loss(surrogate.gp.values[..., 0].T)
    # The unit puts losses and violations on one scale; equal losses have unit 1.
    low, unit = observed.min(), observed.std(correction=0)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))

    def scores(inputs: Tensor) -> Tensor:
        drawn = paths(inputs).permute(2, 0, 1)  # (q, b, k)
        score = (low - loss(drawn)) / unit
        if not outputs.statement.constraints:
            return score
        violation = outputs.violation(surrogate.values(drawn))
        # The clamp keeps feasible scores above infeasible ones; both have gradients.
        return torch.where(violation > 0.0, -_WORST * (1.0 + violation), score.clamp(min=-_WORST))

    return scores


def _frequencies(kernel: Kernel, features: int, d: int, seed: int, like: Tensor) -> Tensor:
    """Draw quasi-random frequencies ``(R, d)`` from the spectral density at lengthscales 1.

    It is normal for RBF. For Matern-5/2 it is Student's t with 5 degrees of freedom: a normal
    vector over sqrt(chi^2_5 / 5) (Rasmussen & Williams 2006, eq. 4.15).

    Raises:
        InvalidInputError: The spectral density is unknown.
    """
    base = kernel.base if isinstance(kernel, MixedKernel) else kernel
    if base.name not in ("rbf", "matern"):
        raise InvalidInputError(
            f"thompson: kernel must be 'rbf' or 'matern', got {kernel.name!r}. "
            "The spectral density of other kernels is unknown."
        )
    if base.name == "rbf":
        return sobol_normals(features, d, seed, like)
    normals = sobol_normals(features, d + 5, seed, like)
    drawn = normals[:, :d] / normals[:, d:].square().mean(-1, keepdim=True).sqrt()
    if isinstance(kernel, MixedKernel):  # the kernels of choices are squared exponentials
        choices = [column for columns in kernel.structure.choices for column in columns]
        drawn[:, choices] = normals[:, choices]
    return drawn


class _Evaluation(torch.autograd.Function):
    """Evaluation of all samples as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, paths: PosteriorPaths) -> Tensor:
        gp = paths.gp
        phase = inputs @ paths.frequencies.mT  # (k, m, R)
        cosine, sine = phase.cos(), phase.sin()
        cross, cache = gp.kernel.matrix(gp.log_lengthscales, inputs, gp.inputs)
        values = cosine @ paths.cosines + sine @ paths.sines + cross @ paths.update
        ctx.paths, ctx.waves, ctx.cache = paths, (cosine, sine), cache
        return (values + gp.constant[:, None, None]).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        paths: PosteriorPaths = ctx.paths
        cosine, sine = ctx.waves
        pull = upstream[0].transpose(0, 1)  # (k, m, q)
        # d cos(w'x) = -sin(w'x) w' dx and d sin(w'x) = cos(w'x) w' dx
        by_phase = cosine * (pull @ paths.sines.mT) - sine * (pull @ paths.cosines.mT)
        by_data = paths.gp.kernel.gradient_in_inputs(ctx.cache, pull @ paths.update.mT)
        return (by_phase @ paths.frequencies + by_data).sum(0), None
