"""Functions drawn from a posterior: Thompson samples that can be evaluated anywhere and differentiated.

A draw from the prior, as a sum of random cosines (Rahimi & Recht 2007), is corrected by what the process knows of its
data (Wilson et al., ICML 2020, "Efficiently sampling functions from Gaussian process posteriors"). The correction is
exact, so paths pass through told values whatever the number of cosines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.gp.kernels import Kernel
from bo_invert.models.gp.posterior import GPPosterior

if TYPE_CHECKING:
    from bo_invert.models.gp.surrogate import Surrogate
    from bo_invert.models.output_transforms import ModelledOutputs

_DEGREES = 5
"""The spectral density of Matern with smoothness 5/2 is Student's with twice as many degrees of freedom."""
_WORST = 1e6
"""Units above the best loss told: below this, scores are those of violations."""


@dataclass(frozen=True, eq=False)
class PosteriorPaths:
    """q functions for each of k outputs. Build them with ``draw``.

    Args:
        process: whose posterior they are drawn from.
        frequencies: of the cosines, shape ``(k, R, d)``; shared by the paths of an output.
        cosines: amplitudes, shape ``(k, R, q)``.
        sines: amplitudes, shape ``(k, R, q)``.
        update: coefficients of the kernel at the data, shape ``(k, n, q)``.
    """

    gp: GPPosterior
    frequencies: Tensor
    cosines: Tensor
    sines: Tensor
    update: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Values ``(..., k, q)`` of all paths at inputs ``(..., d)``; differentiable."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        values: Tensor = _Evaluation.apply(flat, self)  # type: ignore[no-untyped-call]
        return values.reshape(*inputs.shape[:-1], *values.shape[1:])


def draw_paths(process: GPPosterior, count: int, seed: int, features: int = 512) -> PosteriorPaths:
    """``count`` independent functions from the posterior of each output.

    Args:
        process: without fantasies.
        count: q, at least 1.
        seed: of the random numbers.
        features: R, the number of frequencies for each output: the prior's covariance is off by about
            ``R ** -0.5`` far from the data, and exact at the data.
    """
    k, n = process.noise.shape
    d = process.inputs.shape[1]
    like = process.inputs
    frequencies = _frequencies(
        process.kernel, features, d, seed, like
    ) / process.log_lengthscales.exp().unsqueeze(1)
    generator = torch.Generator().manual_seed(seed)
    amplitudes = torch.randn(2, k, features, count, dtype=torch.float64, generator=generator).to(
        like
    )
    cosines, sines = amplitudes / math.sqrt(features)
    error = torch.randn(k, n, count, dtype=torch.float64, generator=generator).to(like)
    phase = process.inputs @ frequencies.mT
    prior = phase.cos() @ cosines + phase.sin() @ sines
    off = (
        process.values[..., :1]
        - process.constant[:, None, None]
        - prior
        - process.noise.sqrt().unsqueeze(-1) * error
    )
    update = process.inverse_cholesky.mT @ (process.inverse_cholesky @ off)
    return PosteriorPaths(process, frequencies, cosines, sines, update)


def thompson_scores(
    surrogate: Surrogate, outputs: ModelledOutputs, count: int, seed: int
) -> Callable[[Tensor], Tensor]:
    """Scores ``(q, b)`` of unit inputs ``(b, d)``, higher is better: one row for each of q drawn functions.

    Minus the loss of the drawn outputs, in units of how much the told ones differ. What violates a drawn
    constraint ranks below all that violates none, and by how much it does (Eriksson & Poloczek 2021).

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: how modelled numbers become losses.
        count: q.
        seed: of the draws.
    """
    paths = draw_paths(surrogate.gp, count, seed)
    loss = surrogate.loss_function(outputs)
    told = loss(surrogate.gp.values[..., 0].T)
    low, unit = told.min(), told.std(correction=0)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))

    def scores(inputs: Tensor) -> Tensor:
        numbers = paths(inputs).permute(2, 0, 1)  # (q, b, k)
        score = (low - loss(numbers)) / unit
        if not outputs.constraint_excesses:
            return score
        missed = outputs.violation(surrogate.values(numbers))
        # Bounded, a score cannot outweigh a violation; gradients go on speaking of both.
        return torch.where(missed > 0.0, -_WORST * (1.0 + missed), score.clamp(min=-_WORST))

    return scores


def _frequencies(kernel: Kernel, features: int, d: int, seed: int, like: Tensor) -> Tensor:
    """Draws ``(R, d)`` from the spectral density for lengthscales of 1; quasi-random, so fewer serve.

    Raises:
        InvalidInputError: nobody has written down the kernel's spectral density here.
    """
    if kernel.name not in ("rbf", "matern"):
        raise InvalidInputError(
            f"no spectral density is known of kernel {kernel.name!r}; there are 'rbf' and 'matern'"
        )
    if kernel.name == "rbf":
        return sobol_normals(features, d, seed, like)
    drawn = sobol_normals(features, d + _DEGREES, seed, like)
    return drawn[:, :d] / drawn[:, d:].square().mean(-1, keepdim=True).sqrt()


class _Evaluation(torch.autograd.Function):
    """All paths as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, paths: PosteriorPaths) -> Tensor:
        process = paths.gp
        phase = inputs @ paths.frequencies.mT  # (k, m, R)
        cosine, sine = phase.cos(), phase.sin()
        cross, saved = process.kernel.matrix(process.log_lengthscales, inputs, process.inputs)
        values = cosine @ paths.cosines + sine @ paths.sines + cross @ paths.update
        ctx.paths, ctx.waves, ctx.saved = paths, (cosine, sine), saved
        return (values + process.constant[:, None, None]).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        paths: PosteriorPaths = ctx.paths
        cosine, sine = ctx.waves
        pull = upstream[0].transpose(0, 1)  # (k, m, q)
        of_phase = cosine * (pull @ paths.sines.mT) - sine * (pull @ paths.cosines.mT)
        of_data = paths.gp.kernel.gradient_in_inputs(ctx.saved, pull @ paths.update.mT)
        return (of_phase @ paths.frequencies + of_data).sum(0), None
