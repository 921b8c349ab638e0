"""Pareto dominance: front and reference point of losses; numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.types import Array, Mask

_MARGIN = 0.1
"""Distance of the reference point from the worst point of the front, as a share of the range of the
front. Ishibuchi et al. (2011) find 0.1 robust; it is the default of BoTorch."""


def non_dominated(losses: Array) -> Mask:
    """Return the mask ``(n,)`` of the losses ``(n, k)`` that no other row dominates.

    Row a dominates row b if ``a_i <= b_i`` for all i and ``a_i < b_i`` for one. Of equal rows the
    first one counts. Rows with NaN or infinities are dominated.
    """
    mask = np.zeros(len(losses), dtype=bool)
    rows = np.flatnonzero(np.isfinite(losses).all(axis=1))
    # Rows that dominate others have lower sums, so each pass keeps its first row.
    rows = rows[np.argsort(losses[rows].sum(axis=1), kind="stable")]
    while len(rows):
        first, rows = rows[0], rows[1:]
        mask[first] = True
        rows = rows[(losses[rows] < losses[first]).any(axis=1)]
    return mask


def reference_point(front: Array, observed: Array, given: Array, margin: float = _MARGIN) -> Array:
    """Return the reference point ``(k,)`` of a hypervolume, in losses.

    A given value is used as it is. Otherwise ``r_i = w_i + 0.1 (w_i - b_i)``, with w_i the worst
    and b_i the best loss on the front (Ishibuchi et al. 2011). If the front has no range in a
    criterion, because it is a single point, w_i and b_i are those of all feasible observations. If
    these are equal too, the range is ``max(|w_i|, 1)``.

    Args:
        front: Losses of the front, shape ``(n, k)``.
        observed: Losses of the feasible observations, shape ``(m, k)``, m >= n.
        given: Given reference point, NaN where there is none, shape ``(k,)``.
        margin: Distance from the worst loss of the front, as a share of its range.
    """
    if not len(front):
        return np.where(np.isnan(given), np.inf, given)
    worst, spread = front.max(axis=0), np.ptp(front, axis=0)
    flat = spread <= 0.0
    worst = np.where(flat, observed.max(axis=0), worst)
    spread = np.where(flat, np.ptp(observed, axis=0), spread)
    spread = np.where(spread > 0.0, spread, np.maximum(np.abs(worst), 1.0))
    return np.where(np.isnan(given), worst + margin * spread, given)


def dominance_order(losses: Array) -> Array:
    """Return the number of the front of each row of losses ``(n, k)``, 0 for the Pareto front.

    Front 1 is the front of the rows without front 0, and so on (Deb et al. 2002).
    """
    ranks = np.zeros(len(losses), dtype=int)
    rest = np.arange(len(losses))
    rank = 0
    while len(rest):
        mask = non_dominated(losses[rest])
        if not mask.any():  # only rows that are not finite are left
            ranks[rest] = rank
            break
        ranks[rest[mask]] = rank
        rest, rank = rest[~mask], rank + 1
    return ranks
