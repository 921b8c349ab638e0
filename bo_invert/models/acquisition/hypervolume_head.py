"""Expected hypervolume improvement of posterior moments, in logarithms and with gradients.

The part of the objective space that no point of the front dominates is divided into boxes
``[l, u]``. The hypervolume improvement of losses y is the sum over boxes of
``prod_i max(u_i - max(l_i, y_i), 0)`` (Yang et al. 2019; Daulton et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.box_decomposition import non_dominated_boxes
from bo_invert.models.acquisition.log_ei import (
    log_fat_softplus,
    log_h_slope,
    log_mean_exp,
    log_ndtr_slope,
)
from bo_invert.models.acquisition.moment_score import Head, Slopes
from bo_invert.models.array_module import A, as_array, matching
from bo_invert.types import Array, Indices

_CONSTRAINT_WIDTH = 1e-5
"""Width of a smoothed constraint in standard deviations. Engineering choice: wider misleads."""
_MIN_VARIANCE = 1e-8
"""Variance that is added to standardised outputs. Engineering choice: an output that is known to
more than four digits makes the score a cliff, which gradient ascent cannot climb."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes below the fronts of F fantasies, padded to c boxes each.

    Args:
        lower: Lower corners, -infinite at open ends, shape ``(F, c, q)``.
        upper: Upper corners, shape ``(F, c, q)``; equal to finite lower ones for padding.
    """

    lower: Array
    upper: Array

    @staticmethod
    def of(fronts: Sequence[Array], reference: Array) -> Boxes:
        """Return the boxes of fronts ``(n, q)`` up to a reference point ``(q,)``."""
        found = [non_dominated_boxes(front, reference) for front in fronts]
        most = max(len(lower) for lower, _ in found)
        lower = np.zeros((len(found), most, len(reference)))
        upper = np.zeros_like(lower)
        for row, (low, high) in enumerate(found):
            lower[row, : len(low)], upper[row, : len(high)] = low, high
        return Boxes(lower, upper)


@dataclass(frozen=True, eq=False)
class LinearCriteria:
    """Criteria that are linear in one score each: ``loss_i = slope_i score_i + offset_i``.

    Args:
        columns: Scores of the q criteria, all different, shape ``(q,)``.
        slopes: Slopes, shape ``(q,)``.
        offsets: Offsets, shape ``(q,)``.
    """

    columns: Indices
    slopes: Array
    offsets: Array

    def losses(self, scores: Array) -> Array:
        """Return losses ``(..., q)`` of scores ``(..., k)``."""
        return np.asarray(scores[..., self.columns] * self.slopes + self.offsets)


class AnalyticHypervolumeHead(Head):
    """log EHVI of independent normal criteria, plus log probabilities of constraints.

    With means m, standard deviations s and h of ``log_ei.log_h``,

        ``EHVI = sum_boxes prod_i s_i [h((u_i - m_i) / s_i) - h((l_i - m_i) / s_i)]``,

    averaged over fantasies, whose means and fronts differ. All terms are logarithms, so it has a
    gradient where it is far below the smallest number (as LogEI of Ament et al. 2023).

    Args:
        criteria: Criteria as functions of the scores.
        boxes: Boxes below the front of each fantasy, or of one front for all.
        bounds: Constraints as (score, sense, bound).
        misfit: Constant that is added to the variances, shape ``(k,)``.
    """

    def __init__(
        self,
        criteria: LinearCriteria,
        boxes: Boxes,
        bounds: Sequence[tuple[int, float, float]],
        misfit: Array,
    ) -> None:
        self.criteria = criteria
        self.bounds = tuple(bounds)
        self.misfit = misfit
        # Boxes share corners, so each level is evaluated once.
        levels, positions = _levels(boxes)
        self._levels, (self._low, self._high) = levels, positions
        self._open = ~np.isfinite(boxes.lower)
        self._none = (boxes.upper <= boxes.lower).any(-1)

    def __call__(self, mean: A, variance: A) -> Slopes[A]:
        found = self._slopes(as_array(mean), as_array(variance))
        return Slopes(*(matching(part, mean) for part in found))

    def _slopes(self, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Return scores ``(b,)`` and slopes in means ``(b, k, F)`` and variances ``(b, k)``."""
        columns, slopes = self.criteria.columns, self.criteria.slopes
        variance = variance + self.misfit + _MIN_VARIANCE
        std = np.sqrt(variance)
        centre = self.criteria.losses(mean.swapaxes(1, 2))[:, :, None]  # (b, F, 1, q)
        own = (std[:, columns] * np.abs(slopes))[:, None, None]  # (b, 1, 1, q)
        with np.errstate(all="ignore"):
            t = (self._levels - centre) / own  # (b, F, n, q)
            log_h, by_t = log_h_slope(t)
            high = _gather(log_h, self._high)
            # The share of E max(u - y, 0) that lies beyond the lower corner.
            share = np.where(self._open, 0.0, np.exp(_gather(log_h, self._low) - high))
            rest = np.maximum(1.0 - share, 1e-300)
            terms = np.log(own) + high + np.log(rest)  # (b, F, c, q)
            log = np.where(self._none, -np.inf, terms.sum(-1))
            # d log E / dm and d log E / ds of each side of each box
            in_mean, in_std = -by_t / own, (1.0 - t * by_t) / own
            pull = [
                (_gather(part, self._high) - share * _gather(part, self._low)) / rest
                for part in (in_mean, in_std)
            ]
        constraint, bound_slopes = self._constraints(mean, std)
        log = log + constraint[..., None]
        most = log.max((1, 2), keepdims=True)
        most = np.where(np.isfinite(most), most, 0.0)
        weights = np.exp(log - most)
        total = weights.sum((1, 2), keepdims=True)
        fantasies = log.shape[1]
        value = (most + np.log(np.maximum(total, 1e-300) / fantasies))[:, 0, 0]
        weights = weights / np.maximum(total, 1e-300)
        by_mean, by_std = np.zeros_like(mean), np.zeros_like(std)
        inner = [(weights[..., None] * np.where(np.isfinite(p), p, 0.0)).sum(2) for p in pull]
        by_mean[:, columns] = (inner[0] * slopes).swapaxes(1, 2)
        by_std[:, columns] = (inner[1] * np.abs(slopes)).sum(1)
        of_fantasy = weights.sum(2)  # (b, F)
        for i, in_means, in_stds in bound_slopes:
            by_mean[:, i] += of_fantasy * in_means
            by_std[:, i] += (of_fantasy * in_stds).sum(1)
        return value, by_mean, 0.5 * by_std / std

    def _constraints(self, mean: Array, std: Array) -> tuple[Array, list[tuple[int, Array, Array]]]:
        """Return the log probability ``(b, F)`` that all constraints hold, and its slopes."""
        log = np.zeros((len(mean), mean.shape[2]))
        slopes = []
        for i, sense, bound in self.bounds:
            own = std[:, i, None]
            t = sense * (bound - mean[:, i]) / own
            term, slope = log_ndtr_slope(t)
            log = log + term
            slopes.append((i, -sense * slope / own, -t * slope / own))
        return log, slopes


def _levels(boxes: Boxes) -> tuple[Array, tuple[Indices, Indices]]:
    """Return levels ``(F, n, q)`` and the positions of lower and upper corners ``(F, c, q)``.

    Lower ends that are open have the position of some level, which must not be used.
    """
    fantasies, _, q = boxes.upper.shape
    corners = np.where(np.isfinite(boxes.lower), boxes.lower, boxes.upper)
    both = np.concatenate([corners, boxes.upper], axis=1)
    found = [
        [np.unique(both[f, :, i], return_inverse=True) for i in range(q)] for f in range(fantasies)
    ]
    most = max(len(values) for row in found for values, _ in row)
    levels = np.zeros((fantasies, most, q))
    positions = np.zeros(both.shape, dtype=np.intp)
    for f, row in enumerate(found):
        for i, (values, inverse) in enumerate(row):
            levels[f, : len(values), i] = values
            levels[f, len(values) :, i] = values[-1]
            positions[f, :, i] = inverse
    count = boxes.upper.shape[1]
    return levels, (positions[:, :count], positions[:, count:])


def _gather(values: Array, positions: Indices) -> Array:
    """Return the entries ``(b, F, c, q)`` of values ``(b, F, n, q)`` at positions."""
    return np.take_along_axis(
        values, np.broadcast_to(positions, (len(values), *positions.shape)), 2
    )


@dataclass(frozen=True, eq=False)
class SampledHypervolume:
    """log EHVI of samples of the criteria: qLogNEHVI (Ament et al. 2023) with one new point.

    Steps are smoothed as in qLogNEHVI: max(x, 0) is a fat-tailed softplus.

    Args:
        boxes: Boxes below the front of each of S samples, or of one front for all.
        width: Width of the smoothing in units of the losses.
    """

    boxes: Boxes
    width: float = 1e-4

    def __call__(self, losses: Tensor, excesses: Sequence[Tensor]) -> Tensor:
        """Return scores ``(b,)`` of losses ``(S, b, q)`` and excesses ``(S, b)``."""
        lower = torch.as_tensor(self.boxes.lower).to(losses)[:, None]  # (S, 1, c, q)
        upper = torch.as_tensor(self.boxes.upper).to(losses)[:, None]
        gain = log_fat_softplus(upper - losses[:, :, None], self.width)
        sides = (upper - lower).clamp(min=1e-30).log()
        log = torch.minimum(gain, sides).sum(-1).logsumexp(-1)  # (S, b)
        for excess in excesses:
            log = log + torch.nn.functional.logsigmoid(-excess / _CONSTRAINT_WIDTH)
        return log_mean_exp(log)
