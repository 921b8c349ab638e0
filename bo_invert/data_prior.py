"""Data prior of a box: mixture of normals in unit coordinates, with points of the data. numpy only.

It is the latent prior of a box: densities are calibrated on held-out rows, so that one plausibility
bound serves both kinds of domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bo_invert.latent_prior import Reference
from bo_invert.types import Array

# Kernel bandwidth of the smoothed bootstrap, in standard deviations of a component. Engineering
# choice: on the boxes of experiments/frozen_regressors.py, seed 1, the best of 100 draws is nearer
# to the best of 100 rows than the best of 100 draws of the mixture, on 8 of 10 problems.
_BANDWIDTH = 0.3
# Share of smoothed draws. Engineering choice: rows alone repeat themselves in small data.
_SMOOTHED = 0.5
# Steps of bisection and of false position between an implausible point and a row of the data.
# Engineering choice: on rows of 2 to 60 coordinates the last end is within 1e-8 of the edge, in
# units of the distance, so that finite differences of 1e-4 have a slope.
_HALVINGS, _SECANTS = 5, 8
# Row pairs whose distances are computed at once. Engineering choice: bounds memory at 32 megabytes.
_PAIRS = 4_000_000


@dataclass(frozen=True, eq=False)
class DataPrior(Reference):
    """Reference measure of a box: Gaussian mixture of its data, and points of the data.

    The mixture scores plausibility; draws are points of the data and a smoothed bootstrap of them,
    which also keeps features of the data that a mixture of normals misses (integers, choices).

    Args:
        rows: points of real designs, shape ``(k, d)``.
    """

    rows: Array

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` points ``(n, d)``: rows, or smoothed rows, with odds 1/2 each.

        A row u of component c is smoothed with the covariance of the component,
        ``x = m_c + sqrt(1 - h^2) (u - m_c) + h L_c e`` with e ~ N(0, I) and bandwidth h, so that
        mean and covariance of the component remain (Silverman and Young 1987). These draws may
        leave the box. Regressors with steps have their extreme outputs at rows.
        """
        row = rng.integers(len(self.rows), size=n)
        smooth = rng.random((n, 1)) < _SMOOTHED
        noise = rng.standard_normal((n, self.rows.shape[1]))
        component = self._components[row]
        mean = self.means[component]
        for c, factor in enumerate(self.factors):
            noise[component == c] = noise[component == c] @ factor.T
        shrunk = math.sqrt(1.0 - _BANDWIDTH**2) * (self.rows[row] - mean)
        return np.where(smooth, mean + shrunk + _BANDWIDTH * noise, self.rows[row])

    def log_density(self, points: Array) -> Array:
        logs = self._logs(points)
        top = logs.max(axis=1, keepdims=True)
        return np.asarray(top[:, 0] + np.log(np.exp(logs - top).sum(axis=1)))

    def confine(
        self, points: Array, floor: float, valid: Callable[[Array], Array] = np.asarray
    ) -> Array:
        """Move points ``(n, d)`` of lower plausibility towards a row of the data.

        Each point moves straight towards the nearest row inside the set of this ``floor``, in the
        metric of the pooled covariance, and stops at its edge. A box is convex, so the way lies
        inside.

        Args:
            points: valid points ``(n, d)``.
            floor: least plausibility, in (0, 1).
            valid: map from points ``(m, d)`` to valid points, such as the rounding of integers.
        """
        least, aim = self.edge(floor)
        rows, whitening = self.plausible_rows(floor)
        x = np.array(points, dtype=np.float64)
        low = np.flatnonzero(self.log_density(x) < least)
        if not len(low):
            return x
        start = x[low]
        way = _nearest(start, rows, whitening) - start
        lengths = _edge(
            lambda share: self.log_density(valid(start + share[:, None] * way)) - aim, len(low)
        )
        x[low] = valid(start + lengths[:, None] * way)
        return x

    def plausible_rows(self, floor: float) -> tuple[Array, Array]:
        """Return the rows ``(k, d)`` above this ``floor``, or the densest one, and a matrix.

        The matrix ``(d, d)`` whitens points by the pooled covariance of the components.
        """
        good = self._row_densities >= self.edge(floor)[1]
        good[self._row_densities.argmax()] = True
        return self.rows[good], self._whitening

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Mean ``(d,)`` and lower Cholesky factor ``(d, d)`` of the covariance of the mixture."""
        mean = self.weights @ self.means
        off = self.means - mean
        covariance = self._pooled + (self.weights * off.T) @ off
        return mean, np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)

    @property
    def _pooled(self) -> Array:
        """Mean covariance of the components, shape ``(d, d)``."""
        pooled = np.einsum("c,cij,ckj->ik", self.weights, self.factors, self.factors)
        return np.asarray(pooled)

    @cached_property
    def _whitening(self) -> Array:
        """Matrix ``(d, d)`` that whitens rows of points by the pooled covariance."""
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self._pooled)).T)

    @cached_property
    def _row_densities(self) -> Array:
        return self.log_density(self.rows)

    @cached_property
    def _components(self) -> Array:
        """Most probable component of each row, shape ``(k,)``."""
        return np.asarray(self._logs(self.rows).argmax(axis=1))

    @cached_property
    def _whitened(self) -> tuple[Array, Array, Array]:
        return self.whitened()

    def _logs(self, points: Array) -> Array:
        """Compute log densities of the weighted components, shape ``(n, c)``."""
        heights, shifts, whiteners = self._whitened
        white = (points @ whiteners + shifts).reshape(len(points), *self.means.shape)
        return np.asarray(heights - 0.5 * (white**2).sum(axis=2))


def _edge(excess: Callable[[Array], Array], count: int) -> Array:
    """Return shares ``(count,)`` in (0, 1] with an excess of at least 0, near a change of sign.

    Bisection, then the Illinois variant of false position (Dowell and Jarratt 1971), which retains
    the bracket: the excess is negative at 0, and that of the result is not.

    Args:
        excess: function from shares ``(count,)`` to values ``(count,)``, not negative at 1.
        count: number of brackets.
    """
    short, long = np.zeros(count), np.ones(count)
    below, above = excess(short), excess(long)
    last = np.zeros(count)
    for step in range(_HALVINGS + _SECANTS):
        share = 0.5 * (short + long)
        if step >= _HALVINGS:
            share = long - (long - short) * np.clip(above / np.maximum(above - below, 1e-300), 0, 1)
        value = excess(share)
        inside = value >= 0.0
        # An end that stays twice loses half of its weight.
        side = np.where(inside, 1.0, -1.0)
        below = np.where(inside, np.where(last == side, 0.5 * below, below), value)
        above = np.where(inside, value, np.where(last == side, 0.5 * above, above))
        short, long = np.where(inside, short, share), np.where(inside, share, long)
        last = side
    return long


def _nearest(points: Array, rows: Array, whitening: Array) -> Array:
    """Return the nearest rows ``(n, d)`` in whitened coordinates."""
    white, ends = points @ whitening, rows @ whitening
    step = max(1, _PAIRS // len(rows))
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a'b, of which |a|^2 does not change the order.
    lengths = 0.5 * (ends**2).sum(axis=1)
    nearest = [
        (lengths - white[i : i + step] @ ends.T).argmin(axis=1) for i in range(0, len(white), step)
    ]
    return np.asarray(rows[np.concatenate(nearest)])
