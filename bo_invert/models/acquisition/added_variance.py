"""Variances that acquisition functions add to that of the posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

from bo_invert.models.array_module import A, array_module, as_array


class AddedVariance(ABC):
    """Variance ``(b, k)`` of k outputs at unit inputs, beside that of the posterior."""

    @abstractmethod
    def __call__(self, inputs: A) -> A:
        """Return variances ``(b, k)`` at inputs ``(b, d)``."""

    @abstractmethod
    def gradient(self, inputs: A, upstream: A) -> A:
        """Return the gradient ``(b, d)`` of sum(upstream * variance), upstream ``(b, k)``."""

    @abstractmethod
    def on_host(self) -> AddedVariance:
        """Return the same variance for numpy arrays."""


@dataclass(frozen=True, eq=False)
class MisfitVariance(AddedVariance, Generic[A]):
    """Variance of structure that is too fine for the model, beside that of the posterior.

    Neighbours share it, so near a pending point at scaled distance r it is reduced by the factor
    1 - exp(-r^2 / (2 radius^2)).

    Args:
        variance: Variance far from pending points, shape ``(k,)``.
        pending: Pending unit inputs, at least one, shape ``(p, d)``.
        lengthscales: Lengthscales of the outputs, shape ``(k, d)``.
        radius: Correlation length in lengthscales.
    """

    variance: A
    pending: A
    lengthscales: A
    radius: float

    def __call__(self, inputs: A) -> A:  # type: ignore[override]  # one kind of arrays
        return self.variance * (1.0 - self._nearest(inputs)[1]).swapaxes(0, 1)

    def gradient(self, inputs: A, upstream: A) -> A:  # type: ignore[override]
        away, decay = self._nearest(inputs)
        slope = (upstream * self.variance).swapaxes(0, 1) * decay / self.radius**2  # (k, b)
        total: A = (slope[..., None] * away / self.lengthscales[:, None]).sum(0)
        return total

    def on_host(self) -> AddedVariance:
        variance, pending, lengthscales = (
            as_array(x) for x in (self.variance, self.pending, self.lengthscales)
        )
        return MisfitVariance(variance, pending, lengthscales, self.radius)

    def _nearest(self, inputs: A) -> tuple[A, A]:
        """Return scaled offsets ``(k, b, d)`` from the nearest pending point, and the decay."""
        xp, scales = array_module(inputs), self.lengthscales[:, None]
        # Scaled by its lengthscales, each output has an isotropic neighbourhood.
        away = (inputs / scales)[:, :, None] - (self.pending / scales)[:, None]  # (k, b, p, d)
        squared: A = (away * away).sum(-1)
        least: A = xp.amin(squared, -1)
        chosen = (squared <= least[..., None])[..., None] * away
        return chosen.sum(-2), xp.exp((-0.5 / self.radius**2) * least)
