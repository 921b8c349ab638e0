"""Scores of linear models on the sphere: Thompson samples and log feasibility of unit inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.acquisition.log_ei import log_fat_softplus
from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.models.linear.spherical_gp import fit_spherical_gp
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import JSON, Array, State

_LABEL_STD = 0.02
"""Standard deviation added to a predicted label, dimensionless. Engineering choice: no region is
excluded for ever."""


def thompson_score(
    weights: Array,
    projection: SphereProjection,
    outputs: ModelledOutputs,
    log_feasible: Score | None,
) -> Score:
    """Build the negative loss of a Thompson sample, minus a penalty for sampled violations.

    Losses are in standard deviations of the observed ones. With a feasibility, the score is the
    logarithm of the sampled improvement plus log feasibility.

    Args:
        weights: Sampled weights, shape ``(k, D + 1)``.
        projection: Projection of the model.
        outputs: Map from modelled outputs to losses.
        log_feasible: Log feasibility; None without failures.
    """
    features = _features(outputs.statement.domain, projection)
    slopes = torch.tensor(weights.T.copy())
    # The unit makes the weight of the violation penalty independent of the units of the loss.
    observed = outputs.loss(torch.tensor(outputs.values))
    unit = max(float(observed.std()), 1e-12 * float(observed.abs().max())) or 1.0
    best = observed.min()

    def score(inputs: Tensor) -> Tensor:
        modelled = features(inputs) @ slopes
        loss, penalty = outputs.loss(modelled), 10.0 * outputs.violation(modelled)
        if log_feasible is None:
            return -loss / unit - penalty
        return log_fat_softplus((best - loss) / unit, 1.0) - penalty + log_feasible(inputs)

    return score


def fit_linear_feasibility(
    domain: Domain, history: History, memo: JSON, *, directions: bool
) -> tuple[Score | None, JSON]:
    """Fit a linear model of labels; return log feasibility and a memo, or None without failures.

    P(label > 1/2) = Phi((mean - 1/2) / std). In many coordinates a linear boundary needs far fewer
    labels than a curved one.

    Args:
        domain: Search domain.
        history: Log with at least one completed trial.
        memo: Memo of an earlier ask.
        directions: Argument of ``fit_spherical_gp``.
    """
    if not history.failed:
        return None, None
    ended = sorted((*history.completed, *history.failed), key=lambda trial: trial.number)
    labels = np.array([[float(trial.state is State.COMPLETED)] for trial in ended])
    points = domain.centred(np.array([trial.point for trial in ended]))
    model = fit_spherical_gp(points, labels, memo, directions=directions)
    features = _features(domain, model.projection)
    mean, root = torch.tensor(model.mean[0]), torch.tensor(model.covariance_root(0))

    def score(inputs: Tensor) -> Tensor:
        # |phi R| with R R' the posterior covariance of the weights is the standard deviation.
        rows = features(inputs)
        std = (rows @ root).norm(dim=-1) + _LABEL_STD
        log: Tensor = torch.special.log_ndtr((rows @ mean - 0.5) / std)
        return log

    return score, model.memo


def _features(domain: Domain, projection: SphereProjection) -> Callable[[Tensor], Tensor]:
    """Build ``SphereProjection.features`` of unit inputs ``(b, d)`` with gradients."""
    lower, upper = (torch.tensor(domain.centred(bound)) for bound in domain.bounds)

    def features(inputs: Tensor) -> Tensor:
        points = lower + inputs * (upper - lower)
        squares = (points.square().sum(-1, keepdim=True) / projection.reach**2).clamp(min=1e-12)
        # Directions have no height; the stereographic projection has one.
        heights = squares[:, :0] if projection.lengthscale is None else projection.heights(squares)
        return torch.cat(
            [points * projection.factors(squares), heights, torch.ones_like(squares)], dim=-1
        )

    return features
