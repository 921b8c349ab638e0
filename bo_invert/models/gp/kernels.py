"""Kernels of Gaussian processes with their gradients written out: many times faster than differentiating them.

Everything is batched: ``...`` stands for any leading dimensions (outputs, restarts), hyperparameters are
logarithms, and tensors stay on the device and in the precision of the data. Every kernel is 1 at distance 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError


class KernelCache(NamedTuple):
    """What a gradient needs of an evaluation: scaled inputs, and the kernel's slope in the squared distance."""

    left: Tensor
    right: Tensor
    lengthscales: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Kernel(ABC):
    """A function of the distance between inputs, each coordinate in units of its lengthscale (ARD)."""

    name: str

    @abstractmethod
    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Value, and slope in the squared distance, at squared distances ``(..., n, m)``."""

    def matrix(
        self, log_lengthscales: Tensor, left: Tensor, right: Tensor
    ) -> tuple[Tensor, KernelCache]:
        """Kernel between inputs ``(..., n, d)`` and ``(..., m, d)``, shape ``(..., n, m)``.

        Args:
            logs: logarithms of the lengthscales, shape ``(..., d)``.
            left: shape ``(..., n, d)``.
            right: shape ``(..., m, d)``.
        """
        lengthscales = log_lengthscales.exp().unsqueeze(-2)
        a, b = left / lengthscales, right / lengthscales
        squared = (
            (a * a).sum(-1, keepdim=True)
            + (b * b).sum(-1).unsqueeze(-2)
            - 2.0 * a @ b.transpose(-1, -2)
        )
        value, slope = self.radial(squared.clamp_(min=0.0))
        return value, KernelCache(a, b, lengthscales, slope)

    def gram(self, log_lengthscales: Tensor, inputs: Tensor) -> tuple[Tensor, KernelCache]:
        """Kernel of inputs ``(..., n, d)`` with themselves, shape ``(..., n, n)``: exactly 1 on the diagonal."""
        value, saved = self.matrix(log_lengthscales, inputs, inputs)
        value.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        return value, saved

    def gradient_in_log_lengthscales(self, saved: KernelCache, upstream: Tensor) -> Tensor:
        """Gradient of ``(upstream * matrix).sum()`` in the logarithms, shape ``(..., d)``."""
        a, b = saved.left, saved.right
        weights = upstream * saved.slope
        # sum_ij w_ij (a_ik - b_jk)^2 without an array of shape (n, m, d)
        squares = (weights.sum(-1, keepdim=True) * a * a).sum(-2) + (
            weights.sum(-2).unsqueeze(-1) * b * b
        ).sum(-2)
        return -2.0 * (squares - 2.0 * (a * (weights @ b)).sum(-2))

    def gradient_in_inputs(self, saved: KernelCache, upstream: Tensor) -> Tensor:
        """Gradient of ``(upstream * matrix).sum()`` in the left inputs, shape ``(..., n, d)``."""
        weights = upstream * saved.slope
        a = saved.left
        return (
            2.0 * (weights.sum(-1, keepdim=True) * a - weights @ saved.right) / saved.lengthscales
        )


class _RBF(Kernel):
    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.exp(-0.5 * squared)
        return value, -0.5 * value


class _Matern(Kernel):
    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        s = (5.0 * squared).sqrt()
        decay = torch.exp(-s)
        slope = (-5.0 / 6.0) * (1.0 + s) * decay
        return (1.0 + s + s * s / 3.0) * decay, slope


RBF = _RBF("rbf")
"""Squared exponential: for functions that are smooth."""
MATERN = _Matern("matern")
"""Matern with smoothness 5/2: twice differentiable, believes less in what lies far from the data."""

_KERNELS = {kernel.name: kernel for kernel in (RBF, MATERN)}


def get_kernel(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        InvalidInputError: there is none.
    """
    if name not in _KERNELS:
        raise InvalidInputError(f"no kernel {name!r}; there are {', '.join(map(repr, _KERNELS))}")
    return _KERNELS[name]


def lengthscale_prior(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Minus log density, up to a constant, of lengthscales ``(..., d)`` under the prior that grows with the dimension.

    LogNormal(sqrt 2 + log(d)/2, sqrt 3) on each (Hvarfner, Hellsten & Nardi, ICML 2024).

    Returns:
        Value ``(...)`` and gradient ``(..., d)`` in the logarithms.
    """
    centre = math.sqrt(2.0) + 0.5 * math.log(logs.shape[-1])
    off = logs - centre
    return (off * off / 6.0 + logs).sum(-1), off / 3.0 + 1.0
