"""Faces of the box on which all criteria are constant, as knowledge beside a stationary process.

Where a dose or a size is 0, the other parameters often have no effect. A stationary process expects
the same variation there as elsewhere, so the search of a front would visit all corners of the face.
``face_moments`` conditions a posterior on the faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from bo_invert.types import Array, Mask

_LEAST = 3
"""Number of distant points on a face from which it counts as constant. Engineering choice."""
_DISTANT = 0.25
"""Least distance of these points in one coordinate, as a share of its range. Engineering choice:
nearer points have nearly equal outputs on every face."""
_EQUAL = 1e-3
"""Largest range of outputs that count as equal, as a share of the range of all observations.
Engineering choice."""


class ConstantFace(NamedTuple):
    """Face ``x_j = bound`` on which all criteria are constant.

    Args:
        coordinate: Coordinate j.
        bound: 0 or 1.
        values: Scores of the criteria on the face, NaN for other scores, shape ``(k,)``.
    """

    coordinate: int
    bound: float
    values: Array

    def holds(self, inputs: Array) -> Mask:
        """Return the mask ``(n,)`` of the inputs ``(n, d)`` on the face."""
        return np.asarray(np.abs(inputs[:, self.coordinate] - self.bound) < 1e-9)


def constant_faces(inputs: Array, scores: Array, criteria: Sequence[int]) -> list[ConstantFace]:
    """Return the faces on which the observations agree in all criteria.

    At least three points must be distant from each other, and each other coordinate must vary.
    Points that a permutation or reflection of the coordinates maps onto each other count once,
    because symmetric functions are equal there.

    Args:
        inputs: Unit inputs, shape ``(n, d)``.
        scores: Scores, shape ``(n, k)``.
        criteria: Scores of the criteria.
    """
    found = []
    own = scores[:, list(criteria)]
    tolerance = _EQUAL * np.ptp(own, axis=0)
    for j, bound in product(range(inputs.shape[1]), (0.0, 1.0)):
        face = ConstantFace(j, bound, np.full(scores.shape[1], np.nan))
        rows = face.holds(inputs)
        others = np.delete(inputs[rows], j, axis=1)
        if (
            len(others) >= _LEAST
            and (np.ptp(own[rows], axis=0) <= tolerance).all()
            and (np.ptp(others, axis=0) >= _DISTANT).all()
            and _distant_count(others) >= _LEAST
        ):
            face.values[list(criteria)] = own[rows].mean(0)
            found.append(face)
    return found


def _distant_count(inputs: Array) -> int:
    """Return the number of points ``(n, d)`` that are distant and not symmetric to each other."""
    folded = np.sort(np.minimum(inputs, 1.0 - inputs), axis=1)
    chosen: list[int] = []
    for row in range(len(inputs)):
        away = np.abs(inputs[chosen] - inputs[row]).max(1, initial=0.0)
        other = np.abs(folded[chosen] - folded[row]).max(1, initial=0.0)
        if (away >= _DISTANT).all() and (other > 1e-6).all():
            chosen.append(row)
    return len(chosen)
