"""Whether a target is as good as hit, whatever the units of its outputs. numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.history import History
from bo_invert.objectives import Objective, Target

NEGLIGIBLE_SHARE = 1e-12
"""Share of an ordinary loss that counts as nothing: a millionth of an ordinary distance from the target."""
ROUNDING_SHARE = 1e-22
"""Share of a loss beyond which steps on differences in double precision have no more to gain."""


def target_reached(objective: Objective, history: History) -> bool:
    """Whether the best feasible trial leaves nothing to search for; False for what has no target.

    Where the target has a tolerance, this is what it says, unless the last digit is reached before. Otherwise the
    loss has to be next to nothing beside an ordinary one, the upper quartile of those told. So a lucky first point
    counts as a hit once a few others have shown what an ordinary loss is; at once if it is exact.
    """
    best = history.best
    if not isinstance(objective, Target) or best is None or best.loss is None or best.y is None:
        return False
    if objective.satisfied(best.y):
        return True
    share = ROUNDING_SHARE if objective.tolerance > 0.0 else NEGLIGIBLE_SHARE
    return bool(
        best.loss <= max(share * float(np.quantile(history.losses, 0.75)), rounding_loss(objective))
    )


def rounding_loss(target: Target) -> float:
    """Loss of outputs that are wrong in their last digit only."""
    last = np.finfo(float).eps * np.array(target.value) / np.array(target.scale)
    return float((last**2).mean())
