"""Measure where a generator's codes really lie, instead of assuming N(0, I). numpy only.

Codes are whitened, a mixture of normals is fitted to them, and its densities are calibrated on codes that the fit
did not see, so that a plausibility of 0.05 means the outer 5 % of held-out codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInput
from bo_invert.reference import Reference
from bo_invert.types import Array

_COMPONENTS = (1, 2, 4, 8, 16)
_FOLDS = 5
#: A larger mixture must gain this much held-out log likelihood per code, in nats.
_WORTH = 0.01


@dataclass(frozen=True, eq=False)
class Measure:
    """The measured distribution of codes: ``code = mean + factor @ point``, and the density of points.

    Args:
        mean: of the codes, shape ``(d,)``.
        factor: the symmetric whitening of the correlations times the standard deviations, shape ``(d, d)``.
        reference: the mixture in whitened coordinates.
        norms: sorted norms of the whitened codes it was measured on, shape ``(n,)``.
    """

    mean: Array
    factor: Array
    reference: Reference
    norms: Array

    def whiten(self, codes: Array) -> Array:
        """Points ``(n, d)`` of codes ``(n, d)``."""
        return np.linalg.solve(self.factor, (codes - self.mean).T).T.astype(np.float64)

    def color(self, points: Array) -> Array:
        """Codes ``(n, d)`` of points ``(n, d)``."""
        return self.mean + points @ self.factor.T

    def radius(self, level: float) -> float:
        """The norm that a share ``level`` of the whitened codes stays below."""
        return float(np.quantile(self.norms, level))


def as_codes(codes: ArrayLike, dim: int | None = None, who: str = "codes") -> Array:
    """Codes as a finite array ``(n, d)``.

    Raises:
        InvalidInput: another shape, another ``d`` than ``dim``, or a value that is not a finite number.
    """
    array = np.asarray(codes, dtype=np.float64)
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim):
        raise InvalidInput(f"{who} must have shape (n, {dim if dim is not None else 'd'}), got {array.shape}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise InvalidInput(f"{who}: {bad} of {len(array)} rows hold values that are not finite; drop these rows")
    return array


def fit_measure(codes: ArrayLike, seed: int = 0, components: Sequence[int] = _COMPONENTS) -> Measure:
    """Whitening, mixture and calibration of codes.

    The number of components grows while that raises the held-out log likelihood over five folds. The held-out densities
    of the last one are also what ``plausibility`` ranks against: every code serves, none ranks in its own fit.

    Args:
        codes: shape ``(n, d)``, at least ``2 (d + 1)`` of them.
        seed: of folds and starting points; the same seed gives the same measure.
        components: numbers of components to try.

    Raises:
        InvalidInput: too few codes, all of them equal, or values that are not finite.
    """
    array = as_codes(codes)
    n, d = array.shape
    if n < 2 * (d + 1):
        raise InvalidInput(f"{n} codes are too few to measure a {d}-dimensional latent; give at least {2 * (d + 1)}")
    mean, factor = _whitening(array)
    points: Array = np.linalg.solve(factor, (array - mean).T).T.astype(np.float64)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    fold = rng.permutation(n) % _FOLDS
    affordable = [c for c in components if c == 1 or c * 2 * (d + 1) <= n * (_FOLDS - 1) / _FOLDS]
    best, held_out = 0, np.full(n, -np.inf)
    for count in affordable:
        logs = np.empty(n)
        for k in range(_FOLDS):
            logs[fold == k] = fit_mixture(points[fold != k], count, rng).log_density(points[fold == k])
        if logs.mean() < held_out.mean() + _WORTH:
            break
        best, held_out = count, logs
    whole = fit_mixture(points, best, rng)
    reference = Reference(whole.weights, whole.means, whole.factors, np.sort(held_out))
    return Measure(mean, factor, reference, np.sort(np.linalg.norm(points, axis=1)))


def fit_mixture(points: Array, count: int, rng: np.random.Generator, steps: int = 60) -> Reference:
    """A mixture of ``count`` normals with full covariances, by expectation maximisation.

    Each covariance is shrunk towards the identity as if the component had also seen one point per coordinate of the
    whitened population: that keeps small components regular and vanishes as they grow.

    Args:
        points: whitened, shape ``(n, d)``.
        count: of components.
        rng: for the starting points.
        steps: at most this many rounds; it stops earlier when the mean log likelihood gains less than 3e-4.
    """
    near = ((points[:, None] - _spread(points, count, rng)) ** 2).sum(-1).argmin(axis=1)
    mixture, previous = _maximise(points, np.eye(count)[near]), -np.inf
    for _ in range(steps):
        parts = zip(mixture.means[:, None], mixture.factors[:, None], strict=True)
        logs = np.stack([Reference(np.ones(1), *part, np.empty(0)).log_density(points) for part in parts], axis=1)
        logs = logs + np.log(mixture.weights)
        total = np.logaddexp.reduce(logs, axis=1)
        if total.mean() - previous < 3e-4:
            break
        previous = float(total.mean())
        mixture = _maximise(points, np.exp(logs - total[:, None]))
    return mixture


def _maximise(points: Array, shares: Array) -> Reference:
    d = points.shape[1]
    mass = shares.sum(axis=0) + 1e-9
    means = (shares.T @ points) / mass[:, None]
    factors = np.empty((len(mass), d, d))
    for c, m in enumerate(mass):
        residual = points - means[c]
        scatter = (shares[:, c, None] * residual).T @ residual
        factors[c] = np.linalg.cholesky((scatter + np.eye(d)) / (m + 1.0))
    return Reference(mass / mass.sum(), means, factors, np.empty(0))


def _spread(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Starting means far from each other: k-means++ (Arthur and Vassilvitskii, 2007)."""
    chosen = [points[rng.integers(len(points))]]
    for _ in range(count - 1):
        distance = ((points[:, None] - np.array(chosen)) ** 2).sum(-1).min(axis=1)
        weight = distance + 1e-12
        chosen.append(points[rng.choice(len(points), p=weight / weight.sum())])
    return np.array(chosen)


def _whitening(codes: Array) -> tuple[Array, Array]:
    """Mean and symmetric factor of the codes.

    The variances are kept as they are and only the correlations are shrunk (oracle approximating shrinkage, Chen et
    al. 2010), because a coordinate that a generator ignores may vary a thousand times less than another. The
    symmetric root keeps every whitened axis as near to its own coordinate as can be.
    """
    n, d = codes.shape
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    if not deviation.max() > 0:
        raise InvalidInput(f"all {n} codes are equal; there is nothing to measure")
    deviation = np.maximum(deviation, 1e-6 * deviation.max())
    scaled = (codes - mean) / deviation
    correlation = scaled.T @ scaled / n
    square, excess = (correlation**2).sum(), (correlation**2).sum() - np.trace(correlation) ** 2 / d
    shrink = 1.0
    if excess > 1e-12:
        shrink = min(1.0, ((1 - 2 / d) * square + np.trace(correlation) ** 2) / ((n + 1 - 2 / d) * excess))
    values, vectors = np.linalg.eigh((1 - shrink) * correlation + shrink * np.eye(d))
    root = (vectors * np.sqrt(values)) @ vectors.T
    return mean, deviation[:, None] * root
