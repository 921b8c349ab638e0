"""A measured reference measure: a mixture of normals, its densities, and the way to where they are high. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array

_ROUNDS = 50
_HALVINGS = 25
_DEEP = 0.01
"""Above the least log density: a step that ends there has gone beyond the edge, between two modes as a rule."""
_MARGIN = 1e-5
"""Of the log density: what rounding to single precision must not cost at the edge."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A measured reference measure: a mixture of normals in whitened coordinates, with calibrated densities.

    Args:
        weights: of the components, shape ``(c,)``, summing to 1.
        means: shape ``(c, d)``.
        factors: lower Cholesky factors of the covariances, shape ``(c, d, d)``.
        quantiles: sorted log densities of held-out codes, shape ``(k,)``: what ``plausibility`` ranks against.
    """

    weights: Array
    means: Array
    factors: Array
    quantiles: Array

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` draws, shape ``(n, d)``."""
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        draws: Array = self.means[component] + np.einsum(
            "nij,nj->ni", self.factors[component], noise
        )
        return draws

    def log_density(self, points: Array) -> Array:
        """Log density, shape ``(n,)``."""
        d = self.means.shape[1]
        logs = np.empty((len(points), len(self.weights)))
        for c, (weight, mean, factor) in enumerate(
            zip(self.weights, self.means, self.factors, strict=True)
        ):
            residual = np.linalg.solve(factor, (points - mean).T)
            logdet = np.log(np.diag(factor)).sum()
            logs[:, c] = (
                math.log(weight)
                - logdet
                - 0.5 * (residual**2).sum(0)
                - 0.5 * d * math.log(2 * math.pi)
            )
        top = logs.max(axis=1, keepdims=True)
        total: Array = top[:, 0] + np.log(np.exp(logs - top).sum(axis=1))
        return total

    def plausibility(self, points: Array) -> Array:
        """Share of held-out codes that are less dense, shape ``(n,)``: 0.05 means the outer 5 %."""
        return np.searchsorted(self.quantiles, self.log_density(points), side="right") / len(
            self.quantiles
        )

    def confine(self, points: Array, floor: float) -> Array:
        """Points ``(n, d)``, those less plausible than ``floor`` in (0, 1) moved to the edge of where it is reached.

        They climb the log density by Newton's steps along its slope, so they end near where they began.
        """
        at = max(math.ceil(floor * len(self.quantiles)) - 1, 0)
        unit = max(1.0, abs(float(self.quantiles[at])))
        least = float(self.quantiles[at]) + _MARGIN * unit
        aim = (
            least + 0.1 * _MARGIN * unit
        )  # steps that only came nearer and nearer could miss the edge by rounding
        x = np.array(points, dtype=np.float64)
        low = np.arange(len(x))
        value, gradient = self.slope(x)
        for _ in range(_ROUNDS):
            still = value < least
            low, lack, gradient = low[still], aim - value[still], gradient[still]
            if not len(low):
                return x
            outside, steep = x[low], np.linalg.norm(gradient, axis=1)
            length = np.minimum(lack / np.maximum(steep, 1e-12), 0.5 * math.sqrt(x.shape[1]))
            step = (length / np.maximum(steep, 1e-12))[:, None] * gradient
            value, gradient = self.slope(outside + step)
            deep = np.flatnonzero(value > least + _DEEP)
            step[deep] *= self._to_edge(outside[deep], step[deep], least)[:, None]
            x[low] = outside + step
        peak = self.means[self.slope(self.means)[0].argmax()]
        way = peak - x[low]  # up a hill that ends too low: cross over to the highest
        x[low] += self._to_edge(x[low], way, least)[:, None] * way
        return x

    def _to_edge(self, x: Array, step: Array, least: float) -> Array:
        """Shares of steps ``(b, d)`` that lead just across the edge, shape ``(b,)``, by halving what lies between."""
        short, long = np.zeros(len(x)), np.ones(len(x))
        for _ in range(_HALVINGS if len(x) else 0):
            middle = 0.5 * (short + long)
            across = self.slope(x + middle[:, None] * step)[0] >= least
            short, long = np.where(across, short, middle), np.where(across, middle, long)
        return long

    def slope(self, points: Array) -> tuple[Array, Array]:
        """Log density ``(n,)``, up to rounding that of ``log_density``, and its gradient ``(n, d)``."""
        whiteners = np.linalg.inv(self.factors)
        d = self.means.shape[1]
        heights = np.log(self.weights) - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        heights = heights - 0.5 * d * math.log(2.0 * math.pi)
        white = (points[None] - self.means[:, None]) @ np.swapaxes(whiteners, 1, 2)  # (c, n, d)
        logs = heights[:, None] - 0.5 * (white**2).sum(2)
        top = logs.max(0)
        shares = np.exp(logs - top)
        total = shares.sum(0)
        gradient = -((shares / total)[:, :, None] * (white @ whiteners)).sum(0)
        return top + np.log(total), gradient
