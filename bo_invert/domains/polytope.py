"""Polytopes: projection of many points, random draws, and the largest ball inside; numpy, scipy.

The polytope of a row is ``{x : A x <= b, A_e x = b_e, lower <= x <= upper}``. All rows of a batch
share A; bounds and right-hand sides may differ, because fixed values and integers change them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog, nnls

from bo_invert.types import Array, Indices, Mask

EXACT = 1e-11
"""Largest excess of a projected point, in unit coordinates. Engineering choice: a hundredth of the
tolerance of an inequality, above the rounding error of sums, 1e-15."""
_INSET = 1e-13
"""Distance of projected points from an inequality, in unit coordinates. Engineering choice: above
rounding, so that ``a + b <= 1`` holds in double precision, too."""
_NEWTON = 30
"""Largest number of Newton steps of the dual. Engineering choice: most batches take less than 8."""
_RIDGE = 1e-9
"""Ridge of the Hessian matrix of the dual. Engineering choice: rows of A have norm 1."""
_LONGEST = 4.0
"""Longest Newton step of the multipliers in unit coordinates. Engineering choice: constraints that
depend on the same free coordinates leave the length of a step open."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """Linear constraints and bounds of a batch of n rows.

    Args:
        a: rows of the constraints with norm 1, shape ``(m, q)``.
        b: right-hand sides, shape ``(n, m)``, or ``(1, m)`` for all rows.
        equal: mask of the equalities, shape ``(m,)``.
        lower: lower bounds, shape ``(n, q)`` or ``(1, q)``.
        upper: upper bounds, shape ``(n, q)`` or ``(1, q)``.
    """

    a: Array
    b: Array
    equal: Mask
    lower: Array
    upper: Array

    def rows(self, which: Indices | Mask) -> Polytope:
        """Return the polytope of some rows."""
        b, lower, upper = (
            part if len(part) == 1 else part[which] for part in (self.b, self.lower, self.upper)
        )
        return replace(self, b=b, lower=lower, upper=upper)

    def excess(self, x: Array) -> Array:
        """Return the largest violation of each point ``(n, q)``, shape ``(n,)``; 0 inside."""
        worst = np.maximum(self.lower - x, x - self.upper).max(axis=1, initial=0.0)
        if len(self.a):
            gap = x @ self.a.T - self.b
            worst = np.maximum(worst, np.where(self.equal, np.abs(gap), gap).max(axis=1))
        return np.asarray(np.maximum(worst, 0.0))

    def project(self, y: Array) -> tuple[Array, Mask]:
        """Return the nearest points of the polytopes to ``y`` ``(n, q)``, and a mask of success.

        With multipliers ``v``, the nearest point is ``x(v) = clip(y - A' v, lower, upper)``, and
        ``v`` maximises the concave dual, whose gradient is ``A x(v) - b`` and whose Hessian matrix
        is ``-A F A'``, F being the mask of coordinates between their bounds. One constraint is
        solved exactly between the breakpoints of its piecewise linear gradient, several by
        semismooth Newton steps with step halving (Qi & Sun 1993).
        """
        if not len(y) or not len(self.a):
            x = np.clip(y, self.lower, self.upper)
            return x, (self.lower <= self.upper).all(axis=1) & np.ones(len(y), dtype=bool)
        aim = replace(self, b=np.where(self.equal, self.b, self.b - _INSET))
        x = aim._one_row(y) if len(self.a) == 1 else aim._newton(y)
        lost = np.flatnonzero(self.excess(x) > EXACT)
        for row in lost[:_EXACT_ROWS]:
            found = _nearest(self.rows(np.array([row])), y[row])
            if found is not None:
                x[row] = found
        return x, self.excess(x) <= EXACT

    def _one_row(self, y: Array) -> Array:
        """Project onto one constraint: the multiplier is a root of a piecewise linear function."""
        a, b = self.a[0], np.broadcast_to(self.b[:, 0], len(y))
        x = np.clip(y, self.lower, self.upper)
        gap = x @ a - b
        bad = np.abs(gap) > EXACT * 1e-3 if self.equal[0] else gap > 0.0
        if not bad.any():
            return x
        some = self.rows(bad)
        y, b = y[bad], b[bad]
        used = a != 0.0
        with np.errstate(all="ignore"):
            ends = np.concatenate([(y - some.lower)[:, used], (y - some.upper)[:, used]], axis=1)
            breaks = np.sort(ends / np.tile(a[used], 2), axis=1)
        at = np.clip(y[:, None] - breaks[..., None] * a, some.lower[:, None], some.upper[:, None])
        value = at @ a - b[:, None]  # falls with the multiplier
        after = np.clip((value > 0.0).sum(axis=1), 1, breaks.shape[1] - 1)
        rows = np.arange(len(y))
        v0, v1 = value[rows, after - 1], value[rows, after]
        t0, t1 = breaks[rows, after - 1], breaks[rows, after]
        with np.errstate(all="ignore"):
            share = np.where(v0 > v1, v0 / (v0 - v1), 0.0)
        multiplier = t0 + np.clip(share, 0.0, 1.0) * (t1 - t0)
        x[bad] = np.clip(y - multiplier[:, None] * a, some.lower, some.upper)
        return some._corrected(x, bad)

    def _corrected(self, x: Array, rows: Mask) -> Array:
        """Remove the rounding error of one constraint along its free coordinates."""
        part = x[rows]
        free = np.where((part > self.lower) & (part < self.upper), self.a[0], 0.0)
        gap = part @ self.a[0] - self.b[:, 0]
        size = (free**2).sum(axis=1)
        step = np.where(size > 1e-6, gap / np.maximum(size, 1e-6), 0.0)
        x[rows] = np.clip(part - step[:, None] * free, self.lower, self.upper)
        return x

    def _newton(self, y: Array) -> Array:
        n, m = len(y), len(self.a)
        a, lower, upper = self.a, *np.broadcast_arrays(self.lower, self.upper, y)[:2]
        b = np.broadcast_to(self.b, (n, m))
        x = np.clip(y, lower, upper)
        gap = x @ a.T - b
        error = np.where(self.equal, np.abs(gap), gap).max(axis=1)
        live = np.flatnonzero(error > 0.1 * _INSET)
        v = np.zeros((n, m))
        for _ in range(_NEWTON):
            if not len(live):
                break
            own = v[live]
            own = self._step(y[live], own, lower[live], upper[live], b[live])
            v[live] = own
            x[live] = np.clip(y[live] - own @ a, lower[live], upper[live])
            gap = x[live] @ a.T - b[live]
            bound = np.abs(gap) * ((own > 0.0) | self.equal)
            error = np.maximum(gap, bound).max(axis=1)
            live = live[error > 0.1 * _INSET]
        return x

    def _step(self, y: Array, v: Array, lower: Array, upper: Array, b: Array) -> Array:
        """Return the multipliers ``(n, m)`` after one Newton step that does not reduce the dual."""
        a, m = self.a, len(self.a)
        shifted = y - v @ a
        x = np.clip(shifted, lower, upper)
        gap = x @ a.T - b
        # Primal-dual active set (Hintermueller et al. 2002): the others lose their multiplier.
        moving = self.equal | (v + gap > 0.0)
        free = (shifted > lower) & (shifted < upper)
        weighted = np.where(free[:, None, :], a, 0.0) * moving[:, :, None]
        hessian = weighted @ weighted.swapaxes(1, 2)
        hessian[:, np.arange(m), np.arange(m)] += np.where(moving, _RIDGE, 1.0)
        step = np.linalg.solve(hessian, (gap * moving)[..., None])[..., 0]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step = np.where(moving, step * np.minimum(1.0, _LONGEST / np.maximum(length, _RIDGE)), -v)
        value = _dual(x, y, v, gap)
        size = np.ones((len(y), 1))
        ahead = v
        for _ in range(8):
            ahead = v + size * step
            ahead = np.where(self.equal, ahead, np.maximum(ahead, 0.0))
            moved = np.clip(y - ahead @ a, lower, upper)
            worse = _dual(moved, y, ahead, moved @ a.T - b) < value - 1e-15 * (1.0 + abs(value))
            if not worse.any():
                break
            size[worse] *= 0.5
        return ahead

    def chord(self, x: Array, direction: Array) -> tuple[Array, Array]:
        """Return the ends ``t`` of the chords ``x + t direction`` inside, two arrays ``(n,)``."""
        with np.errstate(all="ignore"):
            low, high = (self.lower - x) / direction, (self.upper - x) / direction
            still = np.abs(direction) < 1e-14
            least = np.where(still, -np.inf, np.minimum(low, high)).max(axis=1)
            most = np.where(still, np.inf, np.maximum(low, high)).min(axis=1)
            if len(self.a) and not self.equal.all():
                part = self.a[~self.equal]
                slope = direction @ part.T
                gap = np.broadcast_to(self.b, (len(x), len(self.a)))[:, ~self.equal] - x @ part.T
                t = np.maximum(gap, 0.0) / slope
                flat = np.abs(slope) < 1e-14
                least = np.maximum(least, np.where(flat | (slope > 0), -np.inf, t).max(axis=1))
                most = np.minimum(most, np.where(flat | (slope < 0), np.inf, t).min(axis=1))
        return np.minimum(least, 0.0), np.maximum(most, 0.0)

    def along(self, direction: Array) -> Array:
        """Remove from directions ``(n, q)`` the normals of the equalities and fixed coordinates."""
        free = np.broadcast_to(self.upper > self.lower, direction.shape)
        direction = np.where(free, direction, 0.0)
        if not self.equal.any():
            return direction
        normal = np.where(free[:, None, :], self.a[self.equal], 0.0)
        gram = normal @ normal.swapaxes(1, 2)
        count = int(self.equal.sum())
        gram[:, np.arange(count), np.arange(count)] += 1e-12
        weight = np.linalg.solve(gram, normal @ direction[..., None])
        return np.asarray(direction - (normal.swapaxes(1, 2) @ weight)[..., 0])


_EXACT_ROWS = 64
"""Largest number of rows that the exact method projects in one call. Engineering choice: it takes
0.2 ms a row; the caller replaces the other rows."""


def _dual(x: Array, y: Array, v: Array, gap: Array) -> Array:
    """Return the dual ``|x - y|^2 / 2 + v' (A x - b)`` of n rows, shape ``(n, 1)``."""
    value = 0.5 * ((x - y) ** 2).sum(axis=1) + (v * gap).sum(axis=1)
    return np.asarray(value[:, None])


def _nearest(one: Polytope, y: Array) -> Array | None:
    """Project one point by least-distance programming (Lawson & Hanson 1974, chapter 23)."""
    lower, upper, b = one.lower[0], one.upper[0], one.b[0]
    if (lower > upper).any():
        return None
    free = upper > lower
    x = np.clip(y, lower, upper)
    a, rest = one.a[:, free], b - one.a[:, ~free] @ x[~free]
    start, basis = np.zeros(int(free.sum())), np.eye(int(free.sum()))
    if one.equal.any():
        start = np.linalg.lstsq(a[one.equal], rest[one.equal], rcond=None)[0]
        _, sizes, v = np.linalg.svd(a[one.equal])
        basis = v[int((sizes > 1e-10).sum()) :].T
    if not basis.shape[1]:
        x[free] = start
        return x
    # z = t - t0 with x = start + basis t; G z >= h are the inequalities and bounds.
    origin = basis.T @ (y[free] - start)
    base = start + basis @ origin
    g = np.concatenate([-a[~one.equal] @ basis, basis, -basis])
    h = np.concatenate(
        [a[~one.equal] @ base - rest[~one.equal], lower[free] - base, base - upper[free]]
    )
    e = np.concatenate([g.T, h[None]])
    f = np.zeros(len(e))
    f[-1] = 1.0
    try:
        u, _ = nnls(e, f)
    except RuntimeError:  # too many iterations
        return None
    r = e @ u - f
    if abs(r[-1]) < 1e-12:
        return None
    x[free] = np.clip(base - basis @ (r[:-1] / r[-1]), lower[free], upper[free])
    return x


def largest_ball(one: Polytope) -> tuple[Array | None, float]:
    """Return centre ``(q,)`` and radius of the largest ball inside, within the equalities.

    The linear program ``max r : a_i x + r |P a_i| <= b_i, A_e x = b_e`` (Chebyshev centre, Boyd &
    Vandenberghe 2004, section 4.3.1), P being the projector onto the equalities' null space.

    Returns:
        None and 0 for an empty set. A coordinate that is fixed does not limit the ball.
    """
    q = one.lower.shape[1]
    lower, upper, b = one.lower[0], one.upper[0], one.b[0]
    free = upper > lower
    if (lower > upper).any():
        return None, 0.0
    normals = np.concatenate([one.a[one.equal], np.eye(q)[~free]])
    if len(normals):
        _, sizes, v = np.linalg.svd(normals)
        null = v[int((sizes > 1e-10).sum()) :]
    else:
        null = np.eye(q)
    rows = np.concatenate([one.a[~one.equal], np.eye(q)[free], -np.eye(q)[free]])
    limits = np.concatenate([b[~one.equal], upper[free], -lower[free]])
    lengths = np.linalg.norm(rows @ null.T, axis=1)
    fixed = np.concatenate([one.a[one.equal], np.eye(q)[~free]])
    values = np.concatenate([b[one.equal], lower[~free]])
    found = linprog(
        [*np.zeros(q), -1.0],
        A_ub=np.column_stack([rows, lengths]) if len(rows) else None,
        b_ub=limits if len(rows) else None,
        A_eq=np.column_stack([fixed, np.zeros(len(fixed))]) if len(fixed) else None,
        b_eq=values if len(fixed) else None,
        bounds=[(None, None)] * q + [(0.0, 1.0)],
    )
    if not found.success:
        return None, 0.0
    return found.x[:-1], float(found.x[-1]) if len(null) else 1.0
