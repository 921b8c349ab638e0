"""Latent prior: a Gaussian mixture with calibrated plausibility and projection. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array

# Engineering choice: most iterations of the projection. Newton steps converge in 3 to 10; the
# remaining points take the direct way to the highest mode.
_ROUNDS = 50
# Number of bisections: 2^-25 of a step is below the rounding of single precision (IEEE 754).
_HALVINGS = 25
# Engineering choice: log density in nats above the edge from which a step has overshot, usually
# between two modes, and is shortened by bisection.
_DEEP = 0.01
# Engineering choice: relative margin of the log density at the edge. It exceeds the rounding
# error of single precision, a factor of 6e-8, for codes of some hundred coordinates.
_MARGIN = 1e-5


@dataclass(frozen=True, eq=False)
class Reference:
    """Latent prior: Gaussian mixture in whitened coordinates with calibrated densities.

    ``p(z) = sum_i w_i N(z; m_i, L_i L_i')``. The plausibility of z is the share of held-out codes
    with a log density of at most ``log p(z)``.

    Args:
        weights: weights of the c components, shape ``(c,)``; their sum is 1.
        means: means, shape ``(c, d)``.
        factors: lower Cholesky factors of the covariances, shape ``(c, d, d)``.
        quantiles: sorted log densities of held-out codes, shape ``(k,)``.
    """

    weights: Array
    means: Array
    factors: Array
    quantiles: Array

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` points, shape ``(n, d)``."""
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        moved = np.einsum("nij,nj->ni", self.factors[component], noise)
        return np.asarray(self.means[component] + moved)

    def log_density(self, points: Array) -> Array:
        """Compute log densities, shape ``(n,)``."""
        d = self.means.shape[1]
        logs = np.empty((len(points), len(self.weights)))
        for c, (weight, mean, factor) in enumerate(
            zip(self.weights, self.means, self.factors, strict=True)
        ):
            # (z - m)' (L L')^-1 (z - m) = |L^-1 (z - m)|^2 and log det(L L') = 2 sum log L_ii
            residual = np.linalg.solve(factor, (points - mean).T)
            logdet = np.log(np.diag(factor)).sum()
            logs[:, c] = (
                math.log(weight)
                - logdet
                - 0.5 * (residual**2).sum(0)
                - 0.5 * d * math.log(2 * math.pi)
            )
        # log sum exp, shifted by the largest term against underflow
        top = logs.max(axis=1, keepdims=True)
        return np.asarray(top[:, 0] + np.log(np.exp(logs - top).sum(axis=1)))

    def plausibility(self, points: Array) -> Array:
        """Compute plausibilities, shape ``(n,)``: 0.05 denotes the outer 5 % of the codes."""
        return np.searchsorted(self.quantiles, self.log_density(points), side="right") / len(
            self.quantiles
        )

    def edge(self, floor: float) -> tuple[float, float]:
        """Return the log density at the edge of the set of this ``floor``, and one inside it.

        Newton's steps converge from below; aiming slightly inside ends in finitely many.
        """
        at = max(math.ceil(floor * len(self.quantiles)) - 1, 0)
        unit = max(1.0, abs(float(self.quantiles[at])))
        least = float(self.quantiles[at]) + _MARGIN * unit
        return least, least + 0.1 * _MARGIN * unit

    def whitened(self) -> tuple[Array, Array, Array]:
        """Return the log density as ``log sum_i exp(h_i - |(z W + s)_i|^2 / 2)``.

        Returns:
            The heights h ``(c,)``, the shifts s ``(c d,)`` and the matrix W ``(d, c d)``, whose
            block i is the transpose of ``L_i^-1``.
        """
        whiteners = np.linalg.inv(self.factors)
        d = self.means.shape[1]
        logdets = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        heights = np.log(self.weights) - logdets - 0.5 * d * math.log(2.0 * math.pi)
        shifts = -np.einsum("cij,cj->ci", whiteners, self.means).ravel()
        return heights, shifts, np.concatenate(np.swapaxes(whiteners, 1, 2), axis=1)

    def confine(self, points: Array, floor: float) -> Array:
        """Move points ``(n, d)`` of lower plausibility to the edge of the set of this ``floor``.

        Let t be the log density at the edge. A step from z is Newton's step for the equation
        ``log p(z + s g) = t`` along the gradient g: ``s = (t - log p(z)) / |g|^2``, at most
        ``sqrt(d) / 2`` long. Points therefore end near their start. Points that reach no edge
        within ``_ROUNDS`` steps move straight towards the highest mode.

        Args:
            points: points ``(n, d)``.
            floor: least plausibility, in (0, 1).
        """
        least, aim = self.edge(floor)
        x = np.array(points, dtype=np.float64)
        low = np.arange(len(x))
        value, gradient = self.slope(x)
        for _ in range(_ROUNDS):
            outside = value < least
            low, lack, gradient = low[outside], aim - value[outside], gradient[outside]
            if not len(low):
                return x
            start, steep = x[low], np.linalg.norm(gradient, axis=1)
            length = np.minimum(lack / np.maximum(steep, 1e-12), 0.5 * math.sqrt(x.shape[1]))
            step = (length / np.maximum(steep, 1e-12))[:, None] * gradient
            value, gradient = self.slope(start + step)
            deep = np.flatnonzero(value > least + _DEEP)
            step[deep] *= self._to_edge(start[deep], step[deep], least)[:, None]
            x[low] = start + step
        peak = self.means[self.slope(self.means)[0].argmax()]
        way = peak - x[low]  # these climb a mode that lies below the edge
        x[low] += self._to_edge(x[low], way, least)[:, None] * way
        return x

    def _to_edge(self, x: Array, step: Array, least: float) -> Array:
        """Bisect for the least factors ``(b,)`` of steps ``(b, d)`` that end inside the edge."""
        short, long = np.zeros(len(x)), np.ones(len(x))
        for _ in range(_HALVINGS if len(x) else 0):
            middle = 0.5 * (short + long)
            across = self.slope(x + middle[:, None] * step)[0] >= least
            short, long = np.where(across, short, middle), np.where(across, middle, long)
        return long

    def slope(self, points: Array) -> tuple[Array, Array]:
        """Compute the log density ``(n,)`` and its gradient ``(n, d)``.

        The gradient is ``-sum_i r_i(z) (L_i L_i')^-1 (z - m_i)`` with the responsibilities r_i. The
        log density equals that of ``log_density`` up to rounding.
        """
        whiteners = np.linalg.inv(self.factors)
        d = self.means.shape[1]
        logdets = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        heights = np.log(self.weights) - logdets - 0.5 * d * math.log(2.0 * math.pi)
        white = (points[None] - self.means[:, None]) @ np.swapaxes(whiteners, 1, 2)  # (c, n, d)
        logs = heights[:, None] - 0.5 * (white**2).sum(2)
        top = logs.max(0)
        shares = np.exp(logs - top)
        total = shares.sum(0)
        gradient = -((shares / total)[:, :, None] * (white @ whiteners)).sum(0)
        return top + np.log(total), gradient
