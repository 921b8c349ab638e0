"""Scores that are functions of posterior means and variances, with gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.added_variance import AddedVariance
from bo_invert.models.array_module import A, as_array, matching, on_host
from bo_invert.models.gp.posterior import GPPosterior, Moments, MomentsCache
from bo_invert.models.optim.score import DifferentiableScore
from bo_invert.types import Array, Indices

_MATRIX_ELEMENTS = 100_000
"""Numbers in the kernel matrices that are computed together. Engineering choice: 800 kB stay in the
cache of a core."""
_LEAST_ROWS = 32
"""Points that are evaluated together. Engineering choice: fewer would repeat overhead."""


class Slopes(NamedTuple, Generic[A]):
    """Scores ``(b,)`` with their derivatives in the moments of k outputs and F fantasies."""

    value: A
    by_mean: A
    """Derivatives in the means, shape ``(b, k, F)``."""
    by_variance: A
    """Derivatives in the variances, shape ``(b, k)``."""


class Head(ABC):
    """Score of means ``(b, k, F)`` and variances ``(b, k)``."""

    def value(self, mean: A, variance: A) -> A:
        """Return scores ``(b,)``."""
        return self(mean, variance).value

    @abstractmethod
    def __call__(self, mean: A, variance: A) -> Slopes[A]:
        """Return scores ``(b,)`` and their derivatives."""


@dataclass(frozen=True)
class AutogradHead(Head):
    """Head that autograd differentiates; only its own operations are recorded.

    Args:
        function: Function from means ``(b, k, F)`` and variances ``(b, k)`` to scores ``(b,)``.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    @torch.no_grad()
    def value(self, mean: A, variance: A) -> A:
        return returned(self.function(torch.as_tensor(mean), torch.as_tensor(variance)), mean)

    def __call__(self, mean: A, variance: A) -> Slopes[A]:
        value, by_mean, by_variance = autograd_slopes(self.function, mean, variance)
        return Slopes(value, by_mean, by_variance)


@torch.inference_mode(False)
@torch.enable_grad()
def autograd_slopes(function: Callable[..., Tensor], *arguments: A) -> tuple[A, ...]:
    """Return values of a function of tensors, and the gradients of their sum in its arguments."""
    leaves = [torch.as_tensor(x).clone().requires_grad_() for x in arguments]
    results = [function(*leaves)]
    results += torch.autograd.grad(results[0].sum(), leaves)
    found: list[A] = [returned(x, arguments[0]) for x in results]
    return tuple(found)


def returned(values: Tensor, like: A) -> A:
    """Return a tensor as an array if the arguments were arrays."""
    return as_array(values) if isinstance(like, np.ndarray) else values.detach()


@dataclass(frozen=True, eq=False)
class MomentScore(DifferentiableScore, Generic[A]):
    """Score ``head(mean(x), variance(x))`` of one function.

    Args:
        moments: Moments of the posterior, of arrays or of tensors on a device.
        head: Score of the moments.
        added: Variance that is added to that of the posterior; None for none.
    """

    moments: Moments[A]
    head: Head
    added: AddedVariance | None = None

    def values(self, inputs: Array) -> Array:
        weights = self.moments.weights
        few = max(_LEAST_ROWS, _MATRIX_ELEMENTS // (weights.shape[0] * weights.shape[1]))
        step = few if isinstance(weights, np.ndarray) else max(1, len(inputs))
        parts = []
        with np.errstate(all="ignore"):
            for i in range(0, max(1, len(inputs)), step):
                at = matching(inputs[i : i + step], self.moments.inputs)
                mean, variance, _ = self._moments(at)
                parts.append(as_array(self.head.value(mean, variance)))
        return np.concatenate(parts)

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        at = matching(inputs, self.moments.inputs)
        mean, variance, cache = self._moments(at)
        value, by_mean, by_variance = self.head(mean, variance)
        slope = self.moments.gradient(cache, by_mean, by_variance)
        if self.added is not None:
            slope = slope + self.added.gradient(at, by_variance)
        return as_array(value), as_array(slope)

    def _moments(self, inputs: A) -> tuple[A, A, MomentsCache[A]]:
        mean, variance, cache = self.moments(inputs)
        if self.added is not None:
            variance = variance + self.added(inputs)
        return mean, variance, cache


def moment_score(
    gp: GPPosterior, head: Head, added: AddedVariance | None = None
) -> DifferentiableScore:
    """Build a score of the moments of a posterior, in numpy on the CPU."""
    if not on_host(gp.inputs):
        return MomentScore(gp.moments, head, added)
    return MomentScore(gp.array_moments, head, None if added is None else added.on_host())
