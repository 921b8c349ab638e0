"""Which of very many told points a global model is given: the cost of an ask must not grow with the log. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bo_invert.types import Array

MAX_POINTS = 1000
"""So many points at most are given to a global model: its cost grows with the third power of their number."""


def select_subset(
    inputs: Array, ranking: NDArray[np.intp], most: int = MAX_POINTS
) -> NDArray[np.intp]:
    """Positions of at most ``most`` points, rising; all of them where there are no more.

    A quarter are the best. Half are the nearest to the best few, since there the model must be sharp. The rest are
    spread evenly over the order in which they were told, which keeps some of the first design and of every phase.

    Args:
        inputs: shape ``(n, d)``.
        ranking: positions of all n points, best first.
        most: at least 4.
    """
    n = len(inputs)
    if n <= most:
        return np.arange(n)
    kept = np.zeros(n, dtype=bool)
    kept[ranking[: most // 4]] = True
    few = inputs[ranking[:5]]
    gaps = np.min([np.linalg.norm(inputs - centre, axis=1) for centre in few], axis=0)
    order = np.argsort(gaps, kind="stable")
    kept[order[~kept[order]][: most // 2]] = True
    rest = np.flatnonzero(~kept)
    free = most - int(kept.sum())
    kept[rest[np.linspace(0, len(rest) - 1, free).round().astype(int)]] = True
    return np.flatnonzero(kept)
