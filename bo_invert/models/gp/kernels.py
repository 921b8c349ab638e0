"""ARD kernels of Gaussian processes with analytic gradients.

All functions are batched: ``...`` denotes leading dimensions (outputs, restarts). Hyperparameters
are logarithms. Tensors stay on the device and in the precision of the data. k(x, x) = 1.
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
    """Intermediate results for gradients: scaled inputs and dk/d(r^2)."""

    left: Tensor
    right: Tensor
    lengthscales: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Kernel(ABC):
    """Stationary ARD kernel k(r^2) with r^2 = sum_i (x_i - x'_i)^2 / l_i^2."""

    name: str

    @abstractmethod
    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Return k and dk/d(r^2) at squared distances ``(..., n, m)``."""

    def matrix(
        self, log_lengthscales: Tensor, left: Tensor, right: Tensor
    ) -> tuple[Tensor, KernelCache]:
        """Return the kernel matrix ``(..., n, m)`` between two sets of inputs.

        Args:
            log_lengthscales: Hyperparameters: logarithms of the lengthscales, shape ``(..., d)``.
            left: Inputs, shape ``(..., n, d)``.
            right: Inputs, shape ``(..., m, d)``.
        """
        lengthscales = log_lengthscales.exp().unsqueeze(-2)
        a, b = left / lengthscales, right / lengthscales
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b needs one matrix product and no (n, m, d) array
        squared = (
            (a * a).sum(-1, keepdim=True)
            + (b * b).sum(-1).unsqueeze(-2)
            - 2.0 * a @ b.transpose(-1, -2)
        )
        value, slope = self.radial(squared.clamp_(min=0.0))
        return value, KernelCache(a, b, lengthscales, slope)

    def gram(self, log_lengthscales: Tensor, inputs: Tensor) -> tuple[Tensor, KernelCache]:
        """Return the Gram matrix ``(..., n, n)`` of inputs ``(..., n, d)``, with diagonal 1."""
        value, cache = self.matrix(log_lengthscales, inputs, inputs)
        # Rounding errors of r^2 would leave values below 1 and a worse condition.
        value.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        return value, cache

    def gradient_in_log_lengthscales(self, cache: KernelCache, upstream: Tensor) -> Tensor:
        """Return the gradient ``(..., d)`` of sum(upstream * matrix) in the log lengthscales.

        dk/d(log l_i) = -2 k'(r^2) (a_i - b_i)^2 with scaled inputs a and b.
        """
        a, b = cache.left, cache.right
        weights = upstream * cache.slope
        # sum_nm w_nm (a_ni - b_mi)^2, expanded to avoid an array of shape (n, m, d)
        squares = (weights.sum(-1, keepdim=True) * a * a).sum(-2) + (
            weights.sum(-2).unsqueeze(-1) * b * b
        ).sum(-2)
        return -2.0 * (squares - 2.0 * (a * (weights @ b)).sum(-2))

    def gradient_in_inputs(self, cache: KernelCache, upstream: Tensor) -> Tensor:
        """Return the gradient ``(..., n, d)`` of sum(upstream * matrix) in the left inputs.

        dk/dx_i = 2 k'(r^2) (a_i - b_i) / l_i with scaled inputs a and b.
        """
        weights = upstream * cache.slope
        a = cache.left
        return (
            2.0 * (weights.sum(-1, keepdim=True) * a - weights @ cache.right) / cache.lengthscales
        )

    def size(self, d: int) -> int:
        """Return the number of hyperparameters of inputs with d columns."""
        return d

    def parameters(self, d: int) -> int:
        """Return the number of parameters that d columns encode; priors scale with it."""
        return d

    def start(self, d: int, lengthscale: float) -> list[float]:
        """Return hyperparameters with one lengthscale, as the start of a fit."""
        return [math.log(lengthscale)] * d

    def bounds(self, d: int, low: float, high: float) -> tuple[list[float], list[float]]:
        """Return bounds of the hyperparameters for lengthscales between ``low`` and ``high``."""
        return self.start(d, low), self.start(d, high)

    def share(self, logs: Tensor) -> Tensor:
        """Replace hyperparameters by shared ones, ``(..., s)``: one lengthscale for all."""
        return logs.mean(-1, keepdim=True)

    def unshare(self, shared: Tensor, d: int) -> Tensor:
        """Return hyperparameters ``(..., h)`` of shared ones ``(..., s)``."""
        return shared.expand(*shared.shape[:-1], d)

    def share_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient ``(..., s)`` in shared hyperparameters from that in all of them."""
        return gradient @ gradient.new_ones(gradient.shape[-1], 1)

    def negative_log_prior(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative log prior ``(...)`` and its gradient ``(..., h)``."""
        return lengthscale_prior(logs)

    def scale_lengthscales(self, logs: Tensor, log_factors: Tensor) -> Tensor:
        """Scale the lengthscales of hyperparameters ``(h,)`` by factors ``(r, 1)``: ``(r, h)``."""
        return logs + log_factors

    def column_log_lengthscales(self, logs: Tensor) -> Tensor:
        """Return the log lengthscale of each column, ``(..., d)``, of hyperparameters."""
        return logs


class _RBF(Kernel):
    """Squared exponential kernel: k = exp(-r^2 / 2)."""

    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.exp(-0.5 * squared)
        return value, -0.5 * value


class _Matern(Kernel):
    """Matern-5/2 kernel: k = (1 + s + s^2/3) exp(-s) with s = sqrt(5) r."""

    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        s = (5.0 * squared).sqrt()
        decay = torch.exp(-s)
        # dk/d(r^2) = dk/ds ds/d(r^2) = -s (1 + s)/3 exp(-s) * 5/(2 s)
        slope = (-5.0 / 6.0) * (1.0 + s) * decay
        return (1.0 + s + s * s / 3.0) * decay, slope


RBF = _RBF("rbf")
"""Squared exponential kernel, with infinitely differentiable samples."""
MATERN = _Matern("matern")
"""Matern-5/2 kernel, with twice differentiable samples; extrapolates less than RBF."""

_KERNELS = {kernel.name: kernel for kernel in (RBF, MATERN)}


def get_kernel(name: str) -> Kernel:
    """Return the kernel of that name.

    Raises:
        InvalidInputError: The name is unknown.
    """
    if name not in _KERNELS:
        names = ", ".join(map(repr, _KERNELS))
        raise InvalidInputError(f"models: kernel must be one of {names}, got {name!r}")
    return _KERNELS[name]


def lengthscale_prior(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the negative log density of the dimension-scaled lengthscale prior, up to a constant.

    l_i ~ LogNormal(sqrt(2) + log(d)/2, sqrt(3)) (Hvarfner, Hellsten & Nardi, ICML 2024).

    Args:
        logs: Logarithms of the lengthscales, shape ``(..., d)``.

    Returns:
        Values ``(...)`` and gradients ``(..., d)`` in the logarithms.
    """
    centre = math.sqrt(2.0) + 0.5 * math.log(logs.shape[-1])
    off = logs - centre
    # -log p(l) = (log l - centre)^2 / (2 * 3) + log l + const.
    return (off * off / 6.0 + logs).sum(-1), off / 3.0 + 1.0
