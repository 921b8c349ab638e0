"""Numerically sound pieces of the expected improvement: logarithms that neither underflow nor lose their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_ROOT = math.sqrt(0.5)
_LOG_ROOT_2_PI = 0.5 * math.log(2.0 * math.pi)


def log_h(u: Tensor) -> Tensor:
    """Logarithm of E[max(u + Z, 0)] for a standard normal Z, elementwise; differentiable.

    Exact in double precision for any u (Ament et al., NeurIPS 2023, section 4.1).
    """
    value: Tensor = _LogImprovement.apply(u)  # type: ignore[no-untyped-call]
    return value


class _LogImprovement(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        near = u.clamp(min=-1.0)
        direct = (
            torch.exp(-0.5 * near * near - _LOG_ROOT_2_PI) + near * torch.special.ndtr(near)
        ).log()
        far = u.clamp(max=-1.0)
        # phi(u) (1 - |u| Phi(u)/phi(u)), the ratio by the scaled complementary error function
        ratio = far.abs() * torch.special.erfcx(-far * _ROOT) * math.sqrt(0.5 * math.pi)
        rest = torch.where(
            far < -1e3, -2.0 * far.abs().log(), torch.log1p(-ratio.clamp(max=1.0 - 1e-15))
        )
        value = torch.where(u > -1.0, direct, -0.5 * far * far - _LOG_ROOT_2_PI + rest)
        ctx.save_for_backward(u, value)
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        u, value = ctx.saved_tensors
        slope = torch.exp(torch.special.log_ndtr(u) - value)
        # far out the difference of two huge logarithms is rounding error
        return upstream[0] * torch.where(u < -1e3, -u - 2.0 / u, slope)


def log_fat_softplus(gain: Tensor, width: float = 1e-6) -> Tensor:
    """Logarithm of a smooth positive part of gains; differentiable.

    Softplus of that width, plus a small Cauchy tail, so that even hopeless samples say which way is up.
    """
    scaled = gain / width
    tail = -torch.log1p(scaled * scaled) + math.log(0.1)
    soft = torch.where(
        scaled > -30.0, torch.nn.functional.softplus(scaled.clamp(min=-30.0)).log(), scaled
    )
    return torch.logaddexp(soft, tail) + math.log(width)


def log_mean_exp(logs: Tensor, dim: int = 0) -> Tensor:
    """Logarithm of the mean of exponentials over a dimension."""
    return torch.logsumexp(logs, dim) - math.log(logs.shape[dim])


def sobol_normals(samples: int, size: int, seed: int, like: Tensor) -> Tensor:
    """Quasi-random standard normal numbers, shape ``(samples, size)``, on the device of ``like``."""
    if size == 0:
        return like.new_zeros(samples, 0)
    engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    uniform = engine.draw(samples, dtype=torch.float64).clamp(1e-9, 1.0 - 1e-9)
    drawn: Tensor = torch.special.ndtri(uniform).to(like)
    return drawn
