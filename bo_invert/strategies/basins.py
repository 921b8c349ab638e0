"""Turns of a search with gradients: global queries, and descents into other basins.

A basin is explored by a trust region of its own, computed from the log: ``query.meta["basin"]``
holds the number of the trial at which it began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.types import Array, Indices, Trial

KEY = "basin"
"""Key in ``query.meta`` of the trial number at which a basin began."""
# Engineering choice: share of the distance between the median of all losses and the incumbent that
# counts as a gain.
_GAIN = 0.01
# Engineering choice: global queries after a basin, which use what it showed.
_AFTER_BASIN = 2
# Engineering choice: initial half-width of the trust region of a basin, and its least value, in
# units of the unit cube.
REACH, _LEAST_REACH = 0.1, 0.01
# Factors of the half-width after a better and a worse loss (Nocedal & Wright 2006, algorithm 4.1).
_GROWTH, _SHRINKAGE = 2.0, 0.25
# Engineering choice: queries of a basin before it may end, and largest number of them.
_TRIAL_STEPS, _MAX_STEPS = 3, 16
# Engineering choice: a basin goes on if it would gain on the incumbent within this multiple of its
# latest gain; a descent that converges linearly by 1/2 gains as much again as in the latest
# step, one by 3/4 three times as much.
_OUTLOOK = 3.0
# Engineering choice: radius of a basin in units of sqrt(d) of the unit cube.
_RADIUS = 0.12


@dataclass(frozen=True)
class Basin:
    """Trust region of a basin.

    Args:
        start: number of the trial at which it began; that of a query that has not ended for now.
        centre: best point, shape ``(d,)``.
        losses: loss of the start, then the best loss after each query.
        reach: half-width in units of the unit cube.
    """

    start: int
    centre: Array
    losses: tuple[float, ...]
    reach: float = REACH

    def after(self, trial: Trial) -> Basin:
        """Return the basin after a query."""
        loss, best = float(trial.loss or 0.0), self.losses[-1]
        if loss < best:
            reach = min(_GROWTH * self.reach, 2.0 * REACH)
            return Basin(self.start, trial.point, (*self.losses, loss), reach)
        return Basin(self.start, self.centre, (*self.losses, best), _SHRINKAGE * self.reach)

    def over(self, best: float, scale: float) -> bool:
        """Return True if further queries are not worth it.

        Args:
            best: best loss of all basins.
            scale: distance of the median of all losses from it.
        """
        steps = len(self.losses) - 1
        if steps >= _MAX_STEPS or self.reach < _LEAST_REACH:
            return True
        # The mean of two steps, since one of them may have been too long.
        gain = 0.5 * (self.losses[-min(steps, 2) - 1] - self.losses[-1])
        expected = self.losses[-1] - _OUTLOOK * gain
        return steps >= _TRIAL_STEPS and expected > best - _GAIN * scale


def running_basin(history: History, name: str, patience: int) -> tuple[bool, Basin | None]:
    """Return True if basins have the turn, and the running one, if there is one.

    Global queries lose their turn after ``patience`` of them without a gain.

    Args:
        history: log.
        name: name of the strategy.
        patience: number of global queries.
    """
    best, level, idle = np.inf, np.inf, 0
    basin: Basin | None = None
    losses: list[float] = []
    by_number = {trial.number: trial for trial in history.completed}
    for trial in history.completed:
        loss = float(trial.loss or 0.0)
        losses.append(loss)
        best = min(best, loss)
        start = trial.query.meta.get(KEY)
        scale = float(np.median(losses)) - best
        if best < level - _GAIN * scale or level == np.inf:
            level, idle, basin = best, 0, None
        elif start is not None:
            if basin is None or basin.start != start:
                first = by_number[start]
                basin = Basin(start, first.point, (float(first.loss or 0.0),))
            basin = basin.after(trial)
            if basin.over(best, scale):
                basin, idle = None, max(0, patience - _AFTER_BASIN)
        elif trial.origin == name and "design" not in trial.query.meta:
            idle += 1
    return idle >= patience or basin is not None, basin


def basin_starts(history: History, domain: Domain, most: int) -> Indices:
    """Return the positions of the best points of unexplored basins, best first.

    A point represents a basin if no better one is near. The incumbent's basin, and those in which
    the search has been, are left out.

    Args:
        history: log.
        domain: search domain.
        most: largest number of positions.
    """
    radius = _RADIUS * np.sqrt(domain.dim)
    inputs = to_unit(domain, history.points)
    entered = {trial.query.meta.get(KEY) for trial in history.trials}
    found: list[int] = []
    for position, row in enumerate(history.order):
        better = inputs[history.order[:position]]
        near = np.linalg.norm(better - inputs[row], axis=1) < radius
        trial = history.completed[row]
        explored = trial.number in entered or KEY in trial.query.meta
        if position and not near.any() and not explored:
            found.append(int(row))
    return np.array(found[:most], dtype=np.intp)
