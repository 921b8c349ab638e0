"""Batched projected L-BFGS for many small problems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bo_invert.models.optim.feasible_box import ActiveSet, FeasibleBox, FeasibleRegion

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
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
    function: Function,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    steps: int = 100,
    tolerance: float = 1e-7,
) -> tuple[Tensor, Tensor]:
    """Minimise b independent problems by projected L-BFGS; converged ones are not evaluated.

    Args:
        function: Function of all problems; a step to a value that is not finite is rejected.
        start: Starts, shape ``(b, p)``.
        lower: Lower bounds, broadcast to ``(b, p)``.
        upper: Upper bounds, broadcast to ``(b, p)``.
        steps: Largest number of evaluations of each problem.
        tolerance: Gain of two steps in a row, relative to max(1, |value|), at which a problem ends.

    Returns:
        Positions ``(b, p)`` and values ``(b,)``, never worse than the start.
    """
    optimizer = BatchedLBFGS(start, FeasibleBox(lower, upper), tolerance)
    rows = torch.arange(len(start), device=start.device)
    x, f = optimizer.points.clone(), start.new_full((len(start),), torch.inf)
    for _ in range(steps):
        optimizer.update(*function(optimizer.points, rows))
        if not optimizer.running.all():
            x[rows], f[rows] = optimizer.x, optimizer.f
            going = optimizer.running.nonzero().squeeze(-1)
            rows = rows[going]
            optimizer.select(going)
            if not len(rows):
                break
    x[rows], f[rows] = optimizer.x, optimizer.f
    return x, f


_ROWS = ("points", "_x", "_f", "_slope", "_direction", "_step", "_idle", "_scale", "_alive")
"""Attributes of ``BatchedLBFGS`` with one row per problem."""


class BatchedLBFGS:
    """State of n independent minimisations by projected L-BFGS (Nocedal & Wright 2006, alg. 7.4).

    The caller evaluates ``points`` and calls ``update``. Each row has its own step length and its
    own curvature pairs from the last evaluations; no row affects another one. On devices other than
    the CPU, ``update`` has fixed shapes and does not wait for the device. A row that has ended
    stays until ``select``.

    Attributes:
        points: Positions to evaluate next, shape ``(n, p)``; not modified in place.
        ended: Number of rows known to have ended; 0 on devices other than the CPU.
    """

    def __init__(self, start: Tensor, region: FeasibleRegion, tolerance: float = 0.0) -> None:
        """Begin at the projection of ``start`` ``(n, p)``; see ``minimise_batched``."""
        self.region, self._tolerance = region, tolerance
        self.points = self._x = region.project(start)
        self._f = start.new_full((len(start), 1), torch.inf)
        self._slope = self._direction = torch.zeros_like(self.points)
        self._step, self._idle = torch.ones_like(self._f), torch.zeros_like(self._f)
        self._scale, self._alive = self._step, self._step.bool()
        # Steps s and changes y of the gradient, oldest first, both times (s'y)^(-1/2). Zeros have
        # no effect.
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._first, self._host, self.ended = True, start.device.type == "cpu", 0

    @property
    def running(self) -> Tensor:
        """False for rows that have ended, shape ``(n,)``."""
        return self._alive.squeeze(-1)

    @property
    def x(self) -> Tensor:
        """Accepted positions, shape ``(n, p)``."""
        return self._x

    @property
    def f(self) -> Tensor:
        """Values of the accepted positions, shape ``(n,)``."""
        return self._f.squeeze(-1)

    def update(self, values: Tensor, gradients: Tensor) -> None:
        """Accept or shorten the step of each row and set the next ``points``.

        Args:
            values: Values at ``points``, shape ``(n,)``; not finite to reject a step.
            gradients: Gradients at ``points``, shape ``(n, p)``.
        """
        region, value = self.region, values.unsqueeze(-1)
        # 0 times the sum: NaN if a term is not finite, else 0.
        valid = (gradients.sum(-1, keepdim=True) + value) * 0.0
        if self._first:
            # The first step has a length of at most 0.1.
            self._scale = 0.1 / gradients.norm(dim=-1, keepdim=True).clamp(min=0.1)
            fine = self._alive = valid == 0.0
            move, expected = gradients, self._f
        else:
            move = self.points - self._x
            # Armijo rule with the slope along the projected step; false for NaN.
            expected = (self._slope * move).sum(-1, keepdim=True)
            fine = value <= torch.add(self._f, expected, alpha=_SUFFICIENT) + valid
            fine = fine & self._alive
        # Without rejected steps, the CPU skips the operations for them.
        same = self._host and bool(fine.all())
        active = region.active(self.points, gradients, self._scale)
        reduced = region.restrict(gradients, active)
        slope = reduced if region.curved else gradients
        if not self._first:
            change = slope - self._slope
            self._add(fine, move, change if same else change.nan_to_num(0.0, 0.0, 0.0))
            idle = (self._idle + 1.0) * self._small(value)
            self._idle = idle if same else torch.where(fine, idle, self._idle)
        direction = self._descend(reduced, active)
        if same:
            self._x, self._f, self._slope, self._direction = self.points, value, slope, direction
            self._step = torch.ones_like(value)
        else:
            # Minimum of the parabola through both values and the slope (Nocedal & Wright 2006,
            # eq. 3.58).
            shorter = (-0.5 * expected / (value - self._f - expected)).clamp(*_SHORTER)
            shorter = self._step * shorter.nan_to_num(_SHORTER[0])
            self._x = torch.where(fine, self.points, self._x)
            self._f = torch.where(fine, value, self._f)
            self._slope = torch.where(fine, slope, self._slope)
            self._direction = torch.where(fine, direction, self._direction)
            self._step = torch.where(fine, 1.0, shorter)
            self._alive = self._alive & (self._step > _LEAST_STEP)
        moves = self._direction.any(-1, keepdim=True)
        self._alive, self._first = self._alive & (self._idle < 2.0) & moves, False
        self.ended = len(value) - int(self._alive.sum()) if self._host else 0
        self.points = region.project(torch.addcmul(self._x, self._direction, self._step))

    def _small(self, value: Tensor) -> Tensor:
        """Return True for values ``(n, 1)`` that gain at most the tolerance."""
        if self._tolerance == 0.0:
            return value >= self._f
        return self._f - value <= self._tolerance * value.abs().clamp(min=1.0)

    def select(self, rows: Tensor) -> None:
        """Drop all rows but ``rows`` ``(a,)``."""
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])
        self._pairs = [(s[rows], y[rows]) for s, y in self._pairs]
        self.region = self.region.select(rows)
        self.ended = len(rows) - int(self._alive.sum()) if self._host else 0

    def _add(self, fine: Tensor, s: Tensor, y: Tensor) -> None:
        """Store the pairs of rows ``fine`` ``(n, 1)`` with positive curvature s'y."""
        bend, square = (s * y).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
        # Pairs with s'y <= 0 would make the inverse Hessian indefinite.
        bends = fine & (bend > 1e-10 * square)
        # s'y / y'y scales the initial inverse Hessian (Nocedal & Wright 2006, eq. 7.20).
        self._scale = torch.where(bends, bend / square, self._scale)
        root = torch.where(bends, bend, torch.inf).rsqrt()
        self._pairs = [*self._pairs[1 - _MEMORY :], (s * root, y * root)]

    def _descend(self, reduced: Tensor, active: ActiveSet) -> Tensor:
        """Return descent directions ``-H g`` of restricted gradients ``(n, p)``.

        The two-loop recursion (Nocedal & Wright 2006, alg. 7.4) with the pairs
        ``(s'y)^(-1/2) (s, y)``. Its sums over p do not depend on n.
        """
        q, alphas = reduced.neg(), []
        for s, y in reversed(self._pairs):
            alpha = (s * q).sum(-1, keepdim=True)
            q.addcmul_(y, alpha, value=-1.0)
            alphas.append(alpha)
        q.mul_(self._scale)
        for (s, y), alpha in zip(self._pairs, reversed(alphas), strict=True):
            q.addcmul_(s, alpha.sub_((y * q).sum(-1, keepdim=True)))
        direction = self.region.restrict(q, active)
        falls = (direction * reduced).sum(-1, keepdim=True) < 0.0
        direction = torch.where(falls, direction, -reduced)
        return direction if active.way is None else torch.where(active.at, active.way, direction)
