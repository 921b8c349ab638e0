"""Batched projected L-BFGS for many small problems, in numpy or torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import numpy as np

from bo_invert.models.array_module import (
    A,
    add_product,
    array_module,
    clamp,
    on_host,
    positions,
    row_products,
    subtract_product_,
)
from bo_invert.models.optim.feasible_box import ActiveSet, FeasibleBox, FeasibleRegion

Function = Callable[[A, A], tuple[A, A]]
"""Function from positions ``(a, p)`` and numbers ``(a,)`` of their problems to values ``(a,)`` and
gradients ``(a, p)``."""

# Number of curvature pairs, within 3 to 20 (Nocedal & Wright 2006, section 7.2). Engineering
# choice: descents of random networks take as many steps as with 10.
_MEMORY = 8
# Share of the expected decrease that a step must reach (Armijo 1966; Nocedal & Wright 2006).
_SUFFICIENT = 1e-4
# Limits of the factor of a rejected step (Nocedal & Wright 2006, section 3.5).
_SHORTER = (0.1, 0.5)
# Share of the quasi-Newton step at which a problem ends. Engineering choice.
_LEAST_STEP = 1e-6


def minimise_batched(
    function: Function[A],
    start: A,
    lower: A,
    upper: A,
    *,
    steps: int = 100,
    tolerance: float = 1e-7,
    region: FeasibleRegion[A] | None = None,
) -> tuple[A, A]:
    """Minimise b independent problems by projected L-BFGS; converged ones are not evaluated.

    Args:
        function: Function of all problems; a step to a value that is not finite is rejected.
        start: Starts, shape ``(b, p)``.
        lower: Lower bounds, broadcast to ``(b, p)``.
        upper: Upper bounds, broadcast to ``(b, p)``.
        steps: Largest number of evaluations of each problem.
        tolerance: Gain of two steps in a row, relative to max(1, |value|), at which a problem ends.
        region: Region instead of the bounds.

    Returns:
        Positions ``(b, p)`` and values ``(b,)``, never worse than the start.
    """
    optimizer = BatchedLBFGS(start, region or FeasibleBox(lower, upper), tolerance)
    rows = positions(optimizer.running)
    x, f = array_module(start).zeros_like(optimizer.points), optimizer.f
    # Values that are not finite are rejected; numpy would warn of their arithmetic.
    with np.errstate(all="ignore"):
        for _ in range(steps):
            optimizer.update(*function(optimizer.points, rows))
            if not optimizer.running.all():
                x[rows], f[rows] = optimizer.x, optimizer.f
                going = positions(optimizer.running)
                rows = rows[going]
                optimizer.select(going)
                if not len(rows):
                    break
    x[rows], f[rows] = optimizer.x, optimizer.f
    return x, f


_ROWS = ("points", "_x", "_f", "_slope", "_direction", "_step", "_idle", "_scale", "_alive")
"""Attributes of ``BatchedLBFGS`` with one row per problem."""


class BatchedLBFGS(Generic[A]):
    """State of n independent minimisations by projected L-BFGS (Nocedal & Wright 2006, alg. 7.4).

    The caller evaluates ``points`` and calls ``update``. Each row has its own step length and its
    own curvature pairs from the last evaluations; no row affects another one. On devices other than
    the CPU, ``update`` has fixed shapes and does not wait for the device. A row that has ended
    stays until ``select``.

    Attributes:
        points: Positions to evaluate next, shape ``(n, p)``; not modified in place.
        ended: Number of rows known to have ended; 0 on devices other than the CPU.
    """

    def __init__(self, start: A, region: FeasibleRegion[A], tolerance: float = 0.0) -> None:
        """Begin at the projection of ``start`` ``(n, p)``; see ``minimise_batched``."""
        self.region: FeasibleRegion[A] = region
        self._tolerance = tolerance
        self.points: A = region.project(start)
        self._x: A = self.points
        xp = self._xp = array_module(start)
        self._f: A = xp.full_like(start[:, :1], np.inf)
        self._slope: A = xp.zeros_like(self.points)
        self._direction: A = self._slope
        self._step: A = xp.ones_like(self._f)
        self._idle: A = xp.zeros_like(self._f)
        self._scale: A = self._step
        self._alive: A = self._step > 0.0
        # Steps s and changes y of the gradient, oldest first, both times (s'y)^(-1/2). Zeros have
        # no effect.
        self._pairs: list[tuple[A, A]] = []
        self._first, self._host, self.ended = True, on_host(start), 0

    @property
    def running(self) -> A:
        """False for rows that have ended, shape ``(n,)``."""
        return self._alive[:, 0]

    @property
    def x(self) -> A:
        """Accepted positions, shape ``(n, p)``."""
        return self._x

    @property
    def f(self) -> A:
        """Values of the accepted positions, shape ``(n,)``."""
        return self._f[:, 0]

    def update(self, values: A, gradients: A) -> None:
        """Accept or shorten the step of each row and set the next ``points``.

        Args:
            values: Values at ``points``, shape ``(n,)``; not finite to reject a step.
            gradients: Gradients at ``points``, shape ``(n, p)``.
        """
        xp, region, value = self._xp, self.region, values[:, None]
        # 0 times the sum: NaN if a term is not finite, else 0.
        valid = (gradients.sum(-1)[:, None] + value) * 0.0
        if self._first:
            # The first step has a length of at most 0.1.
            self._scale = 0.1 / clamp(xp.linalg.norm(gradients, None, -1)[:, None], 0.1, np.inf)
            fine = self._alive = valid == 0.0
            move, expected = gradients, self._f
        else:
            move = self.points - self._x
            # Armijo rule with the slope along the projected step; false for NaN.
            expected = row_products(self._slope, move)
            fine = value <= self._f + _SUFFICIENT * expected + valid
            fine = fine & self._alive
        # Without rejected steps, the CPU skips the operations for them.
        same = self._host and bool(fine.all())
        active = region.active(self.points, gradients, self._scale)
        reduced = region.restrict(gradients, active)
        slope = reduced if region.curved else gradients
        if not self._first:
            change = slope - self._slope
            self._add(
                fine, move, change if same else xp.nan_to_num(change, nan=0, posinf=0, neginf=0)
            )
            idle = (self._idle + 1.0) * self._small(value)
            self._idle = idle if same else xp.where(fine, idle, self._idle)
        direction = self._descend(reduced, active)
        if same:
            self._x, self._f, self._slope, self._direction = self.points, value, slope, direction
            self._step = xp.ones_like(value)
        else:
            # Minimum of the parabola through both values and the slope (Nocedal & Wright 2006,
            # eq. 3.58).
            shorter = clamp(-0.5 * expected / (value - self._f - expected), *_SHORTER)
            shorter = self._step * xp.nan_to_num(shorter, nan=_SHORTER[0])
            self._x = xp.where(fine, self.points, self._x)
            self._f = xp.where(fine, value, self._f)
            self._slope = xp.where(fine, slope, self._slope)
            self._direction = xp.where(fine, direction, self._direction)
            self._step = xp.where(fine, 1.0, shorter)
            self._alive = self._alive & (self._step > _LEAST_STEP)
        moves = self._xp.any(self._direction, -1)[:, None]
        self._alive, self._first = self._alive & (self._idle < 2.0) & moves, False
        self.ended = len(value) - int(self._alive.sum()) if self._host else 0
        self.points = region.project(add_product(self._x, self._direction, self._step))

    def _small(self, value: A) -> A:
        """Return True for values ``(n, 1)`` that gain at most the tolerance."""
        small: A = value >= self._f
        if self._tolerance > 0.0:
            small = self._f - value <= self._tolerance * clamp(abs(value), 1.0, np.inf)
        return small

    def select(self, rows: A) -> None:
        """Drop all rows but ``rows`` ``(a,)``."""
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])
        self._pairs = [(s[rows], y[rows]) for s, y in self._pairs]
        self.region = self.region.select(rows)
        self.ended = len(rows) - int(self._alive.sum()) if self._host else 0

    def _add(self, fine: A, s: A, y: A) -> None:
        """Store the pairs of rows ``fine`` ``(n, 1)`` with positive curvature s'y."""
        xp, bend, square = self._xp, row_products(s, y), row_products(y, y)
        # Pairs with s'y <= 0 would make the inverse Hessian indefinite.
        bends = fine & (bend > 1e-10 * square)
        # s'y / y'y scales the initial inverse Hessian (Nocedal & Wright 2006, eq. 7.20).
        self._scale = xp.where(bends, bend / square, self._scale)
        root = xp.where(bends, bend, np.inf) ** -0.5
        self._pairs = self._pairs[1 - _MEMORY :]
        self._pairs.append((s * root, y * root))

    def _descend(self, reduced: A, active: ActiveSet[A]) -> A:
        """Return descent directions ``-H g`` of restricted gradients ``(n, p)``.

        The two-loop recursion (Nocedal & Wright 2006, alg. 7.4) with the pairs
        ``(s'y)^(-1/2) (s, y)``. Its sums over p do not depend on n.
        """
        q, alphas = -reduced, []
        for s, y in reversed(self._pairs):
            alpha = row_products(s, q)
            subtract_product_(q, y, alpha)
            alphas.append(alpha)
        q *= self._scale
        for (s, y), alpha in zip(self._pairs, reversed(alphas), strict=True):
            subtract_product_(q, s, row_products(y, q) - alpha)
        direction: A = self.region.restrict(q, active)
        falls = row_products(direction, reduced) < 0.0
        direction = self._xp.where(falls, direction, -reduced)
        if active.way is not None:
            direction = self._xp.where(active.at, active.way, direction)
        return direction
