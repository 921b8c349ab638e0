"""Many small minimisations side by side, within bounds: what fits and acquisition searches spend their time on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Positions ``(a, p)`` and the numbers ``(a,)`` of their problems to values ``(a,)`` and gradients ``(a, p)``."""

_MEMORY = 10
_SUFFICIENT = 1e-4


def minimise(
    function: Function, start: Tensor, lower: Tensor, upper: Tensor, *, steps: int = 100, tolerance: float = 1e-7
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
        fine = value.isfinite() & gradient.isfinite().all(-1) & (value <= f[alive] + _SUFFICIENT * expected)
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
    """The last steps and changes of the gradient of each problem: its curvature."""

    def __init__(self, x: Tensor) -> None:
        b, p = x.shape
        self.s, self.y = x.new_zeros(_MEMORY, b, p), x.new_zeros(_MEMORY, b, p)
        self.rho = x.new_zeros(_MEMORY, b)  # 0 marks a place that holds nothing

    def add(self, which: Tensor, s: Tensor, y: Tensor) -> None:
        product = (s * y).sum(-1)
        bends = product > 1e-10 * (y * y).sum(-1).clamp(min=1e-30)
        which, s, y, product = which[bends], s[bends], y[bends], product[bends]
        for store, new in ((self.s, s), (self.y, y), (self.rho, 1.0 / product)):
            store[:-1, which] = store[1:, which].clone()
            store[-1, which] = new

    def apply(self, g: Tensor, which: Tensor) -> Tensor:
        """The inverse Hessian times g (Nocedal 1980); for a problem without curvature, a step of modest length."""
        s, y, rho = self.s[:, which], self.y[:, which], self.rho[:, which]
        q, alphas = g, []
        held = [i for i in range(_MEMORY - 1, -1, -1) if bool((rho[i] > 0).any())]
        for i in held:
            alpha = rho[i] * (s[i] * q).sum(-1)
            alphas.append(alpha)
            q = q - alpha.unsqueeze(-1) * y[i]
        square = (y[-1] * y[-1]).sum(-1)
        fresh = rho[-1] == 0
        shy = 0.1 / g.norm(dim=-1).clamp(min=0.1)
        gamma = torch.where(fresh, shy, 1.0 / (rho[-1] * square).clamp(min=1e-300))
        q = gamma.unsqueeze(-1) * q
        for i, alpha in zip(reversed(held), reversed(alphas), strict=True):
            beta = rho[i] * (y[i] * q).sum(-1)
            q = q + (alpha - beta).unsqueeze(-1) * s[i]
        return q


def _descent(pairs: _Pairs, x: Tensor, g: Tensor, lower: Tensor, upper: Tensor, which: Tensor) -> Tensor:
    """Directions of the problems ``which``, shape ``(a, p)``: downhill, and not out of the bounds."""
    x, g, lower, upper = x[which], g[which], lower[which], upper[which]
    free = ~(((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)))
    reduced = torch.where(free, g, 0.0)
    direction = torch.where(free, -pairs.apply(reduced, which), 0.0)
    slope = (direction * g).sum(-1, keepdim=True)
    return torch.where(slope < 0, direction, -reduced)
