"""Groups of repeated rows, exact or nearly: augmented data, frames of a video, copies.

Held-out rows must be new. A row whose copy is in the training part is not, so folds take groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from bo_invert.types import Array, Indices

# Least number of different rows whose distances are compared. Engineering choice.
_LEAST_ROWS = 20
# Least separation of short and long distances in standard deviations (Ashman et al. 1994), and
# least ratio of their geometric means. Measured on 3 draws each of normal, uniform, heavy-tailed
# and curved data of 300 to 2,000 rows in 1 to 32 dimensions: at most 3.4 without copies. Rows
# copied 2 to 10 times: 4 to 86, and ratios of 1.8 and more, with noise of 1e-6 to 0.1 standard
# deviations in 4, 0.2 in 8, 0.4 in 16 and 0.5 in 32 dimensions. More noise has one mode only.
_SEPARATION, _RATIO = 4.0, 1.8
# Largest share of the rows in one group. Engineering choice: a larger group is a cluster.
_LARGEST = 0.1


def row_groups(points: Array) -> Indices:
    """Return a group number for each row ``(n,)``; repeated rows have the same number.

    Equal rows share a group. Different rows are linked along the minimum spanning tree if its edge
    lengths have two modes: groups are joined by the short edges. A group of more than a tenth of
    the rows is a cluster, and is divided by its own edges.

    Args:
        points: rows in coordinates of equal scale, shape ``(n, d)``.
    """
    _, first, exact = np.unique(points, axis=0, return_index=True, return_inverse=True)
    different = points[first]
    labels = np.arange(len(first))
    waiting = [labels]
    limit = max(2.0, _LARGEST * len(first))
    while waiting:
        rows = waiting.pop()
        parts = _joined(different[rows])
        if parts is None:
            continue
        for part in np.unique(parts):
            members = rows[parts == part]
            if len(members) <= limit:
                labels[members] = members[0]
            elif len(members) < len(rows):
                waiting.append(members)
    return np.asarray(labels[exact.ravel()])


def _joined(rows: Array) -> NDArray[np.integer] | None:
    """Return groups of rows that short edges join; None if the edges have one mode.

    Otsu's threshold (1979) divides the logarithms of the lengths.
    """
    if len(rows) < _LEAST_ROWS:
        return None
    tree = linkage(rows, "single")
    lengths = np.log(np.maximum(tree[:, 2], np.finfo(float).tiny))
    count, below = len(lengths), np.arange(1, len(lengths))
    sums = np.cumsum(lengths)
    gap = (sums[-1] - sums[:-1]) / (count - below) - sums[:-1] / below
    cut = int((below * (count - below) * gap**2).argmax()) + 1
    short, long = lengths[:cut], lengths[cut:]
    apart = long.mean() - short.mean()
    spread = np.sqrt(0.5 * (short.var() + long.var()))
    if apart < np.log(_RATIO) or apart < _SEPARATION * spread:
        return None
    return np.asarray(fcluster(tree, tree[cut - 1, 2], "distance"))


def grouped_folds(groups: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Draw the fold of each row ``(n,)``; groups share it unless there are few groups.

    Args:
        groups: group of each row ``(n,)``, from ``row_groups``.
        count: number of folds.
        rng: random generator.
    """
    fold = rng.permutation(len(groups)) % count
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    shared: Indices = fold[first[group.ravel()]]
    return shared if len(first) >= 2 * count and np.ptp(shared) else fold
