"""Completions: points of a domain with some coordinates held, whose others follow the constraints.

Plots vary one or two parameters; inside constraints, the other ones cannot stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.dual_projection import EXACT
from bo_invert.domains.feasible_set import FeasibleSet
from bo_invert.domains.polytope import Polytope
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Indices, Mask

_DONORS = 12
"""Draws of the set that are tried for a point whose nearest completion violates a constraint.
Engineering choice: more draws rarely help."""
_DRAWS = 512
"""Number of draws of a plausible region. Engineering choice."""
_SHARES = (0.8, 0.6, 0.4, 0.2, 0.0)
"""Shares of the former coordinates in points that move towards plausible ones (dimensionless).
Engineering choice."""
_CHUNK = 512
"""Rows whose distances to all draws are computed together. Engineering choice: 8 MB."""
_FEW_DONORS, _MOST_COORDINATES = 4, 50
"""Draws that are tried in a plausible region, and largest number of coordinates.
Engineering choice: a projection of a thousand points takes 10 ms in 10 coordinates and seconds in
1,000."""
_OTHERS = 1e-2
"""Weight of coordinates that are not held in squared distances to draws. Engineering choice: the
held ones decide, the others break ties."""
_EXACT_ROWS = 200
"""Largest number of rows that are solved one by one. Engineering choice: 2 ms each."""
_UNCHANGED = 1e-6
"""Largest change of a held coordinate by rounding, in unit coordinates. Engineering choice: below
the tolerance of an equality."""
_MOVED = 1e-3
"""Largest change of a held coordinate at the edge of a plausible region, as a share of its range.
Engineering choice: below the width of a line."""


def complete(domain: Domain, points: Array, held: Mask) -> tuple[Array, Mask]:
    """Move the coordinates that are not held until the points satisfy the constraints.

    A linear equality keeps the ratios of the other parameters above their lower ends:
    ``w_j = s w_j`` with ``s = (b - sum_held a_i w_i) / sum_others a_j w_j`` in scaled values w
    (Cox direction; in pseudocomponents for lower ends above 0: Cox 1971, Piepel 1982). The result
    is projected onto the other constraints. Where this fails, for integers, counts and functions,
    the nearest completion of draws of the set is used. In a plausible region, the others move
    towards its mean, or towards draws.

    Args:
        domain: search domain.
        points: points ``(n, d)`` with the values to hold.
        held: True for the coordinates to hold, shape ``(n, d)``.

    Returns:
        Points ``(n, d)`` and a mask of success ``(n,)``; other points violate a constraint or do
        not have the held values.
    """
    points = np.asarray(points, dtype=np.float64)
    if not isinstance(domain, ConstrainedBox):
        found = np.asarray(domain.project(points))
        width = float((domain.bounds[1] - domain.bounds[0]).max())
        done = _unchanged(found, points, held, _MOVED * width)
        if domain.floor and not done.all() and domain.dim <= _MOST_COORDINATES:
            _make_plausible(domain, points, held, found, done)
        return found, done
    within, pool = domain.feasible, domain.draws.pool
    found, done = _near(within, points, held)
    lost = np.flatnonzero(~done)
    lost = lost[_possible(within, points[lost], held[lost])]
    if len(lost):
        found[lost], done[lost] = _from_draws(within, points[lost], held[lost], pool)
    if not within.free.all():
        for row in np.flatnonzero(~done & np.isin(np.arange(len(points)), lost))[:_EXACT_ROWS]:
            one = _exact(within, points[row], held[row])
            if one is not None:
                found[row], done[row] = one, True
    return found, done


def _make_plausible(domain: Domain, points: Array, held: Mask, found: Array, done: Mask) -> None:
    """Move the other coordinates towards plausible ones until the points are plausible.

    They move towards the mean of a latent, then towards those of the nearest draws. Rows of
    ``found`` ``(n, d)`` and ``done`` ``(n,)`` without success are replaced.
    """
    pool = np.asarray(domain.sample(np.random.default_rng(0), _DRAWS))
    near = pool[nearest_draws(points, held, pool, _FEW_DONORS, _OTHERS)]
    anchors = [np.zeros_like(points)] * domain.latent + list(near.swapaxes(0, 1))
    width = float((domain.bounds[1] - domain.bounds[0]).max())
    for anchor in anchors:
        for share in _SHARES:
            rows = np.flatnonzero(~done)
            if not len(rows):
                return
            mixed = share * points[rows] + (1.0 - share) * anchor[rows]
            tried = np.asarray(domain.project(np.where(held[rows], points[rows], mixed)))
            fine = _unchanged(tried, points[rows], held[rows], _MOVED * width)
            found[rows[fine]], done[rows[fine]] = tried[fine], True


def _near(within: FeasibleSet, points: Array, held: Mask) -> tuple[Array, Mask]:
    """Return the completions that are nearest to the points, and a mask of success."""
    base = within.valid(points)
    if within.coupled:
        base = within.write(base, _projected(within, within.read(base), _axes(within, held)))
    found = within.valid(base)
    # Rounding after the projection must not undo it.
    found = np.where(np.abs(found - base) <= EXACT, base, found)
    return found, within.satisfied(found) & _unchanged(found, points, held)


def _axes(within: FeasibleSet, held: Mask) -> Mask:
    """Return a mask ``(n, q)`` of the held axes of the linear constraints."""
    return held[:, [axis.columns.start for axis in within.axes]]


def _projected(within: FeasibleSet, scaled: Array, held: Mask) -> Array:
    """Return scaled values ``(n, q)`` that satisfy linear constraints and counts where possible."""
    start = _proportional(within, scaled, held)
    zero = np.array([axis.zero for axis in within.axes])
    # Held values other than 0 rank first among those that a count allows.
    first = np.where(start < zero, zero - 2.0, zero + 2.0)
    ranked = np.where(held & (np.abs(start - zero) > EXACT) & within.free, first, start)
    box = within.polytope(ranked if within.counts else start)
    lower, upper = np.where(held, scaled, box.lower), np.where(held, scaled, box.upper)
    found, _ = Polytope(box.a, box.least, box.most, lower, upper).project(start)
    return found


def _proportional(within: FeasibleSet, scaled: Array, held: Mask) -> Array:
    """Scale the values that are not held until the equalities hold."""
    start = scaled.copy()
    for normal, least, most in zip(within.a, within.least[0], within.most[0], strict=True):
        if least != most:
            continue
        used = ~held & (normal != 0.0)
        signs = np.where(used, np.sign(normal), 0.0)
        mixture = np.abs(signs.sum(axis=1)) == used.sum(axis=1)  # one sign
        rest = most - np.where(held, normal * start, 0.0).sum(axis=1)
        others = np.where(used, normal * start, 0.0).sum(axis=1)
        absent = np.abs(others) <= EXACT
        total = np.where(used, normal, 0.0).sum(axis=1)
        share = rest / np.where(absent, np.where(total == 0.0, 1.0, total), others)
        usable = used & (mixture & (share >= 0.0))[:, None]
        # Parts that are all 0 have no ratio: they become equal.
        moved = np.where(absent[:, None], share[:, None], start * share[:, None])
        start = np.where(usable, moved, start)
    return start


def _possible(within: FeasibleSet, points: Array, held: Mask) -> Mask:
    """Return a mask ``(n,)`` of rows whose held values satisfy the linear constraints."""
    if not within.coupled or not len(points):
        return np.ones(len(points), dtype=bool)
    scaled, fixed = within.read(within.valid(points)), _axes(within, held)
    lower, upper = np.where(fixed, scaled, within.low), np.where(fixed, scaled, within.high)
    box = Polytope(within.a, within.least, within.most, lower, upper)
    found, done = box.project(_proportional(within, scaled, fixed))
    return np.asarray(done | (box.excess(found) <= EXACT))


def _from_draws(within: FeasibleSet, points: Array, held: Mask, pool: Array) -> tuple[Array, Mask]:
    """Complete draws of the set that are near to the points."""
    near = nearest_draws(points, held, pool, _DONORS, _OTHERS)
    found, done = points.copy(), np.zeros(len(points), dtype=bool)
    for donors in near.T:
        rows = np.flatnonzero(~done)
        if not len(rows):
            break
        mixed = np.where(held[rows], points[rows], pool[donors[rows]])
        found[rows], done[rows] = _near(within, mixed, held[rows])
    return found, done


def nearest_draws(
    points: Array, held: Mask, pool: Array, count: int, others: float = 0.0
) -> Indices:
    """Return the rows of the draws that are nearest in the held coordinates, ``(n, count)``.

    Args:
        points: points, shape ``(n, d)``.
        held: True for the coordinates to hold, shape ``(n, d)``.
        pool: draws, shape ``(k, d)``.
        count: number of draws of a point.
        others: weight of squared distances in the other coordinates.
    """
    count = min(count, len(pool))
    parts = [np.empty((0, count), dtype=np.intp)]
    squares = (pool**2).T
    for i in range(0, len(points), _CHUNK):
        weight = np.where(held[i : i + _CHUNK], 1.0, others)
        # |x - v|^2 without the part |x|^2, which all draws share.
        far = weight @ squares - 2.0 * (weight * points[i : i + _CHUNK]) @ pool.T
        best = np.argpartition(far, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(far, best, axis=1), axis=1, kind="stable")
        parts.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(parts)


def _exact(within: FeasibleSet, point: Array, held: Mask) -> Array | None:
    """Return a completion of one point by moves of its discrete values; None without one."""
    named: dict[str, Any] = {
        name: within.parameters[name].decode(point[None, columns])[0]
        for name, columns in within.columns.items()
        if within.parameters[name].width and held[columns].all()
    }
    try:
        restricted = FeasibleSet(within.parameters, within.constraints, {**within.fixed, **named})
    except InvalidInputError:  # a count without possible values
        return None
    found, _, done = restricted.repair(point[None])
    fine = done[0] and within.satisfied(found)[0] and _unchanged(found, point[None], held[None])[0]
    return found[0] if fine else None


def _unchanged(found: Array, points: Array, held: Mask, most: float = _UNCHANGED) -> Mask:
    """Return a mask of the points whose held coordinates change by at most ``most``."""
    change = np.where(held, np.abs(found - points), 0.0).max(axis=1, initial=0.0)
    return np.asarray(change <= most)
