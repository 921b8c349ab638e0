"""Log expected improvement of the distance from a target, without sampling.

The gain in distance of one output is analytic. The gain in squared distance of several outputs is
an integral. A saddle point approximates it to a few percent for any target and any variances.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import log_h

_ROOTS, _AREAS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = 0.5 * (_ROOTS + 1.0), 0.5 * _AREAS
"""Nodes and weights of the 16-point Gauss-Legendre quadrature on [0, 1]; exact for polynomials of
degree 31."""
_NEWTON_STEPS = 12
"""Largest number of Newton steps for the saddle point. Engineering choice: bounds the cost."""
_NEWTON_TOLERANCE = 1e-4
"""Length of the last Newton step in log theta. Engineering choice: convergence is quadratic, so the
error is its square, which the differentiable last step removes."""


def log_target_ei(off: Tensor, reach: Tensor) -> Tensor:
    """Return log E[max(reach - |Z - off|, 0)] for a standard normal Z, elementwise.

    This is the expected improvement towards a target: Z is the standardised outcome, ``off`` the
    target and ``reach`` the distance of the incumbent from it. With m = -|off| it equals
    h(m + r) - 2 h(m) + h(m - r), with h of ``log_h``. If that difference cancels, it is
    integrated instead: r^2 phi(m) int_0^1 2 (1 - v) cosh(m r v) exp(-(r v)^2 / 2) dv.

    Args:
        off: Target minus mean in standard deviations, any shape.
        reach: Positive distances, broadcast with ``off``.
    """
    off, reach = torch.broadcast_tensors(off, reach)  # type: ignore[no-untyped-call]
    below = -off.abs()
    narrow = (reach < 1.0) & (-below * reach < 4.0)
    r = torch.where(narrow, reach, 0.5).unsqueeze(-1)
    m = torch.where(narrow, below, 0.0).unsqueeze(-1)
    v = torch.as_tensor(_NODES, dtype=off.dtype, device=off.device)
    w = 2.0 * torch.as_tensor(_WEIGHTS, dtype=off.dtype, device=off.device) * (1.0 - v)
    area = (w * torch.cosh(m * r * v) * torch.exp(-0.5 * (r * v) ** 2)).sum(-1)
    r, m = r[..., 0], m[..., 0]
    inside = 2.0 * r.log() - 0.5 * m * m - 0.5 * math.log(2.0 * math.pi) + area.log()
    r, m = torch.where(narrow, 1.0, reach), torch.where(narrow, 0.0, below)
    # log(a - 2 b + c) = log a + log1p(c / a - 2 b / a), with the largest term a = h(m + r)
    high, middle, low = log_h(m + r), log_h(m), log_h(m - r)
    outside = high + torch.log1p(torch.exp(low - high) - 2.0 * torch.exp(middle - high))
    return torch.where(narrow, inside, outside)


def log_squared_distance_ei(off: Tensor, variance: Tensor, square: Tensor) -> Tensor:
    """Return log E[max(square - |X|^2, 0)] for independent normal X with mean ``off``.

    X is the deviation from a target and ``square`` the squared distance of the incumbent. For equal
    variances |X|^2 is noncentral chi^2 (Uhrenholt & Jensen, AISTATS 2019). The expectation is int
    exp(theta c) M(-theta) / theta^2 dtheta / (2 pi i) along a vertical line. Here c is ``square``
    and M the moment generating function of |X|^2. It is approximated at the saddle point (Daniels
    1954), the only minimum over positive theta, with a relative error of a few percent.

    Args:
        off: Means of X, shape ``(..., k)``.
        variance: Positive variances of X, broadcast with ``off``.
        square: Positive, shape ``(...)``.
    """
    m, s = torch.broadcast_tensors(off * off, variance)  # type: ignore[no-untyped-call]
    c = square.expand(m.shape[:-1])
    with torch.no_grad():
        theta = _saddle(m, s, c)
    slope, bend = _derivatives(m, s, c, theta)
    # One more Newton step: its length is 0, but it carries the gradient of the saddle point.
    theta = theta - slope / bend.detach()
    _, bend = _derivatives(m, s, c, theta)
    t = theta.unsqueeze(-1)
    spread = 1.0 + 2.0 * t * s
    # log M(-theta) = -sum_i [log(1 + 2 theta s_i) / 2 + theta m_i / (1 + 2 theta s_i)]
    exponent = theta * c - (0.5 * spread.log() + t * m / spread).sum(-1) - 2.0 * theta.log()
    log: Tensor = exponent - 0.5 * (2.0 * math.pi * bend).log()
    return log


def _derivatives(m: Tensor, s: Tensor, c: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and second derivative of the exponent in theta."""
    spread = 1.0 + 2.0 * theta.unsqueeze(-1) * s
    slope = c - (s / spread + m / spread**2).sum(-1) - 2.0 / theta
    bend = (2.0 * (s / spread) ** 2 + 4.0 * m * s / spread**3).sum(-1) + 2.0 / theta**2
    return slope, bend


def _saddle(m: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """Return the saddle point theta of the expectation."""
    # The slope is negative at theta = 2 / c, and positive where a quadratic bound on it vanishes.
    half = 0.25 * m.shape[-1] + 1.0
    far = (m / (4.0 * s * s)).sum(-1)
    high = ((half + (half * half + c * far).sqrt()) / c).log()
    return newton_saddle(lambda theta: _derivatives(m, s, c, theta), c, high, _NEWTON_STEPS)


def newton_saddle(
    derivatives: Callable[[Tensor], tuple[Tensor, Tensor]], c: Tensor, high: Tensor, steps: int
) -> Tensor:
    """Find the minimum of an exponent by bracketed Newton steps in tau = log theta.

    Args:
        derivatives: First and second derivative of the exponent at theta. The first one is negative
            at theta = 2 / c.
        c: Squared distance of the incumbent, shape ``(...)``.
        high: Logarithm of a theta with a positive first derivative, shape ``(...)``.
        steps: Largest number of steps.
    """
    low, tau = (2.0 / c).log(), high
    for _ in range(steps):
        theta = tau.exp()
        slope, bend = derivatives(theta)
        high, low = torch.where(slope > 0, tau, high), torch.where(slope > 0, low, tau)
        # theta slope = theta c - rest, and log(theta c) - log(rest) is nearly linear in tau
        rest = theta * (c - slope)
        step = (theta * c / rest).log() * rest / (theta * theta * bend)
        tried = tau - step
        tau = torch.where((tried >= low) & (tried <= high), tried, 0.5 * (low + high))
        if bool((step.abs() < _NEWTON_TOLERANCE).all()):
            break
    return tau.exp()
