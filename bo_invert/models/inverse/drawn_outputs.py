"""Drawn functions of the modelled outputs, with deviations that cover left-out observations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.models.acquisition.thompson_sample_paths import PosteriorPaths, draw_paths
from bo_invert.models.array_module import as_array
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.optim.score import DifferentiableScore, Score, differentiable
from bo_invert.types import Array, Indices

_FEASIBLE, _PROBABLE = np.log(0.05), np.log(0.5)
"""Log probabilities of outputs below which a point counts as infeasible, for draws and the mean.
Engineering choice: a point that returns outputs with a probability of 5 % may still be the only
hit. The nearest outputs should probably exist."""
_MARGIN = 0.1
"""Distance by which a descent enters a target, as a share of its tolerance. Engineering choice: it
converges to the edge only in the limit."""
_SHARPNESS = 30.0
"""Sharpness of the smooth maximum, times its value. Engineering choice: the error of k equal
entries is log(k) / 30 of the maximum."""


@dataclass(frozen=True, eq=False)
class DrawnOutputs:
    """Outputs of q functions: the posterior mean, number 0, and q - 1 draws.

    A draw f of Matheron's rule is widened to ``mean + g (f - mean)``, with g^2 the factor of
    ``TargetModel.inflation``, which is at least 1.

    Args:
        paths: Functions of the scores.
        weights: Outputs of the scores, shape ``(k, c)``.
        offset: Outputs at scores 0, shape ``(c,)``.
        log_feasible: Log probability that the oracle returns outputs; None for 0.
    """

    paths: PosteriorPaths[NDArray[Any]]
    weights: Array
    offset: Array
    log_feasible: DifferentiableScore | None

    @staticmethod
    def of(
        surrogate: Surrogate,
        inflation: Tensor,
        log_feasible: Score | None,
        size: tuple[int, int],
        seed: int,
    ) -> DrawnOutputs:
        """Draw functions beside the mean.

        Args:
            surrogate: Surrogate without an output warp.
            inflation: Factors of the variances of the scores, shape ``(k,)``.
            log_feasible: Log probability of outputs at unit inputs.
            count: Number of draws.
            size: Numbers of draws and of their frequencies; see ``draw_paths``.
            seed: Seed of the draws.
        """
        gp, paths = surrogate.gp, draw_paths(surrogate.gp, size[0], seed, size[1])
        factor = inflation.sqrt()[:, None, None]
        zeros = torch.zeros_like(paths.cosines[..., :1])
        mean = gp.weights[..., :1]
        update = torch.cat([mean, mean + factor * (paths.update - mean)], -1)
        cosines, sines = (
            torch.cat([zeros, factor * waves], -1) for waves in (paths.cosines, paths.sines)
        )
        arrays = (
            paths.log_lengthscales, paths.constant, paths.inputs, paths.frequencies, cosines,
            sines, update,
        )  # fmt: skip
        return DrawnOutputs(
            PosteriorPaths(paths.kernel, *map(as_array, arrays)),
            as_array(surrogate.weights), as_array(surrogate.offset),
            None if log_feasible is None else differentiable(log_feasible),
        )  # fmt: skip

    def only_mean(self) -> DrawnOutputs:
        """Return the posterior mean alone."""
        first = (part[..., :1] for part in (self.paths.cosines, self.paths.sines))
        cosines, sines = (np.ascontiguousarray(part) for part in first)
        update = np.ascontiguousarray(self.paths.update[..., :1])
        return replace(self, paths=replace(self.paths, cosines=cosines, sines=sines, update=update))

    @property
    def count(self) -> int:
        """Number q of functions."""
        return int(self.paths.update.shape[-1])

    def __call__(self, inputs: Array, chunk: int = 512) -> Array:
        """Return outputs ``(b, q, c)`` of all functions at unit inputs ``(b, d)``."""
        return np.asarray(self.scores(inputs, chunk) @ self.weights + self.offset)

    def scores(self, inputs: Array, chunk: int = 512) -> Array:
        """Return scores ``(b, q, k)`` of all functions at unit inputs ``(b, d)``."""
        parts = [self.paths(inputs[i : i + chunk]) for i in range(0, len(inputs), chunk)]
        return np.concatenate(parts).swapaxes(1, 2)

    def infeasibility(self, inputs: Array) -> Array:
        """Return excesses ``(b, q)`` of infeasible points, at most 0 for others."""
        if self.log_feasible is None:
            return np.full((len(inputs), self.count), -np.inf)
        least = np.where(np.arange(self.count) > 0, _FEASIBLE, _PROBABLE)
        return np.asarray(least - self.log_feasible.values(inputs)[:, None])


@dataclass(frozen=True, eq=False)
class DistanceScore(DifferentiableScore):
    """Score of the distance of drawn outputs from targets; function t q + i is draw i at target t.

    The score is ``-sum_e max(x_e + margin, 0)^2`` of the excesses x, which is 0 well inside the
    target. With ``smooth``, it is minus the smooth maximum ``log sum_e exp(s x_e) / s``, whose
    sharpness s is inverse to the distance of the function.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        smooth: Largest excess of each function at the start, shape ``(t q,)``; None for squares.
    """

    outputs: DrawnOutputs
    distance: TargetDistance
    smooth: Array | None = None

    def values(self, inputs: Array) -> Array:
        targets = len(self.distance.lower)
        drawn = np.tile(self.outputs(inputs).swapaxes(0, 1), (targets, 1, 1))
        functions = np.arange(targets * self.outputs.count)[:, None]
        numbers = np.broadcast_to(functions, drawn.shape[:2])
        return self._score(self._excesses(drawn, numbers, inputs)[0], numbers)[0]

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        scores, cache = self.outputs.paths.at(inputs, functions % self.outputs.count)
        values = scores @ self.outputs.weights + self.outputs.offset
        excess, slopes = self._excesses(values, functions, inputs)
        score, by_excess = self._score(excess, functions)
        count = len(self.distance.columns)
        by_values = np.zeros_like(values)
        np.add.at(by_values.T, self.distance.columns, (by_excess[:, :count] * slopes).T)
        found = self.outputs.paths.gradient(cache, by_values @ self.outputs.weights.T)
        if self.outputs.log_feasible is not None:
            zeros = np.zeros(len(inputs), dtype=np.intp)
            slope = self.outputs.log_feasible.gradient(inputs, zeros)[1]
            found = found - self.distance.rigour * by_excess[:, count:] * slope
        return score, found

    def worst(self, inputs: Array) -> Array:
        """Return the largest excesses ``(t q, b)`` of all functions at unit inputs ``(b, d)``."""
        drawn = self.outputs(inputs).swapaxes(0, 1)  # (q, b, c)
        count, targets = self.outputs.count, len(self.distance.lower)
        slacks = self.distance.slacks(
            np.arange(targets)[:, None], np.arange(count) > 0
        )  # (t, q, e)
        found = np.stack([
            self.distance.largest(drawn[draw], target, slacks[target, draw])
            for target in range(targets) for draw in range(count)
        ])  # fmt: skip
        if self.outputs.log_feasible is None:
            return found
        beyond = self.distance.rigour * self.outputs.infeasibility(inputs).T
        return np.maximum(found, np.tile(beyond, (targets, 1)))

    def largest(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        """Return the largest excess ``(b,)``, and outputs ``(b, c)``, of one function each."""
        scores, _ = self.outputs.paths.at(inputs, functions % self.outputs.count)
        values = scores @ self.outputs.weights + self.outputs.offset
        return self._excesses(values, functions, inputs)[0].max(-1), values

    def _excesses(self, values: Array, functions: Indices, inputs: Array) -> tuple[Array, Array]:
        """Return excesses ``(..., e or e + 1)``, the last of feasibility, and slopes ``(..., e)``.

        Args:
            values: Modelled outputs, shape ``(..., b, c)``.
            functions: Number of the function of each row, shape ``(..., b)``.
            inputs: Unit inputs, shape ``(b, d)``.
        """
        count = self.outputs.count
        excess, slopes = self.distance.excesses(values, functions // count)
        excess = excess - self.distance.slacks(functions // count, functions % count > 0)
        if self.outputs.log_feasible is not None:
            every = self.outputs.infeasibility(inputs)
            own = self.distance.rigour * every[np.arange(len(inputs)), functions % count]
            excess = np.concatenate([excess, own[..., None]], -1)
        return excess, slopes

    def _score(self, excess: Array, functions: Indices) -> tuple[Array, Array]:
        """Return scores ``(...)`` of excesses ``(..., e)``, and their derivatives."""
        if self.smooth is None:
            beyond = np.maximum(excess + _MARGIN, 0.0)
            return -(beyond * beyond).sum(-1), -2.0 * beyond
        scale = self.smooth[functions]
        shares, top = smooth_shares(excess, scale), excess.max(-1)
        # log sum_e exp(s x_e) / s = top - log(share of the largest) / s
        return np.log(shares.max(-1)) * np.maximum(scale, 1.0) / _SHARPNESS - top, -shares


def smooth_shares(excess: Array, scale: Array) -> Array:
    """Return the parts ``(..., e)`` of excesses in their smooth maximum, the softmax of s x.

    Args:
        excess: Excesses, shape ``(..., e)``.
        scale: Distance ``(...)`` to which the sharpness s is inverse.
    """
    sharpness = (_SHARPNESS / np.maximum(scale, 1.0))[..., None]
    powers = np.exp(sharpness * (excess - excess.max(-1, keepdims=True)))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
