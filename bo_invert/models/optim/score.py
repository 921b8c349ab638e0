"""Scores that a search maximises, with their gradients.

A search calls a score some hundred times with few points. Scores with a closed gradient compute it
in numpy; autograd of torch would spend most of the time in its dispatch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.search_domain import Domain
from bo_invert.models.array_module import as_array
from bo_invert.types import Array, Indices

Score = Callable[[Tensor], Tensor]
"""Function from unit inputs ``(b, d)`` to scores ``(b,)``, or to scores ``(q, b)`` of q functions;
higher is better."""


class DifferentiableScore(ABC):
    """Score of arrays with a gradient; it is also a differentiable function of tensors."""

    @abstractmethod
    def values(self, inputs: Array) -> Array:
        """Return scores ``(b,)`` or ``(q, b)`` of unit inputs ``(b, d)``."""

    @abstractmethod
    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        """Return scores ``(b,)`` and their gradients ``(b, d)`` at unit inputs ``(b, d)``.

        Args:
            inputs: Unit inputs, shape ``(b, d)``.
            functions: Number of the function of each input, shape ``(b,)``; 0 for one function.
        """

    def __call__(self, inputs: Tensor) -> Tensor:
        values: Tensor = _Evaluation.apply(inputs, self)  # type: ignore[no-untyped-call]
        return values


class _Evaluation(torch.autograd.Function):
    """Scores as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, score: DifferentiableScore) -> Tensor:
        ctx.score, ctx.inputs = score, inputs
        return torch.as_tensor(score.values(as_array(inputs)))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        inputs = as_array(ctx.inputs)
        weights = as_array(upstream[0]).reshape(-1, len(inputs))
        total = np.zeros_like(inputs)
        for number, own in enumerate(weights):
            functions = np.full(len(inputs), number)
            total += own[:, None] * ctx.score.gradient(inputs, functions)[1]
        return torch.as_tensor(total), None


@dataclass(frozen=True)
class TorchScore(DifferentiableScore):
    """Score of tensors, differentiated by autograd."""

    score: Score

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.score(inputs)

    @torch.no_grad()
    def values(self, inputs: Array) -> Array:
        return as_array(self.score(torch.tensor(inputs)))

    @torch.inference_mode(False)
    @torch.enable_grad()
    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        # The sum over independent points gives each point its own gradient.
        at = torch.tensor(inputs, requires_grad=True)
        value = self.score(at)
        if value.ndim == 2:
            value = value[functions, np.arange(len(inputs))]
        (gradient,) = torch.autograd.grad(value.sum(), at)
        return as_array(value), as_array(gradient)


@dataclass(frozen=True)
class SumScore(DifferentiableScore):
    """Sum of two scores. Either may be many functions; one function is added to each of them."""

    first: DifferentiableScore
    second: DifferentiableScore

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.first(inputs) + self.second(inputs)

    def values(self, inputs: Array) -> Array:
        return self.first.values(inputs) + self.second.values(inputs)

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        first, by_first = self.first.gradient(inputs, functions)
        second, by_second = self.second.gradient(inputs, functions)
        return first + second, by_first + by_second


@dataclass(frozen=True)
class _ProjectedScore(DifferentiableScore):
    """Score at the nearest points in the ball of a latent."""

    score: DifferentiableScore
    domain: Domain

    def values(self, inputs: Array) -> Array:
        return self.score.values(self._project(inputs)[0])

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        inside, shrink, normal = self._project(inputs)
        value, slope = self.score.gradient(inside, functions)
        # x -> r x / |x| has the derivative r / |x| (I - n n') with n = x / |x|.
        along = (slope * normal).sum(1)[:, None] * normal
        return value, shrink * np.where(shrink < 1.0, slope - along, slope)

    def _project(self, inputs: Array) -> tuple[Array, Array, Array]:
        """Return projected inputs, factors ``(b, 1)`` of their points, and unit normals."""
        lower, upper = self.domain.bounds
        points = lower + inputs * (upper - lower)
        norm = np.maximum(np.linalg.norm(points, axis=1)[:, None], 1e-12)
        shrink = np.minimum(self.domain.radius / norm, 1.0)
        return (points * shrink - lower) / (upper - lower), shrink, points / norm


@dataclass(frozen=True)
class _RoundedScore(DifferentiableScore):
    """Score at the nearest valid values of discrete coordinates, which have no derivative."""

    score: DifferentiableScore
    domain: Domain

    def values(self, inputs: Array) -> Array:
        return self.score.values(self._round(inputs))

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        value, slope = self.score.gradient(self._round(inputs), functions)
        return value, np.where(self._real(inputs), slope, 0.0)

    def _round(self, inputs: Array) -> Array:
        if isinstance(self.domain, ConstrainedBox):
            # Searches under input constraints evaluate valid points only.
            return inputs
        return np.where(self._real(inputs), inputs, self.domain.project(inputs))

    def _real(self, inputs: Array) -> NDArray[np.bool_]:
        """Return a mask of real coordinates of active parameters, ``(d,)`` or ``(b, d)``."""
        real = self._continuous
        return real & ~self.domain.inactive(inputs) if self.domain.conditional else real

    @cached_property
    def _continuous(self) -> NDArray[np.bool_]:
        parameters = self.domain.parameters.values()
        return np.array([p.continuous for p in parameters for _ in range(p.width)])


def differentiable(score: Score) -> DifferentiableScore:
    """Return a score of tensors with the interface of ``DifferentiableScore``."""
    return score if isinstance(score, DifferentiableScore) else TorchScore(score)


def at_valid(score: Score, domain: Domain) -> DifferentiableScore:
    """Build the score at the valid unit inputs ``(b, d)`` that are nearest to unit inputs.

    Gradients pass through real coordinates; a latent is projected to the ball of points above the
    plausibility bound.
    """
    if domain.latent:
        return _ProjectedScore(differentiable(score), domain)
    if domain.continuous:
        return differentiable(score)
    return _RoundedScore(differentiable(score), domain)
