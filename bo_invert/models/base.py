"""What every surrogate here shares: inputs in the unit cube, which of them are known, names of kernels. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bo_invert.domain import Domain
from bo_invert.types import Array

KERNELS = {"rbf": ("rbf",), "matern": ("matern",), "auto": ("rbf", "matern")}
"""What a strategy's option ``kernel`` may be; of several kernels the data choose."""


def to_unit(domain: Domain, points: Array) -> Array:
    """Points ``(n, d)`` of a domain on the scale of the unit cube, shape ``(n, d)``."""
    lower, upper = domain.bounds
    return np.asarray((points - lower) / (upper - lower))


def from_unit(domain: Domain, inputs: Array) -> Array:
    """The points ``(n, d)`` that can be evaluated and are nearest to unit inputs ``(n, d)``."""
    lower, upper = domain.bounds
    return domain.project(lower + np.asarray(inputs) * (upper - lower))


def plateau(inputs: Array, values: Array) -> float:
    """How far apart queries must be to learn anything, in units of the unit cube; 0 for most functions.

    A function that answers exactly the same at two points is flat between them, as far as anybody knows: trees,
    rounding, clipping. The smooth model does not see that, and would go on asking within one leaf. The distance is
    twice the median of what lies between such twins, so it grows for as long as answers repeat themselves.

    Args:
        inputs: shape ``(n, d)``.
        values: outputs, shape ``(n, m)``.
    """
    from scipy.spatial import cKDTree

    _, group, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    gaps: list[float] = []
    for number in np.flatnonzero(counts > 1):
        twins = np.unique(inputs[group.ravel() == number], axis=0)
        if len(twins) > 1:
            gaps.extend(cKDTree(twins).query(twins, k=2)[0][:, 1])
    return min(2.0 * float(np.median(gaps)), 0.1 * math.sqrt(inputs.shape[1])) if gaps else 0.0


def seen(points: Array, known: Sequence[Array] | Array, apart: float = 0.0) -> Array:
    """Which points ``(n, d)`` are among the known ones, or nearer to one than ``apart``, shape ``(n,)``."""
    if not len(known):
        return np.zeros(len(points), dtype=bool)
    from scipy.spatial.distance import cdist

    told, least = np.asarray(known), max(apart, 1e-9)
    return np.array([bool((cdist(point[None], told) < least).any()) for point in points], dtype=bool)


def unseen(domain: Domain, points: Array, known: Sequence[Array] | Array, count: int, apart: float = 0.0) -> Array:
    """The first ``count`` of points ``(n, d)`` that are not known; known ones only where no others are left.

    ``apart``, in units of the unit cube, widens what counts as known.
    """
    lower, upper = domain.bounds
    reach = apart * float((upper - lower).mean())
    told = np.asarray(known).reshape(-1, domain.dim)
    picked: list[Array] = []
    for point in points:
        if len(picked) == count:
            break
        if not seen(point[None], told, reach)[0] and not seen(point[None], picked, reach)[0]:
            picked.append(point)
    picked.extend(points[: count - len(picked)])
    return np.array(picked).reshape(-1, domain.dim)
