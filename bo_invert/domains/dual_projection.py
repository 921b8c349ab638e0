"""Projection of many points onto linear constraints and bounds, by their dual; numpy, scipy.

The number of arithmetic operations is small, and most time passes in the calls of numpy. All
methods therefore treat a batch of points at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.optimize import nnls

from bo_invert.types import Array, Indices, Mask

EXACT = 1e-11
"""Largest excess of a projected point, in unit coordinates. Engineering choice: a hundredth of the
tolerance of an inequality, above the rounding error of sums, 1e-15."""
RANK = 1e-10
"""Relative singular value of a dependent row. Engineering choice: rounding, rows have norm 1."""
INSET = 1e-13
"""Distance of projected points from an inequality, in unit coordinates. Engineering choice: above
rounding, so that ``a + b <= 1`` holds in double precision, too."""
_TIED = 1.1 * INSET
"""Violation of a narrower inequality whose coordinates are all at bounds, in unit coordinates: the
inequality itself holds up to rounding. Engineering choice."""
_NEWTON = 15
"""Largest number of Newton steps of the dual. Engineering choice: most batches take 4 to 8; the
exact method takes over the others."""
_RIDGE = 1e-9
"""Ridge of the Hessian matrix of the dual. Engineering choice: rows of A have norm 1."""
_FEW_ROWS = 16
"""Largest number of rows that the exact method projects in place of Newton steps. Engineering
choice: more rows take longer than 15 steps."""
_LONGEST = 4.0
"""Longest Newton step of the multipliers in unit coordinates. Engineering choice: constraints that
depend on the same free coordinates leave the length of a step open."""
_FULL_STEPS = 8
"""Largest number of full steps before those that check the dual. Engineering choice: most points
need three to five."""


@dataclass(frozen=True, eq=False)
class DualProjection:
    """Linear constraints and bounds of a batch of n rows, and projections onto them.

    Args:
        a: rows of the constraints with norm 1, shape ``(m, q)``.
        least: least values of ``A x``, -inf for none, shape ``(n, m)``, or ``(1, m)`` for all rows.
        most: largest values of ``A x``, inf for none; equal to ``least`` for equalities.
        lower: lower bounds of x, shape ``(n, q)`` or ``(1, q)``.
        upper: upper bounds of x, shape ``(n, q)`` or ``(1, q)``.
    """

    a: Array
    least: Array
    most: Array
    lower: Array
    upper: Array

    @cached_property
    def _count(self) -> int:
        """Number of rows; 1 if all have the same bounds."""
        return max(len(part) for part in (self.least, self.most, self.lower, self.upper))

    @cached_property
    def _shared(self) -> bool:
        """True if all rows of a batch have the same bounds."""
        return self._count == 1

    @cached_property
    def equal(self) -> Mask:
        """Mask ``(m,)`` of the equalities."""
        return np.asarray((self.least == self.most).all(axis=0))

    def rows(self, which: Indices | Mask) -> Self:
        """Return the polytope of some rows, which are a mask or rising numbers."""
        if self._shared or (len(which) == self._count and which.dtype != bool):
            return self
        least, most, lower, upper = (
            part if len(part) == 1 else part[which]
            for part in (self.least, self.most, self.lower, self.upper)
        )
        return type(self)(self.a, least, most, lower, upper)

    def excess(self, x: Array) -> Array:
        """Return the largest violation of each point ``(n, q)``, shape ``(n,)``; 0 inside."""
        worst = np.maximum(self.lower - x, x - self.upper).max(axis=1, initial=0.0)
        return np.asarray(np.maximum(worst, self._row_excess(x)))

    def _row_excess(self, x: Array) -> Array:
        """Return the largest violation of a constraint at each point ``(n, q)``, shape ``(n,)``."""
        left = x @ self.a.T
        over = np.maximum(self.least - left, left - self.most)
        return np.asarray(over.max(axis=1, initial=0.0))

    def _enters(self, free: Mask) -> Mask:
        """Return a mask ``(n, m)`` of the constraints that coordinates of a mask enter."""
        return np.asarray(free.astype(np.float64) @ (self.a.T != 0.0) > 0.0)

    def _one_row(self, y: Array) -> Array:
        """Project onto one constraint: the multiplier is a root of a piecewise linear function."""
        a, lower, upper = self.a[0], self.lower, self.upper
        b = clipped(clipped(y, lower, upper) @ a, self.least[:, 0], self.most[:, 0])
        used = a != 0.0
        ends = np.concatenate([y - lower, y - upper], axis=1)[:, np.concatenate([used, used])]
        breaks = ends / np.concatenate([a[used], a[used]])
        breaks.sort(axis=1)
        at = clipped(y[:, None] - breaks[..., None] * a, lower[:, None], upper[:, None])
        value = at @ a - b[:, None]  # falls with the multiplier
        after = clipped((value > 0.0).sum(axis=1), 1, breaks.shape[1] - 1)
        rows = np.arange(len(y))
        v0, v1 = value[rows, after - 1], value[rows, after]
        t0, t1 = breaks[rows, after - 1], breaks[rows, after]
        share = v0 / np.where(v0 > v1, v0 - v1, np.inf)
        multiplier = t0 + clipped(share, 0.0, 1.0) * (t1 - t0)
        x = clipped(y - multiplier[:, None] * a, lower, upper)
        # The rounding error is removed along the free coordinates.
        free = np.where((x > lower) & (x < upper), a, 0.0)
        size = np.maximum((free**2).sum(axis=1), 1e-6)
        return clipped(x - ((x @ a - b) / size)[:, None] * free, lower, upper)

    def _newton(self, y: Array) -> Array:
        """Project onto several constraints by Newton steps of the dual."""
        x, lost = self._active_set(y)
        if len(lost) <= _FEW_ROWS:
            for row in lost:
                found = self._exact(row, y[row])
                x[row] = x[row] if found is None else found
            return x
        n, m = len(lost), len(self.a)
        some = self.rows(lost)
        whole = type(self)(
            self.a,
            *(np.broadcast_to(bound, (n, m)) for bound in (some.least, some.most)),
            *(np.broadcast_to(bound, (n, y.shape[1])) for bound in (some.lower, some.upper)),
        )
        v, live = np.zeros((n, m)), np.arange(n)
        for _ in range(_NEWTON):
            rows = lost[live]
            v[live], x[rows], done = whole.rows(live)._dual_step(y[rows], v[live])
            live = live[~done]
            if not len(live):
                break
        return x

    def _exact(self, row: int, y: Array) -> Array | None:
        """Project one point ``(q,)`` onto the polytope of a row; None if the row has no point."""
        one = self.rows(np.array([row]))
        found = _nearest(one, y)
        if found is not None and one.excess(found[None])[0] > EXACT:
            # Far from the polytope, rounding errors are large; they are small nearby.
            found = _nearest(one, found)
        return found

    def _residual(self, y: Array, v: Array) -> tuple[Array, Array, Mask, Array]:
        """Return the state of the primal-dual active set method at multipliers v ``(n, m)``.

        A row is active if ``v + A x`` lies outside of its bounds (Hintermueller et al. 2002). Its
        residual is its distance from the bound; that of the others is their multiplier.

        Returns:
            Points ``(n, q)``, residuals ``(n, m)``, a mask ``(n, m)`` of active rows, and the
            distances ``(n, q)`` of coordinates beyond their bounds.
        """
        shifted = y - v @ self.a
        x = clipped(shifted, self.lower, self.upper)
        left = x @ self.a.T
        raised = v + left
        bound = clipped(raised, self.least, self.most)
        moving = raised != bound
        return x, np.where(moving, left - bound, v), moving, shifted - x

    def _unsolved(self, residual: Array, free: Mask) -> Mask:
        """Return a mask ``(n,)`` of residuals ``(n, m)`` above rounding.

        A row without free coordinates ``(n, q)`` may lie between an inequality and the narrower
        one.
        """
        size = np.abs(residual)
        missed = size > 0.1 * INSET
        tied = missed & (size <= _TIED)
        if tied.any():
            missed &= ~tied | self._enters(free)
        return np.asarray(missed.any(axis=1))

    def _step(self, residual: Array, moving: Mask, beyond: Array) -> Array:
        """Return the Newton step of the multipliers ``(n, m)``, ``-v`` for inactive rows.

        A row whose coordinates are all beyond their bounds has no slope. Its multiplier moves to
        where the first of them comes back.
        """
        weighted = self.a * ((beyond == 0.0)[:, None, :] & moving[:, :, None])
        hessian = weighted @ weighted.swapaxes(1, 2)
        diagonal = hessian.reshape(len(moving), -1)[:, :: len(self.a) + 1]
        flat = moving & (diagonal == 0.0) & (np.abs(residual) > _TIED)
        diagonal += np.where(moving, _RIDGE, 1.0)
        solved = np.linalg.solve(hessian, residual[..., None])[..., 0]
        if flat.any():
            each, row = np.nonzero(flat)
            slope = self.a[row] * np.sign(residual[each, row])[:, None]
            back = beyond[each] * slope > 0.0
            ways = np.where(back, beyond[each] / np.where(back, slope, 1.0), np.inf).min(axis=1)
            ways = np.where(np.isfinite(ways), ways, 0.0)
            solved[each, row] = np.sign(residual[each, row]) * ways + residual[each, row]
        return np.asarray(np.where(moving, solved, -residual), dtype=np.float64)

    def _active_set(self, y: Array) -> tuple[Array, Indices]:
        """Project by full steps of the primal-dual active set method.

        Full steps nearly always converge in a few iterations (Hintermueller et al. 2002), and cost
        half of those that check the dual.

        Returns:
            Points ``(n, q)``, and the numbers of the rows that did not converge.
        """
        found, live, some = np.empty_like(y), np.arange(len(y)), self
        v = np.zeros((len(y), len(self.a)))
        for _ in range(_FULL_STEPS):
            x, residual, moving, beyond = some._residual(y, v)
            found[live] = x
            left = np.flatnonzero(some._unsolved(residual, beyond == 0.0))
            if not len(left):
                break
            # Further steps leave solutions as they are; a few of them cost less than a selection.
            if 2 * len(left) <= len(live):
                some, live = some.rows(left), live[left]
                y, v, residual, beyond = (p[left] for p in (y, v, residual, beyond))
                moving = moving[left]
                left = np.arange(len(live))
            v = v + some._step(residual, moving, beyond)
        return found, live[left]

    def _dual_step(self, y: Array, v: Array) -> tuple[Array, Array, Mask]:
        """Take one Newton step of the dual that does not reduce it.

        Args:
            y: points to project, shape ``(n, q)``.
            v: multipliers, shape ``(n, m)``.

        Returns:
            Multipliers and points after the step, and a mask ``(n,)`` of rows without an error
            before it.
        """
        a, lower, upper, least, most = self.a, self.lower, self.upper, self.least, self.most
        x, residual, moving, beyond = self._residual(y, v)
        done = ~self._unsolved(residual, beyond == 0.0)
        if done.all():
            return v, x, done
        step = self._step(residual, moving, beyond)
        length = np.linalg.norm(np.where(moving, step, 0.0), axis=1, keepdims=True)
        step = np.where(moving, step * np.minimum(1.0, _LONGEST / np.maximum(length, _RIDGE)), -v)
        # A multiplier without a bound on its side would have a dual of -inf.
        smallest, largest = (
            np.where(least > -np.inf, -np.inf, 0.0),
            np.where(most < np.inf, np.inf, 0.0),
        )
        value = self._dual(x, y, v, x @ a.T)
        size = np.ones((len(y), 1))
        for _ in range(8):
            ahead = np.clip(v + size * step, smallest, largest)
            moved = np.clip(y - ahead @ a, lower, upper)
            higher = self._dual(moved, y, ahead, moved @ a.T)
            worse = higher < value - 1e-15 * (1.0 + abs(value))
            if not worse.any():
                break
            size[worse] *= 0.5
        return np.where(done[:, None], v, ahead), np.where(done[:, None], x, moved), done

    def _dual(self, x: Array, y: Array, v: Array, left: Array) -> Array:
        """Return ``|x - y|^2 / 2 + v' A x - sum_i max(v_i most_i, v_i least_i)``, ``(n, 1)``."""
        bound = np.where(v > 0.0, self.most, np.where(v < 0.0, self.least, 0.0))
        value = 0.5 * ((x - y) ** 2).sum(axis=1) + (v * (left - bound)).sum(axis=1)
        return np.asarray(value[:, None])


def clipped(x: Array, lower: Array | float, upper: Array | float) -> Array:
    """Return values between bounds; ``np.clip`` takes three times as long for few values."""
    return np.asarray(np.minimum(np.maximum(x, lower), upper))


def _nearest(one: DualProjection, y: Array) -> Array | None:
    """Project one point by least-distance programming (Lawson & Hanson 1974, chapter 23)."""
    lower, upper = one.lower[0], one.upper[0]
    if (lower > upper).any():
        return None
    free = upper > lower
    x = np.clip(y, lower, upper)
    a, shift = one.a[:, free], one.a[:, ~free] @ x[~free]
    least, most = one.least[0] - shift, one.most[0] - shift
    start, basis = np.zeros(int(free.sum())), np.eye(int(free.sum()))
    if one.equal.any():
        start = np.linalg.lstsq(a[one.equal], most[one.equal], rcond=None)[0]
        _, sizes, v = np.linalg.svd(a[one.equal])
        basis = v[int((sizes > RANK).sum()) :].T
    if not basis.shape[1]:
        x[free] = start
        return x
    # x = base + basis t with the shortest t; G t >= h are the inequalities and bounds.
    base = start + basis @ (basis.T @ (y[free] - start))
    up, down = np.isfinite(most) & ~one.equal, np.isfinite(least) & ~one.equal
    g = np.concatenate([-a[up] @ basis, a[down] @ basis, basis, -basis])
    h = np.concatenate([
        a[up] @ base - most[up], least[down] - a[down] @ base, lower[free] - base,
        base - upper[free],
    ])  # fmt: skip
    e = np.concatenate([g.T, h[None]])
    f = np.zeros(len(e))
    f[-1] = 1.0
    try:
        u, _ = nnls(e, f)
    except RuntimeError:  # too many iterations
        return None
    r = e @ u - f
    if abs(r[-1]) < 1e-12:  # no feasible point
        return None
    x[free] = np.clip(base - basis @ (r[:-1] / r[-1]), lower[free], upper[free])
    return x
