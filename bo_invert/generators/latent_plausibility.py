"""Measure where a generator's codes really lie, instead of assuming N(0, I). numpy only.

Codes are whitened, a mixture of normals is fitted to them, and its densities are calibrated on codes that the fit
did not see, so that a plausibility of 0.05 means the outer 5 % of held-out codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bo_invert.errors import InvalidInputError
from bo_invert.latent_prior import Reference
from bo_invert.types import Array

_COMPONENTS = (1, 2, 4, 8, 16)
_FOLDS = 5
#: A larger mixture must gain this much held-out log likelihood per code, in nats.
_WORTH = 0.01
_POOLED = (0.5, 0.0, 2.0)
"""Per coordinate: points of the covariance within all components that each component is taken to have seen."""
_APART = 10
"""Rounds in which a fold's fit forgets the codes that it does without."""
_LEVELS = 2000
"""Densities that are kept of more codes to rank against."""


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
        InvalidInputError: another shape, another ``d`` than ``dim``, or a value that is not a finite number.
    """
    array = np.asarray(codes, dtype=np.float64)
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim):
        raise InvalidInputError(
            f"{who} must have shape (n, {dim if dim is not None else 'd'}), got {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise InvalidInputError(
            f"{who}: {bad} of {len(array)} rows hold values that are not finite; drop these rows"
        )
    return array


def fit_measure(
    codes: ArrayLike,
    seed: int = 0,
    components: Sequence[int] = _COMPONENTS,
    fresh: ArrayLike | None = None,
) -> Measure:
    """Whitening, mixture and calibration of codes.

    The number of components grows while that raises the held-out log likelihood over five folds; then the covariances
    are pooled more or less, whichever raises it. The held-out densities of the last mixture are also what
    ``plausibility`` ranks against: every code serves, none ranks in its own fit. Each fold's fit goes on from the fit
    to all codes, so that it finds the same modes, and densities of the two can be compared.

    Args:
        codes: shape ``(n, d)``, at least ``2 (d + 1)`` of them.
        seed: of folds and starting points; the same seed gives the same measure.
        components: numbers of components to try.
        fresh: further codes ``(m, d)`` to rank against, instead of the held-out ones; where codes can be drawn.

    Raises:
        InvalidInputError: too few codes, all of them equal, or values that are not finite.
    """
    array = as_codes(codes)
    n, d = array.shape
    if n < 2 * (d + 1):
        raise InvalidInputError(
            f"{n} codes are too few to measure a {d}-dimensional latent; give at least {2 * (d + 1)}"
        )
    mean, factor = _whitening(array)
    points: Array = np.linalg.solve(factor, (array - mean).T).T.astype(np.float64)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    fold = rng.permutation(n) % _FOLDS
    affordable = [c for c in components if c == 1 or c * 2 * (d + 1) <= n * (_FOLDS - 1) / _FOLDS]
    begun: Array = np.ones((n, 1))
    best, held_out = None, np.full(n, -np.inf)
    for count in affordable:
        near = ((points[:, None] - _spread(points, count, rng)) ** 2).sum(-1).argmin(axis=1)
        tried, logs = _examined(points, np.eye(count)[near], fold, _POOLED[0] * d)
        if logs.mean() < held_out.mean() + _WORTH:
            break
        best, held_out, begun = tried, logs, np.eye(count)[near]
    for pooled in _POOLED[1:] if begun.shape[1] > 1 else ():
        tried, logs = _examined(points, begun, fold, pooled * d)
        if logs.mean() > held_out.mean() + _WORTH:
            best, held_out = tried, logs
    assert best is not None
    if fresh is not None:
        drawn = as_codes(fresh, d, "codes to rank against")
        logs = best.log_density(np.linalg.solve(factor, (drawn - mean).T).T.astype(np.float64))
        held_out = (
            np.quantile(logs, (np.arange(_LEVELS) + 0.5) / _LEVELS) if len(logs) > _LEVELS else logs
        )
    reference = Reference(best.weights, best.means, best.factors, np.sort(held_out))
    return Measure(mean, factor, reference, np.sort(np.linalg.norm(points, axis=1)))


def _examined(
    points: Array, shares: Array, fold: NDArray[np.integer], pooled: float
) -> tuple[Reference, Array]:
    """The mixture of all points, and the log density ``(n,)`` of each point in a mixture that did without its fold."""
    whole, shares = fit_mixture(points, shares, pooled)
    logs = np.empty(len(points))
    for k in range(_FOLDS):
        without = fit_mixture(points[fold != k], shares[fold != k], pooled, least=_APART)[0]
        logs[fold == k] = np.logaddexp.reduce(_logs(without, points[fold == k]), axis=1)
    return whole, logs


def fit_mixture(
    points: Array, shares: Array, pooled: float = 0.0, least: int = 1, steps: int = 60
) -> tuple[Reference, Array]:
    """A mixture of normals with full covariances, by expectation maximisation, and each component's share of points.

    Each covariance is shrunk as if the component had also seen one point per coordinate of the whitened population, and
    ``pooled`` points of the covariance within all components: that keeps small components regular and vanishes as they
    grow.

    Args:
        points: whitened, shape ``(n, d)``.
        shares: of each component in each point, to begin with, shape ``(n, c)``, rows summing to 1.
        pooled: see above.
        least: rounds that are always done.
        steps: at most this many rounds; it stops earlier when the mean log likelihood gains less than 3e-4.
    """
    mixture, previous = _maximise(points, shares, pooled), -np.inf
    for done in range(steps):
        logs = _logs(mixture, points)
        total = np.logaddexp.reduce(logs, axis=1)
        if done >= least and total.mean() - previous < 3e-4:
            break
        previous = float(total.mean())
        shares = np.exp(logs - total[:, None])
        mixture = _maximise(points, shares, pooled)
    return mixture, shares


def _logs(mixture: Reference, points: Array) -> Array:
    """Log density of each weighted component, shape ``(n, c)``."""
    whiteners = np.linalg.inv(mixture.factors)
    logs = np.empty((len(points), len(mixture.weights)))
    for c, (weight, mean, whitener) in enumerate(
        zip(mixture.weights, mixture.means, whiteners, strict=True)
    ):
        white = (points - mean) @ whitener.T
        logs[:, c] = math.log(weight) + np.log(np.diag(whitener)).sum() - 0.5 * (white**2).sum(1)
    logs -= 0.5 * points.shape[1] * math.log(2.0 * math.pi)
    return logs


def _maximise(points: Array, shares: Array, pooled: float) -> Reference:
    d = points.shape[1]
    mass = shares.sum(axis=0) + 1e-9
    means = (shares.T @ points) / mass[:, None]
    scatters = np.empty((len(mass), d, d))
    for c in range(len(mass)):
        residual = points - means[c]
        scatters[c] = (shares[:, c, None] * residual).T @ residual
    within = (scatters.sum(axis=0) + np.eye(d)) / (len(points) + 1.0)
    factors = np.linalg.cholesky(
        (scatters + np.eye(d) + pooled * within) / (mass + 1.0 + pooled)[:, None, None]
    )
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
        raise InvalidInputError(f"all {n} codes are equal; there is nothing to measure")
    deviation = np.maximum(deviation, 1e-6 * deviation.max())
    scaled = (codes - mean) / deviation
    correlation = scaled.T @ scaled / n
    square, excess = (correlation**2).sum(), (correlation**2).sum() - np.trace(correlation) ** 2 / d
    shrink = 1.0
    if excess > 1e-12:
        shrink = min(
            1.0, ((1 - 2 / d) * square + np.trace(correlation) ** 2) / ((n + 1 - 2 / d) * excess)
        )
    values, vectors = np.linalg.eigh((1 - shrink) * correlation + shrink * np.eye(d))
    root = (vectors * np.sqrt(values)) @ vectors.T
    return mean, deviation[:, None] * root
