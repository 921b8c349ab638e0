"""Room that fixed values leave to the other coordinates of a polytope.

Fixed values of a user are rounded, so that they may miss a constraint by less than its tolerance,
or leave single values to other coordinates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bo_invert.domains.polytope import Polytope, on_bounds
from bo_invert.types import Array

_NARROW = 1e-5
"""Width of an interval that counts as a single value, in unit coordinates. Engineering choice: ten
times the radius of the thinnest set that can be sampled."""
_PART = 0.98
"""Part of a tolerance that fixed values may use, dimensionless. Engineering choice: leaves the
error of a projection, 1e-11, within an inequality's tolerance of 1e-9."""
_BISECTIONS = 20
"""Number of bisections of the used part of the tolerances. Engineering choice: a part of 1e-6."""
_ROUNDS = 8
"""Largest number of rounds of bound propagation. Engineering choice: chains of fixed values are
short; thin sets that it does not find are sampled as they are."""


def with_room(box: Polytope, slack: Array) -> Polytope:
    """Return the polytope of one row whose fixed values may miss constraints by their tolerances.

    Constraints that the bounds of x miss by less than ``slack`` move to the nearest attainable
    value. Coordinates with an interval of at most 1e-5 are fixed at a point of the polytope; bound
    propagation finds the intervals (Savelsbergh 1994, section 1.1). An empty polytope is returned
    as it is.

    Args:
        box: polytope of one row; coordinates with equal bounds are fixed.
        slack: tolerances of the rows of ``a``, shape ``(m,)``.
    """
    if not len(box.a) or (box.lower > box.upper).any():
        return box
    found = _attainable(box, slack)
    middle = 0.5 * (found.lower + found.upper)
    point, done = found.project(middle)
    if not done[0]:
        moved = _nearest_bounds(found, slack, middle)
        if moved is None:
            return box
        found, point = moved
    point = on_bounds(point, found.lower, found.upper)
    low, high = _intervals(found)
    narrow = high - low <= _NARROW
    lower, upper = np.where(narrow, point, found.lower), np.where(narrow, point, found.upper)
    return _attainable(replace(found, lower=lower, upper=upper), slack)


def _attainable(box: Polytope, slack: Array) -> Polytope:
    """Move constraints that bounds miss by less than ``slack`` to the nearest attainable values."""
    low, high = _ends(box.a, box.lower[0], box.upper[0])
    least, most = box.least[0].copy(), box.most[0].copy()
    above = (low > most) & (low - most <= _PART * slack)
    below = (high < least) & (least - high <= _PART * slack)
    equal = least == most
    most = np.where(above, low, np.where(below & equal, high, most))
    least = np.where(below, high, np.where(above & equal, low, least))
    return replace(box, least=least[None], most=most[None])


def _nearest_bounds(box: Polytope, slack: Array, start: Array) -> tuple[Polytope, Array] | None:
    """Move constraints together by the least part of their tolerances that leaves a point.

    Returns:
        The polytope and a point ``(1, q)``; None if the whole tolerances leave none.
    """
    tried, step, found = 1.0, 0.5, None
    for _ in range(_BISECTIONS):
        wide = _PART * tried * slack
        x, done = replace(box, least=box.least - wide, most=box.most + wide).project(start)
        if done[0]:
            found = x
        elif found is None:
            return None
        tried = tried - step if done[0] else tried + step
        step *= 0.5
    assert found is not None
    left = found @ box.a.T
    least = np.where(box.equal, left, np.minimum(box.least, left))
    most = np.where(box.equal, left, np.maximum(box.most, left))
    return replace(box, least=least, most=most), found


def _ends(a: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return the least and largest values ``(m,)`` of ``A x`` between bounds ``(q,)``."""
    first, last = a * lower, a * upper
    return np.minimum(first, last).sum(axis=1), np.maximum(first, last).sum(axis=1)


def _intervals(box: Polytope) -> tuple[Array, Array]:
    """Return bounds ``(1, q)`` of the coordinates that each constraint implies, by propagation."""
    lower, upper = box.lower[0].copy(), box.upper[0].copy()
    for _ in range(_ROUNDS):
        before = lower.copy(), upper.copy()
        for row, least, most in zip(box.a, box.least[0], box.most[0], strict=True):
            used = row != 0.0
            c = row[used]
            ends = c * lower[used], c * upper[used]
            small, large = np.minimum(*ends), np.maximum(*ends)
            # c_j x_j <= most - sum of the least values of the other terms, and so on.
            top, bottom = most - (small.sum() - small), least - (large.sum() - large)
            high, low = np.where(c > 0.0, top, bottom) / c, np.where(c > 0.0, bottom, top) / c
            upper[used] = np.minimum(upper[used], high)
            lower[used] = np.maximum(lower[used], low)
        if np.array_equal(before, (lower, upper)):
            break
    return lower[None], upper[None]
