"""Thompson samples: differentiable functions drawn from a posterior.

A prior draw, a sum of random cosines (Rahimi & Recht 2007), is corrected at the data by Matheron's
rule (Wilson et al., ICML 2020). The correction is exact, so samples interpolate the data with any
number of cosines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Generic, NamedTuple, Protocol

import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.acquisition.moment_score import autograd_slopes, returned
from bo_invert.models.array_module import A, array_module, as_array, cosine, matching, on_host, sine
from bo_invert.models.gp.kernels import Kernel, KernelCache
from bo_invert.models.gp.mixed_kernel import MixedKernel
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.optim.score import DifferentiableScore
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import Array, Indices

_WORST = 1e6
"""Bound of a feasible score in standard deviations of the observed losses. Engineering choice:
violations score below it."""


class PathCache(NamedTuple, Generic[A]):
    """Intermediate results for gradients of b values: d(waves)/d(phase), and kernel weights."""

    slopes: A
    kernel: KernelCache[A]
    update: A


@dataclass(frozen=True, eq=False)
class PosteriorPaths(Generic[A]):
    """Samples f(x) = m + sum_r [c_r cos(w_r'x) + s_r sin(w_r'x)] + k(x)' u; see ``draw_paths``.

    Args:
        kernel: Kernel of all outputs.
        log_lengthscales: Hyperparameters of the kernel, shape ``(k, h)``.
        constant: Prior means m, shape ``(k,)``.
        inputs: Observed inputs, shape ``(n, d)``.
        frequencies: w, shared by the samples of an output, shape ``(k, R, d)``.
        cosines: Amplitudes c, shape ``(k, R, q)``.
        sines: Amplitudes s, shape ``(k, R, q)``.
        update: Weights u of the kernel at the data, shape ``(k, n, q)``.
    """

    kernel: Kernel
    log_lengthscales: A
    constant: A
    inputs: A
    frequencies: A
    cosines: A
    sines: A
    update: A

    def __call__(self, inputs: A) -> A:
        """Return values ``(..., k, q)`` of all samples at inputs ``(..., d)``."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        phase: A = flat @ self.frequencies.swapaxes(-1, -2)  # (k, m, R)
        cross, _ = self._kernel_matrix(flat)
        values: A = cross @ self.update + self.constant[:, None, None]
        if self.cosines.shape[-1] == 1:
            # c cos(p) + s sin(p) = |(c, s)| cos(p - angle(c, s)) has half as many cosines.
            xp = array_module(flat)
            angles = xp.arctan2(self.sines, self.cosines).swapaxes(-1, -2)
            values = values + cosine(phase - angles) @ xp.hypot(self.cosines, self.sines)
        else:
            values = values + cosine(phase) @ self.cosines + sine(phase) @ self.sines
        return values.swapaxes(0, 1).reshape(*inputs.shape[:-1], *values.shape[::2])

    def at(self, inputs: A, functions: Indices) -> tuple[A, PathCache[A]]:
        """Return values ``(b, k)`` of one function at each input ``(b, d)``, and a cache."""
        phase: A = inputs @ self.frequencies.swapaxes(-1, -2)  # (k, b, R)
        waves, shifted = cosine(phase), sine(phase)
        c, s, u = (
            weights[:, :, functions].swapaxes(1, 2)
            for weights in (self.cosines, self.sines, self.update)
        )
        cross, cache = self._kernel_matrix(inputs)
        values: A = (waves * c + shifted * s).sum(-1) + (cross * u).sum(-1)
        values = values + self.constant[:, None]
        # d cos(w'x) = -sin(w'x) w' dx and d sin(w'x) = cos(w'x) w' dx
        return values.swapaxes(0, 1), PathCache(waves * s - shifted * c, cache, u)

    def gradient(self, cache: PathCache[A], by_values: A) -> A:
        """Return the gradient ``(b, d)`` of sum(by_values * values), by_values ``(b, k)``."""
        pull = by_values.swapaxes(0, 1)[..., None]  # (k, b, 1)
        by_data = self.kernel.gradient_in_inputs(cache.kernel, pull * cache.update)
        gradient: A = ((pull * cache.slopes) @ self.frequencies + by_data).sum(0)
        return gradient

    @cached_property
    def _kernel_matrix(self) -> Callable[[A], tuple[A, KernelCache[A]]]:
        return self.kernel.against(self.log_lengthscales, self.inputs)


def draw_paths(
    gp: GPPosterior, count: int, seed: int, features: int = 512
) -> PosteriorPaths[Tensor]:
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
    return PosteriorPaths(
        gp.kernel, gp.log_lengthscales, gp.constant, like, frequencies, cosines, sines, update
    )


class PathHead(Protocol):
    """Score of values of drawn functions."""

    def __call__(self, drawn: Tensor) -> Tensor:
        """Return scores ``(...)`` of values ``(..., k)``."""

    def slopes(self, drawn: A) -> tuple[A, A]:
        """Return scores ``(b,)`` of values ``(b, k)``, and their derivatives ``(b, k)``."""


@dataclass(frozen=True, eq=False)
class _LossHead:
    """Negative loss ``(low - loss) / unit``, minus a penalty for violations.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Map from modelled outputs to losses.
        low: Lowest observed loss.
        unit: Unit of the score.
    """

    surrogate: Surrogate
    outputs: ModelledOutputs
    low: Tensor
    unit: Tensor

    def __call__(self, drawn: Tensor) -> Tensor:
        score: Tensor = (self.low - self._loss(drawn)) / self.unit
        if not self.outputs.statement.constraints:
            return score
        violation = self.outputs.violation(self.surrogate.values(drawn))
        # The clamp keeps feasible scores above infeasible ones; both have gradients.
        return torch.where(violation > 0.0, -_WORST * (1.0 + violation), score.clamp(min=-_WORST))

    def slopes(self, drawn: A) -> tuple[A, A]:
        if self.outputs.loss_column is None or self.outputs.statement.constraints:
            value, by_drawn = autograd_slopes(self, drawn)
            return value, by_drawn
        column, sign = self.outputs.loss_column
        values = self.surrogate.values(torch.as_tensor(drawn))
        slope = (-sign / self.unit) * self.surrogate.weights[:, column]  # (k,)
        by_values = slope * torch.ones_like(values[:, :1])
        if self.surrogate.warp is not None:
            by_values = by_values / self.surrogate.warp.log_slope(values)[:, [column]].exp()
        score = (self.low - sign * values[:, column]) / self.unit
        return returned(score, drawn), returned(by_values, drawn)

    @cached_property
    def _loss(self) -> Callable[[Tensor], Tensor]:
        return self.surrogate.loss_function(self.outputs)


@dataclass(frozen=True, eq=False)
class PathScores(DifferentiableScore, Generic[A]):
    """Scores ``head(f(x))`` of q drawn functions f.

    Args:
        paths: Functions of arrays, or of tensors on a device.
        head: Score of their values.
    """

    paths: PosteriorPaths[A]
    head: PathHead

    @torch.no_grad()
    def values(self, inputs: Array) -> Array:
        drawn = torch.as_tensor(self.paths(matching(inputs, self.paths.inputs)))
        return as_array(self.head(drawn.permute(2, 0, 1)))

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        drawn, cache = self.paths.at(matching(inputs, self.paths.inputs), functions)
        value, by_values = self.head.slopes(drawn)
        return as_array(value), as_array(self.paths.gradient(cache, by_values))


def thompson_scores(
    surrogate: Surrogate, outputs: ModelledOutputs, count: int, seed: int
) -> DifferentiableScore:
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

    head = _LossHead(surrogate, outputs, low, unit)
    if not on_host(surrogate.offset):
        return PathScores(paths, head)
    names = [field.name for field in fields(paths)][1:]
    return PathScores(
        PosteriorPaths(paths.kernel, *(as_array(getattr(paths, name)) for name in names)), head
    )


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
