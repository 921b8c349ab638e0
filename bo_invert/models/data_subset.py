"""Subset of data for global surrogates, to bound their cost in long logs; numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.types import Array, Indices

MAX_POINTS = 1000
"""Largest number of points of a global surrogate. Engineering choice: a fit costs O(n^3)."""


def select_subset(inputs: Array, ranking: Indices, most: int = MAX_POINTS) -> Indices:
    """Select the positions of at most ``most`` observations, in rising order.

    A quarter are the best ones. Half are the nearest to the five best, where the surrogate must be
    accurate. The others are evenly spaced in the order of observation.

    Args:
        inputs: Observed inputs, shape ``(n, d)``.
        ranking: Positions of all observations, best first, shape ``(n,)``.
        most: Size of the subset, at least 4.
    """
    n = len(inputs)
    if n <= most:
        return np.arange(n)
    chosen = np.zeros(n, dtype=bool)
    chosen[ranking[: most // 4]] = True
    # The global model must be accurate where the next queries are likely.
    distances = np.min(
        [np.linalg.norm(inputs - best, axis=1) for best in inputs[ranking[:5]]], axis=0
    )
    order = np.argsort(distances, kind="stable")
    chosen[order[~chosen[order]][: most // 2]] = True
    # Even spacing in time keeps points of the initial design and of every phase of the search.
    rest = np.flatnonzero(~chosen)
    chosen[rest[np.linspace(0, len(rest) - 1, most - chosen.sum()).round().astype(int)]] = True
    return np.flatnonzero(chosen)
