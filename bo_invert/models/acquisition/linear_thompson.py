"""Scores of unit inputs by linear models on a sphere: what a sample promises, and whether a point will be answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.acquisition.log_ei import log_fat_softplus
from bo_invert.models.linear import spherical_gp as spherical
from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array, State

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score
    from bo_invert.models.output_transforms import ModelledOutputs

_LABEL_STD = 0.02
"""Added to the standard deviation of a label: a wrong belief must stay correctable."""


def thompson_score(
    weights: Array, chart: SphereProjection, outputs: ModelledOutputs, log_feasible: Score | None
) -> Score:
    """Minus the sampled loss in units of the told losses' spread, less a penalty for sampled violations.

    Where points may be refused, it is the logarithm of the sampled improvement, beside that of the permission.

    Args:
        weights: sampled, shape ``(k, D + 1)``.
        chart: of the model.
        outputs: how modelled numbers become losses.
        allowed: log probability that a point is answered; None where all are.
    """
    features = _features(outputs.statement.domain, chart)
    slopes = torch.tensor(weights.T.copy())
    told = outputs.loss(torch.tensor(outputs.values))
    unit = max(float(told.std()), 1e-12 * float(told.abs().max())) or 1.0
    best = told.min()

    def score(inputs: Tensor) -> Tensor:
        modelled = features(inputs) @ slopes
        penalty = 10.0 * outputs.violation(modelled)
        if log_feasible is None:
            return -outputs.loss(modelled) / unit - penalty
        return (
            log_fat_softplus((best - outputs.loss(modelled)) / unit, 1.0)
            - penalty
            + log_feasible(inputs)
        )

    return score


def fit_linear_feasibility(
    domain: Domain, history: History, memo: JSON, *, directions: bool
) -> tuple[Score | None, JSON]:
    """Log probability that a point is answered, by a linear model of labels, and a memo; None where nothing failed.

    In many coordinates a line between what was answered and what was not is learned long before any curve.

    Args:
        domain: where the points lie.
        history: with at least one completed trial.
        memo: of an earlier ask.
        directions: as of ``spherical.fit``.
    """
    if not history.failed:
        return None, None
    ended = sorted((*history.completed, *history.failed), key=lambda trial: trial.number)
    labels = np.array([[float(trial.state is State.COMPLETED)] for trial in ended])
    points = domain.centred(np.array([trial.point for trial in ended]))
    model = spherical.fit_spherical_gp(points, labels, memo, directions=directions)
    features = _features(domain, model.projection)
    mean, deviations = torch.tensor(model.mean[0]), torch.tensor(model.deviations(0))

    def score(inputs: Tensor) -> Tensor:
        rows = features(inputs)
        std = (rows @ deviations).norm(dim=-1) + _LABEL_STD
        log: Tensor = torch.special.log_ndtr((rows @ mean - 0.5) / std)
        return log

    return score, model.memo


def _features(domain: Domain, chart: SphereProjection) -> Callable[[Tensor], Tensor]:
    """``Chart.lift`` of unit inputs ``(b, d)``, with gradients, shape ``(b, D + 1)``."""
    lower, upper = (torch.tensor(domain.centred(bound)) for bound in domain.bounds)

    def features(inputs: Tensor) -> Tensor:
        points = lower + inputs * (upper - lower)
        squares = (points.square().sum(-1, keepdim=True) / chart.reach**2).clamp(min=1e-12)
        heights = squares[:, :0] if chart.lengthscale is None else chart.heights(squares)
        return torch.cat(
            [points * chart.factors(squares), heights, torch.ones_like(squares)], dim=-1
        )

    return features
