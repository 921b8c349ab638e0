"""Batched projected L-BFGS for many small bounded problems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from positions ``(a, p)`` and numbers ``(a,)`` of their problems to values ``(a,)`` and
gradients ``(a, p)``."""

_MEMORY = 10
"""Number of curvature pairs (default of scipy's L-BFGS-B)."""
_SUFFICIENT = 1e-4
"""Share of the expected decrease that a step must reach (Armijo 1966; Nocedal & Wright 2006)."""


def minimise_batched(
    function: Function,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    steps: int = 100,
    tolerance: float = 1e-7,
) -> tuple[Tensor, Tensor]:
    """Minimise b independent problems by projected L-BFGS.

    Each problem has its own curvature pairs and step length; converged ones are not evaluated.
    Coordinates at a bound with an outward gradient are fixed (Bertsekas 1982).

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
        # Armijo rule; a rejected step is shortened by 0.3.
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
    """Curvature pairs of each problem: steps s and changes y of the gradient, oldest first."""

    def __init__(self, x: Tensor) -> None:
        b, p = x.shape
        # Empty slots are zero.
        self.s, self.y = x.new_zeros(b, _MEMORY, p), x.new_zeros(b, _MEMORY, p)

    def add(self, which: Tensor, s: Tensor, y: Tensor) -> None:
        """Store pairs of the problems ``which`` with positive curvature s'y."""
        # Pairs with s'y <= 0 would make the inverse Hessian indefinite.
        bends = (s * y).sum(-1) > 1e-10 * (y * y).sum(-1).clamp(min=1e-30)
        which = which[bends]
        for store, new in ((self.s, s), (self.y, y)):
            store[which] = torch.cat([store[which, 1:], new[bends, None]], 1)

    def apply(self, g: Tensor, which: Tensor) -> Tensor:
        """Return the inverse Hessian times g, shape ``(a, p)``.

        It is the compact form H g = gamma g + [S, gamma Y] M [S, gamma Y]'g (Byrd, Nocedal &
        Schnabel 1994, eq. 3.1). Without pairs it is a step of length at most 0.1.
        """
        s, y = self.s[which], self.y[which]
        inner = s @ y.mT
        lengths = inner.diagonal(dim1=-2, dim2=-1)
        upper = inner.triu() + torch.diag_embed((lengths == 0).to(g))
        # gamma = s'y / y'y scales the initial inverse Hessian (Nocedal & Wright 2006, eq. 7.20).
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
    """Return descent directions ``(a, p)`` of the problems ``which`` inside the bounds."""
    x, g, lower, upper = x[which], g[which], lower[which], upper[which]
    free = ~(((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)))
    reduced = torch.where(free, g, 0.0)
    direction = torch.where(free, -pairs.apply(reduced, which), 0.0)
    slope = (direction * g).sum(-1, keepdim=True)
    return torch.where(slope < 0, direction, -reduced)
