"""Numerically stable logarithms for the expected improvement (Ament et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bo_invert.models.array_module import A, array_module, clamp, special_module
from bo_invert.user_code import default_dtype

_LOG_ROOT_2_PI = 0.5 * math.log(2.0 * math.pi)
"""log sqrt(2 pi), exact by definition, in nats."""


def log_h(u: Tensor) -> Tensor:
    """Return log h(u) with h(u) = E[max(u + Z, 0)] = phi(u) + u Phi(u), elementwise.

    It is accurate in double precision for any u (Ament et al. 2023, section 4.1).
    """
    value: Tensor = _LogH.apply(u)  # type: ignore[no-untyped-call]
    return value


class _LogH(torch.autograd.Function):
    """log h as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        value, slope = log_h_slope(u)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0]
        return upstream[0] * slope


def log_h_slope(u: A) -> tuple[A, A]:
    """Return ``log_h`` and its derivative Phi(u) / h(u), elementwise."""
    xp, special = array_module(u), special_module(u)
    near = clamp(u, -1.0, math.inf)
    direct = xp.log(xp.exp(-0.5 * near * near - _LOG_ROOT_2_PI) + near * special.ndtr(near))
    # h = phi(u) (1 - |u| Phi(u)/phi(u)), with Phi/phi = sqrt(pi/2) erfcx(-u / sqrt(2))
    far = clamp(u, -math.inf, -1.0)
    ratio = -math.sqrt(0.5 * math.pi) * far * special.erfcx(-math.sqrt(0.5) * far)
    # below -1000: 1 - ratio = 1/u^2 up to rounding
    rest = xp.where(
        far < -1e3, -2.0 * xp.log(-far), xp.log1p(-clamp(ratio, -math.inf, 1.0 - 1e-15))
    )
    value: A = xp.where(u > -1.0, direct, -0.5 * far * far - _LOG_ROOT_2_PI + rest)
    slope: A = xp.exp(special.log_ndtr(u) - value)
    # below -1000 the difference of two large logarithms is rounding error
    slope = xp.where(u < -1e3, -far - 2.0 / far, slope)
    return value, slope


def log_ndtr_slope(t: A) -> tuple[A, A]:
    """Return log Phi(t) and its derivative phi(t) / Phi(t), elementwise."""
    xp = array_module(t)
    value: A = special_module(t).log_ndtr(t)
    slope: A = xp.exp(-0.5 * t * t - value - _LOG_ROOT_2_PI)
    # below -1e4: phi / Phi = -t up to rounding, unlike the difference of two large logarithms
    slope = xp.where(t < -1e4, -t, slope)
    return value, slope


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
    with default_dtype("float32"):  # the engine stores its first point in the default type
        sobol = torch.quasirandom.SobolEngine(size, True, seed)  # type: ignore[no-untyped-call]
    uniform = sobol.draw(samples, dtype=torch.float64).clamp(1e-9, 1.0 - 1e-9)
    normals: Tensor = torch.special.ndtri(uniform).to(like)
    return normals
