"""ARD kernels of Gaussian processes with analytic gradients.

All functions are batched: ``...`` denotes leading dimensions (outputs, restarts). Hyperparameters
are logarithms. Arguments are numpy arrays or torch tensors, and so are results. As stay on the
device and in the precision of the data. k(x, x) = 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple

from bo_invert.errors import InvalidInputError
from bo_invert.models.array_module import A, array_module, clamp_below_, fill_diagonal_


class KernelCache(NamedTuple, Generic[A]):
    """Intermediate results for gradients: scaled inputs and dk/d(r^2)."""

    left: A
    right: A
    lengthscales: A
    slope: A


@dataclass(frozen=True)
class Kernel(ABC):
    """Stationary ARD kernel k(r^2) with r^2 = sum_i (x_i - x'_i)^2 / l_i^2."""

    name: str

    @abstractmethod
    def radial(self, squared: A) -> tuple[A, A]:
        """Return k and dk/d(r^2) at squared distances ``(..., n, m)``."""

    def matrix(self, log_lengthscales: A, left: A, right: A) -> tuple[A, KernelCache[A]]:
        """Return the kernel matrix ``(..., n, m)`` between two sets of inputs.

        Args:
            log_lengthscales: Hyperparameters: logarithms of the lengthscales, shape ``(..., d)``.
            left: Inputs, shape ``(..., n, d)``.
            right: Inputs, shape ``(..., m, d)``.
        """
        return self.against(log_lengthscales, right)(left)

    def against(self, log_lengthscales: A, right: A) -> Callable[[A], tuple[A, KernelCache[A]]]:
        """Return ``matrix`` as a function of the left inputs, for repeated use."""
        lengthscales: A = array_module(right).exp(log_lengthscales)[..., None, :]
        b: A = right / lengthscales
        squares: A = (b * b).sum(-1)
        columns = b.swapaxes(-1, -2)

        def matrix(left: A) -> tuple[A, KernelCache[A]]:
            a: A = b if left is right else left / lengthscales
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b needs one matrix product and no (n, m, d) array
            squared: A = (-2.0 * a) @ columns
            squared += (squares if left is right else (a * a).sum(-1))[..., None]
            squared += squares[..., None, :]
            value, slope = self.radial(clamp_below_(squared, 0.0))
            return value, KernelCache(a, b, lengthscales, slope)

        return matrix

    def gram(self, log_lengthscales: A, inputs: A) -> tuple[A, KernelCache[A]]:
        """Return the Gram matrix ``(..., n, n)`` of inputs ``(..., n, d)``, with diagonal 1."""
        value, cache = self.matrix(log_lengthscales, inputs, inputs)
        # Rounding errors of r^2 would leave values below 1 and a worse condition.
        fill_diagonal_(value, 1.0)
        return value, cache

    def gradient_in_log_lengthscales(self, cache: KernelCache[A], upstream: A) -> A:
        """Return the gradient ``(..., d)`` of sum(upstream * matrix) in the log lengthscales.

        dk/d(log l_i) = -2 k'(r^2) (a_i - b_i)^2 with scaled inputs a and b.
        """
        a, b = cache.left, cache.right
        weights = upstream * cache.slope
        # sum_nm w_nm (a_ni - b_mi)^2, expanded to avoid an array of shape (n, m, d)
        squares = weights.sum(-1)[..., None, :] @ (a * a)
        squares += weights.sum(-2)[..., None, :] @ (b * b)
        gradient: A = 4.0 * (a * (weights @ b)).sum(-2) - 2.0 * squares[..., 0, :]
        return gradient

    def gradient_in_inputs(self, cache: KernelCache[A], upstream: A) -> A:
        """Return the gradient ``(..., n, d)`` of sum(upstream * matrix) in the left inputs.

        dk/dx_i = 2 k'(r^2) (a_i - b_i) / l_i with scaled inputs a and b.
        """
        weights = upstream * cache.slope
        away = weights.sum(-1)[..., None] * cache.left - weights @ cache.right
        gradient: A = 2.0 * away / cache.lengthscales
        return gradient

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

    def share(self, logs: A) -> A:
        """Replace hyperparameters by shared ones, ``(..., s)``: one lengthscale for all."""
        mean: A = logs.mean(-1)[..., None]
        return mean

    def unshare(self, shared: A, d: int) -> A:
        """Return hyperparameters ``(..., h)`` of shared ones ``(..., s)``."""
        repeated: A = array_module(shared).broadcast_to(shared, (*shared.shape[:-1], d))
        return repeated

    def share_gradient(self, gradient: A) -> A:
        """Return the gradient ``(..., s)`` in shared hyperparameters from that in all of them."""
        total: A = gradient.sum(-1)[..., None]
        return total

    def negative_log_prior(self, logs: A) -> tuple[A, A]:
        """Return the negative log prior ``(...)`` and its gradient ``(..., h)``."""
        return lengthscale_prior(logs)

    def scale_lengthscales(self, logs: A, log_factors: A) -> A:
        """Scale the lengthscales of hyperparameters ``(h,)`` by factors ``(r, 1)``: ``(r, h)``."""
        scaled: A = logs + log_factors
        return scaled

    def column_log_lengthscales(self, logs: A) -> A:
        """Return the log lengthscale of each column, ``(..., d)``, of hyperparameters."""
        return logs


class _RBF(Kernel):
    """Squared exponential kernel: k = exp(-r^2 / 2)."""

    def radial(self, squared: A) -> tuple[A, A]:
        value: A = array_module(squared).exp(-0.5 * squared)
        slope: A = -0.5 * value
        return value, slope


class _Matern(Kernel):
    """Matern-5/2 kernel: k = (1 + s + s^2/3) exp(-s) with s = sqrt(5) r."""

    def radial(self, squared: A) -> tuple[A, A]:
        xp = array_module(squared)
        s: A = xp.sqrt(5.0 * squared)
        decay: A = xp.exp(-s)
        slope: A = (1.0 + s) * decay
        value: A = slope + (5.0 / 3.0) * squared * decay
        # dk/d(r^2) = dk/ds ds/d(r^2) = -s (1 + s)/3 exp(-s) * 5/(2 s)
        slope *= -5.0 / 6.0
        return value, slope


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


def lengthscale_prior(logs: A) -> tuple[A, A]:
    """Return the negative log density of the dimension-scaled lengthscale prior, up to a constant.

    l_i ~ LogNormal(sqrt(2) + log(d)/2, sqrt(3)) (Hvarfner, Hellsten & Nardi, ICML 2024).

    Args:
        logs: Logarithms of the lengthscales, shape ``(..., d)``.

    Returns:
        Values ``(...)`` and gradients ``(..., d)`` in the logarithms.
    """
    centre = math.sqrt(2.0) + 0.5 * math.log(logs.shape[-1])
    off: A = logs - centre
    # -log p(l) = (log l - centre)^2 / (2 * 3) + log l + const.
    return (off * off / 6.0 + logs).sum(-1), off / 3.0 + 1.0
