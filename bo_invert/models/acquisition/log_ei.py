"""Numerically stable logarithms for the expected improvement (Ament et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_LOG_ROOT_2_PI = 0.5 * math.log(2.0 * math.pi)
"""log sqrt(2 pi), exact by definition, in nats."""


def log_h(u: Tensor) -> Tensor:
    """Return log h(u) with h(u) = E[max(u + Z, 0)] = phi(u) + u Phi(u), elementwise.

    It is accurate in double precision for any u (Ament et al. 2023, section 4.1).
    """
    value: Tensor = _LogH.apply(u)  # type: ignore[no-untyped-call]
    return value


class _LogH(torch.autograd.Function):
    """log h with the derivative Phi(u) / h(u)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        near = u.clamp(min=-1.0)
        direct = (
            torch.exp(-0.5 * near * near - _LOG_ROOT_2_PI) + near * torch.special.ndtr(near)
        ).log()
        far = u.clamp(max=-1.0)
        # h = phi(u) (1 - |u| Phi(u)/phi(u)), with Phi/phi = sqrt(pi/2) erfcx(-u / sqrt(2))
        ratio = far.abs() * torch.special.erfcx(-far * math.sqrt(0.5)) * math.sqrt(0.5 * math.pi)
        # below -1000: 1 - ratio = 1/u^2 up to rounding
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
        # below -1000 the difference of two large logarithms is rounding error
        return upstream[0] * torch.where(u < -1e3, -u - 2.0 / u, slope)


def log_fat_softplus(gain: Tensor, width: float = 1e-6) -> Tensor:
    """Return the logarithm of a fat-tailed softplus, a smooth max(gain, 0).

    log(width (softplus(t) + 0.1 / (1 + t^2))) with t = gain / width (Ament et al. 2023, appendix
    A). The Cauchy tail gives samples without improvement a gradient.
    """
    scaled = gain / width
    tail = -torch.log1p(scaled * scaled) + math.log(0.1)
    soft = torch.where(
        scaled > -30.0, torch.nn.functional.softplus(scaled.clamp(min=-30.0)).log(), scaled
    )
    return torch.logaddexp(soft, tail) + math.log(width)


def log_mean_exp(logs: Tensor, dim: int = 0) -> Tensor:
    """Return log(mean(exp(logs))) over a dimension."""
    return torch.logsumexp(logs, dim) - math.log(logs.shape[dim])


def sobol_normals(samples: int, size: int, seed: int, like: Tensor) -> Tensor:
    """Draw quasi-random standard normal numbers ``(samples, size)`` on the device of ``like``.

    A scrambled Sobol sequence is mapped by the inverse normal distribution function.
    """
    sobol = torch.quasirandom.SobolEngine(size, True, seed)  # type: ignore[no-untyped-call]
    uniform = sobol.draw(samples, dtype=torch.float64).clamp(1e-9, 1.0 - 1e-9)
    normals: Tensor = torch.special.ndtri(uniform).to(like)
    return normals
