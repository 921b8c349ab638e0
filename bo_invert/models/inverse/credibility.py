"""Checks of the model behind a statement about designs that no call has tried."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from torch import Tensor

from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.types import Array, Indices

_LEVEL = 0.9
"""Level of the quantile of errors that deviations cover, dimensionless. Engineering choice, as for
``TargetModel.inflation``."""
_RECENT = 30
"""Number of latest errors that are also covered on their own. Engineering choice: late queries lie
near the target, where errors count."""
_LEAST_EXPLAINED = 0.5
"""Least share of the variance of an output that left-out predictions explain, dimensionless.
Engineering choice: below, a model says little about designs that were not tried."""


def sequential_inflation(gp: GPPosterior) -> Tensor:
    """Return factors ``(k,)`` >= 1 of variances by which each observation covers the next ones.

    With ``C = L L'`` in the order of the log, ``L^-1 (y - m)`` holds the errors of all predictions
    from earlier observations, in standard deviations. The factor is the square of their 90 %
    quantile, and of the largest error, over those of as many normal numbers. That of the latest
    errors counts on its own.
    """
    errors = (gp.inverse_cholesky @ (gp.values[..., :1] - gp.constant[:, None, None]))[..., 0].abs()
    found = errors.new_ones(len(errors))
    for part in (errors, errors[:, -_RECENT:]):
        count = part.shape[1]
        level = min(1.0, _LEVEL * (1.0 + 1.0 / count))
        usual = part.quantile(level, dim=1) / _normal_quantile(_LEVEL)
        largest = part.amax(1) / _normal_quantile(1.0 - 1.0 / (count + 1.0))
        found = found.maximum(usual).maximum(largest)
    return found.square()


def explained_shares(surrogate: Surrogate, columns: Indices) -> Array:
    """Return the shares ``(e,)`` of the variances of outputs that left-out predictions explain."""
    gp, weights = surrogate.gp, surrogate.weights
    errors = (gp.values[:, :, 0].mT - gp.leave_one_out()[0]) @ weights
    values = gp.values[:, :, 0].mT @ weights
    spread = values.var(0, correction=0) + surrogate.residual_variance
    lost = errors.square().mean(0) + surrogate.residual_variance
    shares = 1.0 - lost / spread.clamp(min=1e-300)
    return np.asarray(shares.cpu().numpy())[np.unique(columns)]


def distrust(surrogate: Surrogate, names: list[str], columns: Indices) -> str:
    """Return why the model says little about designs that were not tried; empty if it does.

    Args:
        surrogate: Surrogate of the modelled outputs.
        names: Names of the modelled outputs.
        columns: Modelled outputs that the target and the constraints read.
    """
    shares = explained_shares(surrogate, columns)
    worst = int(shares.argmin())
    if shares[worst] >= _LEAST_EXPLAINED:
        return ""
    name = names[int(np.unique(columns)[worst])]
    return (
        f"left-out predictions explain {max(0.0, float(shares[worst])):.0%} of the variance of "
        f"{name}, at least {_LEAST_EXPLAINED:.0%} are needed"
    )


def half_steps(values: Array) -> Array:
    """Return half the usual step of each output of ``(n, c)``; 0 without repeated values.

    Rounding, clipping and trees repeat values at different designs. Outputs between two values
    cannot be distinguished from either.
    """
    found = np.zeros(values.shape[1])
    for column, own in enumerate(values.T):
        levels = np.unique(own)
        if 2 <= len(levels) <= len(own) - 2:
            found[column] = 0.5 * float(np.median(np.diff(levels)))
    return found


def _normal_quantile(level: float) -> float:
    """Return the quantile of the magnitude of a normal number."""
    return NormalDist().inv_cdf(0.5 + 0.5 * level)
