"""Many small minimisations side by side, within bounds: what fits and acquisition searches spend their time on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Positions ``(a, p)`` and the numbers ``(a,)`` of their problems to values ``(a,)`` and gradients ``(a, p)``."""

_MEMORY = 10
_SUFFICIENT = 1e-4


def minimise_batched(
    function: Function,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    steps: int = 100,
    tolerance: float = 1e-7,
) -> tuple[Tensor, Tensor]:
    """Projected L-BFGS on b independent problems at once.

    Each problem keeps its own curvature and its own step length; one that has converged is not evaluated any more.
    Coordinates at a bound whose gradient points outward rest (Bertsekas 1982).

    Args:
        function: of all the problems; a value that is not finite sends the step back.
        start: shape ``(b, p)``.
        lower: bounds, broadcast to ``(b, p)``.
        upper: likewise.
        steps: evaluations of each problem, at most.
        tolerance: a problem ends when a step gains less than this share of its value (or of 1).

    Returns:
        Positions ``(b, p)`` and values ``(b,)``; never worse than the start.
    """
    x = start.clamp(lower, upper)
    lower, upper = lower.expand_as(x), upper.expand_as(x)
    everything = torch.arange(len(x), device=x.device)
    f, g = function(x, everything)
    f, g = torch.where(f.isfinite(), f, torch.inf), g.clone()
    pairs = _Pairs(x)
    direction = _descent(pairs, x, g, lower, upper, everything)
    step = torch.ones_like(f)
    idle = torch.zeros_like(f)
    alive = everything[f.isfinite() & g.isfinite().all(-1)]
    for _ in range(steps - 1):
        if not len(alive):
            break
        at = x[alive]
        tried = (at + step[alive, None] * direction[alive]).clamp(lower[alive], upper[alive])
        value, gradient = function(tried, alive)
        expected = (g[alive] * (tried - at)).sum(-1)
        fine = (
            value.isfinite()
            & gradient.isfinite().all(-1)
            & (value <= f[alive] + _SUFFICIENT * expected)
        )
        accepted, rejected = alive[fine], alive[~fine]
        if len(accepted):
            gain = f[accepted] - value[fine]
            pairs.add(accepted, tried[fine] - x[accepted], gradient[fine] - g[accepted])
            x[accepted], f[accepted], g[accepted] = tried[fine], value[fine], gradient[fine]
            direction[accepted] = _descent(pairs, x, g, lower, upper, accepted)
            step[accepted] = 1.0
            small = gain <= tolerance * f[accepted].abs().clamp(min=1.0)
            idle[accepted] = torch.where(small, idle[accepted] + 1, 0.0)
        step[rejected] *= 0.3
        resting = (direction[alive].abs() * step[alive, None]).amax(-1) < 1e-12
        alive = alive[(idle[alive] < 2) & (step[alive] > 1e-6) & ~resting]
    return x, f


class _Pairs:
    """The last steps and changes of the gradient of each problem, oldest first: its curvature."""

    def __init__(self, x: Tensor) -> None:
        b, p = x.shape
        self.s, self.y = (
            x.new_zeros(b, _MEMORY, p),
            x.new_zeros(b, _MEMORY, p),
        )  # zeros where there is none yet

    def add(self, which: Tensor, s: Tensor, y: Tensor) -> None:
        bends = (s * y).sum(-1) > 1e-10 * (y * y).sum(-1).clamp(min=1e-30)
        which = which[bends]
        for store, new in ((self.s, s), (self.y, y)):
            store[which] = torch.cat([store[which, 1:], new[bends, None]], 1)

    def apply(self, g: Tensor, which: Tensor) -> Tensor:
        """The inverse Hessian times g (Byrd, Nocedal & Schnabel 1994, eq. 3.1), shape ``(a, p)``.

        For a problem without curvature, a step of modest length.
        """
        s, y = self.s[which], self.y[which]
        inner = s @ y.mT
        lengths = inner.diagonal(dim1=-2, dim2=-1)
        upper = inner.triu() + torch.diag_embed((lengths == 0).to(g))
        last, square = lengths[:, -1], (y[:, -1] * y[:, -1]).sum(-1)
        shy = 0.1 / g.norm(dim=-1).clamp(min=0.1)
        gamma = torch.where(last == 0, shy, last / square.clamp(min=1e-300))[:, None, None]
        column = g.unsqueeze(-1)
        u = torch.linalg.solve_triangular(upper, s @ column, upper=True)
        bent = lengths.unsqueeze(-1) * u + gamma * (y @ (y.mT @ u - column))
        v = torch.linalg.solve_triangular(upper.mT, bent, upper=False)
        product: Tensor = (gamma * (column - y.mT @ u) + s.mT @ v).squeeze(-1)
        return product


def _descent(
    pairs: _Pairs, x: Tensor, g: Tensor, lower: Tensor, upper: Tensor, which: Tensor
) -> Tensor:
    """Directions of the problems ``which``, shape ``(a, p)``: downhill, and not out of the bounds."""
    x, g, lower, upper = x[which], g[which], lower[which], upper[which]
    free = ~(((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)))
    reduced = torch.where(free, g, 0.0)
    direction = torch.where(free, -pairs.apply(reduced, which), 0.0)
    slope = (direction * g).sum(-1, keepdim=True)
    return torch.where(slope < 0, direction, -reduced)
