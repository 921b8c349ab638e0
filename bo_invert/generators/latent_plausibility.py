"""Density of a generator's codes: whitening, selection of a mixture, calibrated plausibility.

The aggregated posterior of a VAE differs from N(0, I). The mixture describes the real codes. Its
densities are calibrated on held-out codes: plausibility 0.05 marks the outer 5 % of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bo_invert.errors import InvalidInputError
from bo_invert.generators.mixture_em import fit_mixture, initial_means, log_components
from bo_invert.reference_measure import Reference
from bo_invert.types import Array
from bo_invert.user_data import columns, real_array, require_names

# Engineering choice: candidate numbers of mixture components, doubled each time.
_COMPONENTS = (1, 2, 4, 8, 16)
# Engineering choice: number of cross-validation folds.
_FOLDS = 5
# Engineering choice: smallest gain of a larger mixture in held-out log likelihood, nats per code.
_MIN_GAIN = 0.01
# Engineering choice: candidate weights of the pooled covariance, in points per coordinate; the
# first is used while the number of components grows.
_POOLED = (0.5, 0.0, 2.0)
# Engineering choice: least number of EM iterations of a fold, in which the fit forgets the held-out
# codes that its initial responsibilities depend on.
_FOLD_ITERATIONS = 10
# Engineering choice: number of quantiles of the densities of fresh codes that are stored.
_LEVELS = 2000


@dataclass(frozen=True, eq=False)
class Measure:
    """Fitted distribution of codes: ``code = mean + factor @ point`` and the density of points.

    Args:
        mean: mean of the codes, shape ``(d,)``.
        factor: standard deviations times the symmetric root of the correlations, shape ``(d, d)``.
        reference: Gaussian mixture in whitened coordinates.
        norms: sorted norms of the whitened codes, shape ``(n,)``.
    """

    mean: Array
    factor: Array
    reference: Reference
    norms: Array

    def whiten(self, codes: Array) -> Array:
        """Map codes ``(n, d)`` to points ``(n, d)``: solve ``factor @ point = code - mean``."""
        return np.linalg.solve(self.factor, (codes - self.mean).T).T.astype(np.float64)

    def color(self, points: Array) -> Array:
        """Map points ``(n, d)`` to codes ``(n, d)``."""
        return self.mean + points @ self.factor.T

    def radius(self, level: float) -> float:
        """Return the quantile ``level`` of the norms of the whitened codes."""
        return float(np.quantile(self.norms, level))


def as_codes(codes: ArrayLike, dim: int | None = None, who: str = "codes") -> Array:
    """Return codes as a finite float64 array ``(n, d)``.

    Raises:
        InvalidInputError: the shape is not ``(n, d)``, d is not ``dim``, or a value is not finite.
    """
    named = columns(codes)
    if named is not None:
        axes = [f"z{i}" for i in range(len(named))]
        require_names(f"{who}: coordinates", axes, named)
        codes = np.transpose([real_array(who, named[axis]) for axis in axes])
    array = real_array(who, codes)
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim):
        raise InvalidInputError(
            f"{who} must have shape (n, {dim if dim is not None else 'd'}), got {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise InvalidInputError(
            f"{who} must be finite, got {bad} of {len(array)} rows with NaN or inf. "
            "Remove these rows."
        )
    return array


def fit_measure(
    codes: ArrayLike,
    seed: int = 0,
    components: Sequence[int] = _COMPONENTS,
    fresh: ArrayLike | None = None,
) -> Measure:
    """Fit whitening and Gaussian mixture to codes, and calibrate the mixture's densities.

    The number of components doubles while the held-out log likelihood over five folds rises by
    0.01 nats per code. Then other weights of the pooled covariance are compared in the same way.
    ``plausibility`` ranks densities among the held-out densities of the selected mixture, in which
    each code is outside its own fit, as are equal codes. Each fold starts from the fit to all
    codes: both have the same modes, so that their densities are comparable.

    Args:
        codes: shape ``(n, d)``, ``n >= 2 (d + 1)``.
        seed: seed of folds and initial means. Equal seeds give equal measures.
        components: candidate numbers of components, ascending.
        fresh: further codes ``(m, d)`` for the calibration instead of the held-out codes.

    Raises:
        InvalidInputError: there are too few codes, all are equal, or values are not finite.
    """
    array = as_codes(codes)
    n, d = array.shape
    if n < 2 * (d + 1):
        raise InvalidInputError(
            f"codes must have at least {2 * (d + 1)} rows to fit a {d}-dimensional latent space, "
            f"got {n}"
        )
    # In whitened coordinates one prior covariance I suits all coordinates.
    mean, factor = whitening(array)
    points: Array = np.linalg.solve(factor, (array - mean).T).T.astype(np.float64)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    fold = _folds(array, rng)
    # Each component needs 2 (d + 1) codes in every training fold.
    affordable = [c for c in components if c == 1 or c * 2 * (d + 1) <= n * (_FOLDS - 1) / _FOLDS]
    initial: Array = np.ones((n, 1))
    best, held_out = None, np.full(n, -np.inf)
    for count in affordable:
        distances = ((points[:, None] - initial_means(points, count, rng)) ** 2).sum(-1)
        nearest = np.eye(count)[distances.argmin(axis=1)]
        mixture, logs = _cross_validated(points, nearest, fold, _POOLED[0] * d)
        if logs.mean() < held_out.mean() + _MIN_GAIN:
            break
        best, held_out, initial = mixture, logs, nearest
    for pooled in _POOLED[1:] if initial.shape[1] > 1 else ():
        mixture, logs = _cross_validated(points, initial, fold, pooled * d)
        if logs.mean() > held_out.mean() + _MIN_GAIN:
            best, held_out = mixture, logs
    assert best is not None
    if fresh is not None:
        drawn = as_codes(fresh, d, "fresh codes")
        held_out = best.log_density(np.linalg.solve(factor, (drawn - mean).T).T.astype(np.float64))
        if len(held_out) > _LEVELS:
            held_out = np.quantile(held_out, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    return Measure(
        mean, factor, Reference(best.weights, best.means, best.factors, np.sort(held_out)),
        np.sort(np.linalg.norm(points, axis=1)),
    )  # fmt: skip


def _folds(codes: Array, rng: np.random.Generator) -> NDArray[np.integer]:
    """Draw the fold of each code ``(n,)``; equal codes share it unless few codes differ."""
    fold = rng.permutation(len(codes)) % _FOLDS
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    shared: NDArray[np.integer] = fold[first[group.ravel()]]
    return shared if len(first) >= 2 * _FOLDS and np.ptp(shared) else fold


def _cross_validated(
    points: Array, shares: Array, fold: NDArray[np.integer], pooled: float
) -> tuple[Reference, Array]:
    """Return the mixture of all points, and held-out log densities ``(n,)`` over the folds."""
    whole, shares = fit_mixture(points, shares, pooled)
    logs = np.empty(len(points))
    for k in range(_FOLDS):
        rest = fold != k
        without = fit_mixture(points[rest], shares[rest], pooled, least=_FOLD_ITERATIONS)[0]
        logs[fold == k] = np.logaddexp.reduce(log_components(without, points[fold == k]), axis=1)
    return whole, logs


def whitening(codes: Array) -> tuple[Array, Array]:
    """Return mean ``(d,)`` and factor ``diag(sd) R^(1/2)`` ``(d, d)`` of the codes.

    R holds the correlations, shrunk towards I by oracle approximating shrinkage (Chen et al.
    2010). Variances are not shrunk: inactive coordinates may vary a thousand times less than
    others. The symmetric root (ZCA whitening) keeps whitened axes close to the coordinates.
    """
    n, d = codes.shape
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    if not deviation.max() > 0:
        raise InvalidInputError(f"codes must differ from each other, got {n} equal codes")
    deviation = np.maximum(deviation, 1e-6 * deviation.max())
    scaled = (codes - mean) / deviation
    correlation = scaled.T @ scaled / n
    # rho = min(1, ((1 - 2/d) tr(R^2) + tr(R)^2) / ((n + 1 - 2/d) (tr(R^2) - tr(R)^2 / d))).
    square, excess = (correlation**2).sum(), (correlation**2).sum() - np.trace(correlation) ** 2 / d
    shrink = (
        min(1.0, ((1 - 2 / d) * square + np.trace(correlation) ** 2) / ((n + 1 - 2 / d) * excess))
        if excess > 1e-12
        else 1.0
    )
    values, vectors = np.linalg.eigh((1 - shrink) * correlation + shrink * np.eye(d))
    return mean, deviation[:, None] * ((vectors * np.sqrt(values)) @ vectors.T)
