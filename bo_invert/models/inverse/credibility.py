"""Checks of the model behind a statement about designs that no call has tried."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.rounded_outputs import RoundedOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.inverse.target_region import TargetRegion
from bo_invert.types import Array, Indices

_HOPES = 24
"""Largest number of observations that judge the model near a target. Engineering choice: the upper
bound of a variance of 24 errors is at most twice their mean square."""
_BOUND = 0.05
"""Probability that a variance exceeds its upper bound, dimensionless. Engineering choice."""
_PRIOR = 2
"""Weight of the variance of the model beside those of errors, in errors. Engineering choice."""
_LEAST_EXPLAINED = 0.5
"""Least share of the variance of an output that left-out predictions explain, dimensionless.
Engineering choice: below, a model says little about designs that were not tried."""


def _hopeful(region: TargetRegion, mean: Tensor, std: Tensor) -> Tensor:
    """Return positions ``(h,)`` of the predictions that most probably meet a target.

    Args:
        region: Outputs that meet the target.
        mean: Predicted outputs, shape ``(n, c)``.
        std: Their standard deviations, shape ``(n, c)``.
    """
    return region.log_acceptance(mean, std).topk(min(_HOPES, len(mean))).indices


def sequential_inflation(surrogate: Surrogate, region: TargetRegion | None = None) -> Tensor:
    """Return factors ``(k,)`` of variances by which earlier observations predict later ones.

    With ``C = L L'`` in the order of the log, ``z = L^-1 (y - m)`` holds the errors of all
    predictions from earlier observations, in standard deviations. With a region, the h predictions
    that most probably met it judge the model where it predicts hits. The factor is the upper
    bound of a variance, ``(w + sum z^2) / chi2_0.05(w + h)``, with the weight w of the model.

    Args:
        surrogate: Surrogate of the modelled outputs.
        region: Outputs that meet a target; None for the errors of all predictions.
    """
    gp = surrogate.gp
    errors = (gp.inverse_cholesky @ (gp.values[..., :1] - gp.constant[:, None, None]))[..., 0]
    if region is not None:
        spread = gp.cholesky.diagonal(dim1=-2, dim2=-1)
        predicted = gp.values[..., 0] - spread * errors
        mean, std = surrogate.warped_moments(predicted.mT, spread.square().mT)
        errors = errors[:, _hopeful(region, mean, std)]
    total = errors.shape[1] + _PRIOR
    return (errors.square().sum(1) + _PRIOR) / float(chi2.ppf(_BOUND, total))


def misfit_near_targets(
    surrogate: Surrogate, distance: TargetDistance, rounded: RoundedOutputs
) -> Array:
    """Return how far outputs may be nearer to targets than drawn functions, in tolerances.

    The misfit is noise of the oracle, or structure too fine for the model. The largest left-out
    error towards a target counts, of the observations whose means are nearest to it, with the
    share ``misfit / std`` of the misfit in the standard deviation of the prediction. Roughness or
    noise elsewhere does not count, and errors of rounding do not.

    Args:
        surrogate: Surrogate of the modelled outputs.
        distance: Distance from t targets.
        rounded: Steps of the modelled outputs.

    Returns:
        Amounts of all entries of each target, shape ``(t, e)``.
    """
    gp = surrogate.gp
    mean, std = surrogate.warped_moments(*gp.leave_one_out())
    none = torch.zeros_like(surrogate.misfit_variance)
    misfit = surrogate.warped_moments(none, surrogate.misfit_variance)[1]
    shares = (misfit / std).cpu().numpy()[:, distance.columns]  # (n, e)
    observed = (gp.values[..., 0].mT @ surrogate.weights + surrogate.offset).cpu().numpy()
    predictions = mean.cpu().numpy()
    unrounded = rounded.unrounded(observed, predictions)
    targets = range(len(distance.lower))
    fitted, predicted, found = (
        np.stack([distance.largest(values, target) for target in targets])  # (t, n)
        for values in (surrogate.mean(gp.inputs).cpu().numpy(), predictions, unrounded)
    )
    near = np.argsort(fitted, axis=1, kind="stable")[:, :_HOPES]
    gains = np.take_along_axis(predicted - found, near, 1)
    return np.asarray((gains[..., None] * shares[near]).max(1).clip(min=0.0))


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
