"""Calibration of prediction intervals by left-out observations.

A search observes clusters of points near optima and few points elsewhere. Errors in clusters say
little about the others, so each prediction is calibrated by the left-out forecasts with a similar
standard deviation (localised conformal prediction: Guan, Biometrika 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.base import Z_90
from bo_invert.types import Indices

_BANDWIDTH = 0.7
"""Standard deviation of the kernel of log standard deviations, in nats. Engineering choice: half
the weight lies within a factor of 1.6. experiments/predict_calibration.py measured 0.4 and 0.7."""
_PRIOR, _PRIOR_ERRORS = 20.0, 20
"""Weight of standard normal errors in observations, and their number. Engineering choice: few
observations do not determine a quantile."""
_MIN_FACTOR = 0.9
"""Lower bound of a factor, dimensionless. Engineering choice: forecasts without a part of the
observations are less certain than predictions."""
_KNOTS = 33
"""Number of log standard deviations at which factors are computed. Engineering choice: factors
between them are interpolated."""
_CORRECTION = 0.75
"""Part of the finite-sample correction of conformal prediction, dimensionless. Engineering choice:
with 0.5 and 1, the coverage of development functions after 25 observations was 1 % lower and
higher."""
_MAX_SCORE = 20.0
"""Largest score of one forecast in standard deviations of the values. Engineering choice: a single
outlier does not decide."""
_MIN_SCORE = 1e-9
"""Lower bound of an interval score in standard deviations of the values. Engineering choice: avoids
log 0."""
_LEVEL = 0.9
"""Nominal coverage, by definition of a 90 % interval."""


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts of n observations from others, on a warped scale, ``(n, c)`` each.

    Args:
        mean: Means.
        std: Standard deviations.
        values: Observed values.
        ends: 5 % and 95 % quantiles in units of the values, shape ``(2, n, c)``.
    """

    mean: Tensor
    std: Tensor
    values: Tensor
    ends: Tensor

    @property
    def errors(self) -> Tensor:
        """Absolute errors in standard deviations."""
        return ((self.values - self.mean) / self.std).abs()

    @property
    def explained(self) -> float:
        """Share of the variance that the means explain; negative if a constant is better."""
        variance = self.values.var(0, correction=0)
        share = (self.values - self.mean).square().mean(0) / torch.where(variance > 0, variance, 1)
        return 1.0 - float(share.mean())


def joined(parts: Sequence[Forecasts], order: Indices) -> Forecasts:
    """Return the forecasts of all parts, with observations in the given order."""
    mean, std, values = (
        torch.cat([getattr(part, name) for part in parts])[order]
        for name in ("mean", "std", "values")
    )
    return Forecasts(mean, std, values, torch.cat([part.ends for part in parts], 1)[:, order])


def interval_score(forecasts: Forecasts, values: Tensor) -> float:
    """Return the geometric mean of the interval scores of left-out forecasts; lower is better.

    (u - l) + 2 / 0.1 max(l - y, 0, y - u), in standard deviations of the values (Gneiting & Raftery
    2007). In an arithmetic mean, the few isolated points of a search would outweigh its clusters,
    where intervals are narrower by orders of magnitude.

    Args:
        forecasts: Forecasts of n observations.
        values: Observed values in their units, shape ``(n, c)``.
    """
    low, high = forecasts.ends.amin(0), forecasts.ends.amax(0)
    missed = torch.maximum(low - values, values - high).clamp(min=0.0)
    score = (high - low) + missed * 2.0 / (1.0 - _LEVEL)
    spread = values.std(0, correction=0)
    score = score / torch.where(spread > 0.0, spread, 1.0)
    return float(score.clamp(min=_MIN_SCORE).log().mean().exp())


@dataclass(frozen=True, eq=False)
class Calibration:
    """Factors of standard deviations as functions of the standard deviation.

    Args:
        knots: Rising log standard deviations, shape ``(q, c)``.
        factors: Factors there, shape ``(q, c)``.
    """

    knots: Tensor
    factors: Tensor

    @staticmethod
    def of(forecasts: Forecasts) -> Calibration:
        """Return the factors at which intervals cover left-out observations.

        The factor at a standard deviation s is the 90 % quantile of |error_i| over that of a
        standard normal distribution, with weights exp(-(log s - log s_i)^2 / (2 h^2)) and errors
        of a standard normal distribution as a prior.
        """
        errors, logs = forecasts.errors, forecasts.std.log()
        n, c = errors.shape
        low, high = logs.amin(0), logs.amax(0)
        knots = low + torch.linspace(0.0, 1.0, _KNOTS).to(logs)[:, None] * (high - low)
        normal = torch.special.ndtri(
            0.5 + 0.5 * (torch.arange(_PRIOR_ERRORS) + 0.5) / _PRIOR_ERRORS
        )
        prior = torch.full((_KNOTS, _PRIOR_ERRORS), _PRIOR / _PRIOR_ERRORS).to(errors)
        # Conformal prediction takes the quantile at 0.9 (1 + 1 / n), because the observation to
        # predict is one more. Forecasts without a fold are less certain than predictions, so a part
        # of the correction suffices.
        level = min(_LEVEL * (1.0 + _CORRECTION / n), 0.99)
        factors = torch.empty_like(knots)
        for j in range(c):
            weights = torch.exp(-0.5 * ((knots[:, j, None] - logs[:, j]) / _BANDWIDTH) ** 2)
            every = torch.cat([errors[:, j], normal])
            factors[:, j] = weighted_quantile(every, torch.cat([weights, prior], 1), level)
        return Calibration(knots, (factors / Z_90).clamp(min=_MIN_FACTOR))

    def factor(self, std: Tensor) -> Tensor:
        """Return the factors ``(b, c)`` of standard deviations ``(b, c)``."""
        low, width = self.knots[0], self.knots[-1] - self.knots[0]
        place = (std.log() - low) / torch.where(width > 0.0, width, 1.0) * (_KNOTS - 1)
        place = place.clamp(0.0, _KNOTS - 1)
        left = place.floor().long().clamp(max=_KNOTS - 2)
        share = place - left
        rows = self.factors.gather(0, left), self.factors.gather(0, left + 1)
        return (1.0 - share) * rows[0] + share * rows[1]


def weighted_quantile(values: Tensor, weights: Tensor, level: float) -> Tensor:
    """Return the quantile ``(q,)`` of values ``(n,)`` for each row of weights ``(q, n)``."""
    order = values.argsort()
    shares = weights[:, order].cumsum(1)
    place = (shares < level * shares[:, -1:]).sum(1).clamp(max=len(values) - 1)
    return values[order][place]
