"""Values of choices that a search neglects after it has converged; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.history import History
from bo_invert.parameters import Choice
from bo_invert.search_domain import Domain
from bo_invert.types import Array, Mask

_STALL = 6
"""Number of trials without an improvement after which the search counts as converged.
Engineering choice."""
_MIN_GAIN = 0.01
"""Least improvement as a share of the gap between the median of the first losses and the best.
Engineering choice."""
_FIRST = 5
"""Least number of first losses. Engineering choice."""
_SAME = 2
"""Number of points in a row with the same value before another one is tried.
Engineering choice: a third of the points tries other values."""


@dataclass(frozen=True)
class NeglectedValue:
    """Value of a choice that deserves a trial.

    Args:
        columns: Columns of the choice.
        code: Coordinates of the value, shape ``(w,)``.
    """

    columns: slice
    code: Array

    def replaced(self, points: Array) -> Array:
        """Return points ``(n, d)`` with this value."""
        moved = points.copy()
        moved[:, self.columns] = self.code
        return moved

    def holds(self, points: Array) -> Mask:
        """Return a mask ``(n,)`` of the points ``(n, d)`` with this value."""
        return np.asarray(np.abs(points[:, self.columns] - self.code).max(axis=1) < 1e-9)


def neglected_value(domain: Domain, history: History, chosen: Array) -> NeglectedValue | None:
    """Return the value to try next; None before convergence.

    A surrogate may be wrong about a value with a few bad observations far from its optimum, and
    the expected improvement then stays below that of ever finer digits at the incumbent. After
    convergence, values are therefore tried by their number of trials, fewest first.

    Args:
        domain: Search domain.
        history: Log with at least one observation.
        chosen: Points of this ask so far, shape ``(p, d)``.
    """
    if not (domain.has_unordered and domain.has_real) or not _converged(history):
        return None
    latest = np.concatenate([history.points, history.pending_points, chosen])
    tried = np.concatenate([history.all_points, chosen])
    best: tuple[float, NeglectedValue] | None = None
    for name, columns in domain.columns.items():
        parameter = domain.parameters[name]
        if not isinstance(parameter, Choice) or parameter.ordered:
            continue
        values = [NeglectedValue(columns, code) for code in parameter.encode(parameter.values)]
        counts = np.array([value.holds(tried).sum() for value in values])
        usual = values[int(np.argmax([value.holds(latest[-1:])[0] for value in values]))]
        least = int(counts.argmin())
        # Counts are relative to equal shares, so that choices with many values are comparable.
        share = float(counts[least]) * len(values) / len(tried)
        if usual.holds(latest[-_SAME:]).all() and (best is None or share < best[0]):
            best = share, values[least]
    return None if best is None or best[0] >= 1.0 else best[1]


def _converged(history: History) -> bool:
    """Return whether the latest trials brought no improvement beyond a share of the gap."""
    losses = np.where(history.violations <= 0.0, history.losses, np.inf)
    if len(losses) <= _STALL or not np.isfinite(losses[:-_STALL]).any():
        return False
    before, now = losses[:-_STALL].min(), losses.min()
    # The first trials show the scale; later ones are near the incumbent.
    first = losses[np.isfinite(losses)][: max(_FIRST, len(losses) // 4)]
    gap = float(np.median(first)) - now
    return bool(before - now <= _MIN_GAIN * gap)
