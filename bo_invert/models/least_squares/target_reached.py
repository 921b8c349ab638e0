"""Convergence to a target, independent of the units of the outputs; numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.history import History
from bo_invert.objectives.base import Objective
from bo_invert.objectives.target import Target

NEGLIGIBLE_SHARE = 1e-12
"""Share of an ordinary loss that counts as zero. Engineering choice: a millionth of an ordinary
distance, squared."""
ROUNDING_SHARE = 1e-22
"""Share of a loss at which finite differences reach rounding errors in double precision.
Engineering choice: 1e-11 of the distance, squared."""


def target_reached(objective: Objective, history: History) -> bool:
    """Return whether the best feasible trial reaches the target; False without a target.

    A target with a tolerance decides itself. Otherwise the loss must be negligible beside an
    ordinary one, the upper quartile of the observed losses.
    """
    best = history.best
    if not isinstance(objective, Target) or best is None or best.loss is None or best.y is None:
        return False
    if objective.satisfied(best.y):
        return True
    share = ROUNDING_SHARE if objective.satisfiable else NEGLIGIBLE_SHARE
    # A first point on target counts only once others show what an ordinary loss is.
    ordinary = float(np.quantile(history.losses, 0.75))
    return bool(best.loss <= max(share * ordinary, rounding_loss(objective)))


def rounding_loss(target: Target) -> float:
    """Return the loss of outputs that differ from the target by one machine epsilon."""
    # One unit in the last place of each output, as the objective scales it.
    # An open end has no last place.
    ends = np.abs([target.entries.lower, target.entries.upper])
    largest = np.where(np.isfinite(ends), ends, 0.0).max(axis=0)
    last = np.finfo(float).eps * largest / np.array(target.units)
    return float((last**2).mean())
