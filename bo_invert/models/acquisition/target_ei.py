"""How much nearer to a target an outcome may come: expected gains in logarithms, without sampling.

For one output the gain in distance has a closed form; for several the gain in squared distance is an integral that
a saddle point gives to within a few percent, however far the target is and however different the variances are.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import log_h

_ROOTS, _AREAS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = 0.5 * (_ROOTS + 1.0), 0.5 * _AREAS  # of Gauss-Legendre quadrature on [0, 1]
_NEWTON = 12
_CLOSE = 1e-4
"""Steps of Newton's method shorter than this leave an error of their square, which the last one outside removes."""


def log_target_ei(off: Tensor, reach: Tensor) -> Tensor:
    """Logarithm of E[max(reach - |Z - off|, 0)] for a standard normal Z, elementwise; differentiable.

    With Z the outcome in units of its standard deviation, ``off`` the target and ``reach`` the incumbent's distance
    from it, this is the expected improvement towards the target. The tent is the second difference of the ramp behind
    the ordinary expected improvement. Where that difference would cancel, the density is integrated instead.

    Args:
        off: any shape.
        reach: positive, broadcast with ``off``.
    """
    shape = torch.broadcast_shapes(off.shape, reach.shape)  # type: ignore[no-untyped-call]
    below, reach = -off.abs().expand(shape), reach.expand(shape)
    narrow = (reach < 1.0) & (-below * reach < 4.0)
    r, m = (
        torch.where(narrow, reach, 0.5).unsqueeze(-1),
        torch.where(narrow, below, 0.0).unsqueeze(-1),
    )
    v = torch.as_tensor(_NODES, dtype=off.dtype, device=off.device)
    w = 2.0 * torch.as_tensor(_WEIGHTS, dtype=off.dtype, device=off.device) * (1.0 - v)
    area = (w * torch.cosh(m * r * v) * torch.exp(-0.5 * (r * v) ** 2)).sum(-1)
    r, m = r[..., 0], m[..., 0]
    inside = 2.0 * r.log() - 0.5 * m * m - 0.5 * math.log(2.0 * math.pi) + area.log()
    r, m = torch.where(narrow, 1.0, reach), torch.where(narrow, 0.0, below)
    high, middle, low = log_h(m + r), log_h(m), log_h(m - r)
    outside = high + torch.log1p(torch.exp(low - high) - 2.0 * torch.exp(middle - high))
    return torch.where(narrow, inside, outside)


def log_squared_distance_ei(off: Tensor, variance: Tensor, square: Tensor) -> Tensor:
    """Logarithm of E[max(square - |X|^2, 0)] for independent normal X of mean ``off``; differentiable.

    With X what outcomes miss a target by and ``square`` the incumbent's squared distance, this is the expected
    improvement of the squared distance: for equal variances that of a noncentral chi-square (Uhrenholt & Jensen,
    AISTATS 2019). The expectation is the integral of ``exp(theta square) M(-theta) / theta^2`` along a line in the
    complex plane, M being the moment generating function of ``|X|^2``; it is taken at its saddle point (Daniels 1954),
    the only minimum over positive theta. The relative error is a few percent and nearly the same everywhere.

    Args:
        off: shape ``(..., k)``.
        variance: positive, broadcast with ``off``.
        square: positive, shape ``(...)``.
    """
    shape = torch.broadcast_shapes(off.shape, variance.shape)  # type: ignore[no-untyped-call]
    m, s = (off * off).expand(shape), variance.expand(shape)
    c = square.expand(shape[:-1])
    with torch.no_grad():
        theta = _saddle(m, s, c)
    slope, bend = _derivatives(m, s, c, theta)
    theta = (
        theta - slope / bend.detach()
    )  # no step is left to make, but the gradient of the saddle point passes here
    _, bend = _derivatives(m, s, c, theta)
    t = theta.unsqueeze(-1)
    spread = 1.0 + 2.0 * t * s
    exponent = theta * c - (0.5 * spread.log() + t * m / spread).sum(-1) - 2.0 * theta.log()
    return exponent - 0.5 * (2.0 * math.pi * bend).log()


def _derivatives(m: Tensor, s: Tensor, c: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of the exponent in theta."""
    t = theta.unsqueeze(-1)
    spread = 1.0 + 2.0 * t * s
    slope = c - (s / spread + m / spread**2).sum(-1) - 2.0 / theta
    bend = (2.0 * (s / spread) ** 2 + 4.0 * m * s / spread**3).sum(-1) + 2.0 / theta**2
    return slope, bend


def _saddle(m: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """Where the exponent is lowest: Newton's method on the logarithm of theta, from above, between known bounds."""
    half = 0.25 * m.shape[-1] + 1.0
    far = (m / (4.0 * s * s)).sum(-1)
    highest = (half + (half * half + c * far).sqrt()) / c
    low, high = (2.0 / c).log(), highest.log()
    tau = high
    for _ in range(_NEWTON):
        theta = tau.exp()
        slope, bend = _derivatives(m, s, c, theta)
        high, low = torch.where(slope > 0, tau, high), torch.where(slope > 0, low, tau)
        # theta slope = theta c - rest, and log(theta c) - log(rest) is nearly linear in tau
        rest = theta * (c - slope)
        step = (theta * c / rest).log() * rest / (theta * theta * bend)
        tried = tau - step
        tau = torch.where((tried >= low) & (tried <= high), tried, 0.5 * (low + high))
        if bool((step.abs() < _CLOSE).all()):
            break
    return tau.exp()
