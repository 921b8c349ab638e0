"""Losses with an analytic expected improvement: outputs, and distances from targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import log_h_slope
from bo_invert.models.acquisition.moment_score import autograd_slopes
from bo_invert.models.acquisition.range_ei import Ranges, log_range_distance_ei
from bo_invert.models.acquisition.target_ei import log_squared_distance_ei, log_target_ei
from bo_invert.models.array_module import A, array_module
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.target import Target

_MIN_DISTANCE = 1e-10
"""Lower bound on the target distance in standard deviations. Engineering choice: avoids log 0."""


class AnalyticLoss(ABC):
    """Loss with an analytic expected improvement under independent normal scores."""

    @property
    def costly(self) -> bool:
        """True if the improvement costs more than samples for every fantasy."""
        return False

    @abstractmethod
    def loss(self, scores: Tensor) -> Tensor:
        """Return losses ``(...)``, or increasing functions of them, of scores ``(..., k)``."""

    @abstractmethod
    def log_ei(self, mean: A, std: A, best: A) -> tuple[A, A, A]:
        """Return log EI ``(b, F)`` with its slopes in means and standard deviations ``(b, k, F)``.

        Args:
            mean: Means, shape ``(b, k, F)``.
            std: Standard deviations, shape ``(b, k, 1)``.
            best: Lowest losses, broadcast to ``(F,)``.
        """


@dataclass(frozen=True)
class LinearLoss(AnalyticLoss):
    """Loss that is plus or minus one modelled output."""

    column: int
    sign: float

    def loss(self, scores: A) -> A:
        return self.sign * scores[..., self.column]

    def log_ei(self, mean: A, std: A, best: A) -> tuple[A, A, A]:
        # log EI = log std + log h((best - mean) / std) with h of ``log_ei.log_h``
        xp, own = array_module(mean), std[:, self.column]
        u = (best - self.sign * mean[:, self.column]) / own
        log, slope = log_h_slope(u)
        by_mean, by_std = xp.zeros_like(mean), xp.zeros_like(mean)
        by_mean[:, self.column] = -self.sign * slope / own
        by_std[:, self.column] = (1.0 - slope * u) / own
        return log + xp.log(own), by_mean, by_std


@dataclass(frozen=True)
class TargetDistance(AnalyticLoss):
    """Distance from a target: |a s + b| of one output, |A s + b|^2 of several, with A diagonal.

    Args:
        columns: Modelled outputs of the target, t of them.
        slopes: Diagonal of A, shape ``(t,)``.
        rest: b, shape ``(t,)``.
    """

    columns: list[int]
    slopes: Tensor
    rest: Tensor

    def loss(self, scores: Tensor) -> Tensor:
        off = scores[..., self.columns] * self.slopes + self.rest
        return off[..., 0].abs() if len(self.columns) == 1 else off.square().sum(-1)

    def log_ei(self, mean: A, std: A, best: A) -> tuple[A, A, A]:
        lowest = torch.as_tensor(best)
        log, by_mean, by_std = autograd_slopes(
            lambda at, spread: self._log_ei(at, spread, lowest), mean, std + 0.0 * mean
        )
        return log, by_mean, by_std

    def _log_ei(self, mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
        mean, std = mean.mT[..., self.columns], std.mT[..., self.columns]  # (b, F, t)
        off, own = mean * self.slopes + self.rest, std * self.slopes
        if len(self.columns) == 1:
            return own[..., 0].log() + log_target_ei(
                off[..., 0] / own[..., 0], best.clamp(min=_MIN_DISTANCE) / own[..., 0]
            )
        return log_squared_distance_ei(off, own.square(), best.clamp(min=_MIN_DISTANCE**2))


@dataclass(frozen=True)
class RangeDistance(AnalyticLoss):
    """Squared distance of several outputs from ranges, and depth in intervals to avoid.

    The entries are linear in scores: ``v = slopes s + offset``.

    Args:
        columns: Modelled outputs of the entries, t of them.
        slopes: Slopes, shape ``(t,)``.
        offset: Offsets, shape ``(t,)``.
        ranges: Ranges of the values v.
    """

    columns: list[int]
    slopes: Tensor
    offset: Tensor
    ranges: Ranges

    @property
    def costly(self) -> bool:
        return True

    def loss(self, scores: Tensor) -> Tensor:
        values = scores[..., self.columns] * self.slopes + self.offset
        return self.ranges.squared_distances(values).sum(-1)

    def log_ei(self, mean: A, std: A, best: A) -> tuple[A, A, A]:
        lowest = torch.as_tensor(best).clamp(min=_MIN_DISTANCE**2)

        def log(at: Tensor, spread: Tensor) -> Tensor:
            centre = at.mT[..., self.columns] * self.slopes + self.offset
            own = (spread.mT[..., self.columns] * self.slopes).abs()
            return log_range_distance_ei(centre, own, self.ranges, lowest)

        value, by_mean, by_std = autograd_slopes(log, mean, std + 0.0 * mean)
        return value, by_mean, by_std


def analytic_loss(surrogate: Surrogate, outputs: ModelledOutputs) -> AnalyticLoss | None:
    """Return the loss in a form with an analytic expected improvement; None without one."""
    if outputs.loss_column is not None:
        return LinearLoss(*outputs.loss_column)
    target, like = outputs.statement.objective, surrogate.offset
    constrained = {constraint.index for constraint in outputs.statement.constraints}
    # Outputs of a target must be modelled one by one: no warp and no principal components.
    projected = surrogate.weights.shape[0] < surrogate.weights.shape[1]
    if not isinstance(target, Target) or constrained & set(target.indices):
        return None
    # Entries of one output are dependent.
    if len(set(target.indices)) < len(target.indices):
        return None
    if outputs.modelled_losses or projected or surrogate.warp is not None:
        return None
    columns = [outputs.column(index) for index in target.indices]
    # y_j = w_j s_j + offset_j, so (y_j - t_j) / scale_j is linear in the score s_j. The common unit
    # keeps distances near 1 and changes EI by a constant factor.
    scales = like.new_tensor(target.units)
    slopes = surrogate.weights.diagonal()[columns] / scales
    unit = slopes.square().mean().sqrt()
    if target.points:
        rest = (like[columns] - like.new_tensor(target.value)) / scales
        return TargetDistance(columns, slopes / unit, rest / unit)
    entries = target.entries
    lower, upper = (like.new_tensor(one) / scales / unit for one in (entries.lower, entries.upper))
    ranges = Ranges(lower, upper, torch.tensor(entries.avoided, device=like.device))
    return RangeDistance(columns, slopes / unit, like[columns] / scales / unit, ranges)
