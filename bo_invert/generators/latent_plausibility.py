"""Density of a generator's codes: whitening, selection of a mixture, calibrated plausibility.

The aggregated posterior of a VAE differs from N(0, I). The mixture describes the real codes. Its
densities are calibrated on held-out codes: plausibility 0.05 marks the outer 5 % of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from bo_invert.domains.reference_measure import Reference
from bo_invert.errors import InvalidInputError, bar_options
from bo_invert.generators.mixture_em import fit_mixture, initial_means, log_components
from bo_invert.generators.repeated_rows import grouped_folds, row_groups
from bo_invert.types import Array, Indices
from bo_invert.user_data import real_array
from bo_invert.user_tables import columns, require_names

# Engineering choice: candidate numbers of mixture components, doubled each time.
COMPONENTS = (1, 2, 4, 8, 16)
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
# Engineering choice: number of quantiles of the densities of held-out codes that are stored.
_LEVELS = 2000
# Largest number of codes that are fitted. Engineering choice: a fit with folds takes at most two
# seconds, and more codes hardly change the mixture.
_MOST_ROWS = 2000
# Number of different codes, and number per coordinate, below which the ranks of held-out codes are
# too coarse for the region of 99 %, and norms of fitted codes shorter than those of new ones.
# Number of replicates of the bootstrap, and of new points in each. Engineering choices: 4,000
# densities give the quantile of 1 % within 0.2 percentage points.
_FEW, _FEW_PER_COORDINATE, _REPLICATES, _NEW = 100, 5, 40, 100
# Variance of a whitened direction below which it is whitened again, and below which codes do not
# vary there; largest number of repetitions. Engineering choices: shrinkage of regular codes leaves
# at least 0.2; the second one is a standard deviation of 1e-6, as for constant coordinates.
_THIN, _ZERO, _STRETCHES = 0.1, 1e-12, 8


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


def shown_components(progress: bool | None) -> Iterator[int]:
    """Yield the candidate numbers of components with a progress bar; see ``bar_options``."""
    yield from tqdm(
        COMPONENTS, desc="fitting the latent prior", unit="mixture", leave=False,
        **bar_options(progress),
    )  # fmt: skip


def fit_measure(
    codes: ArrayLike,
    seed: int = 0,
    components: Iterable[int] = COMPONENTS,
    fresh: ArrayLike | None = None,
    designs: ArrayLike | None = None,
) -> Measure:
    """Fit whitening and Gaussian mixture to codes, and calibrate the mixture's densities.

    The number of components doubles while the held-out log likelihood rises by 0.01 nats per code.
    Then other weights of the pooled covariance are compared in the same way. ``plausibility`` ranks
    densities among the held-out densities of the selected mixture. Up to 2,000 codes are held out
    in five folds, in which each code is outside its own fit, as are its exact or near copies. Each
    fold starts from the fit to all codes: both have the same modes, so that their densities are
    comparable. Of more codes, 4,000 random ones are used: the mixture is fitted to one half and
    calibrated on the other one. All codes determine the whitening.

    With fewer than 100 different codes, or 5 per coordinate, ranks are too coarse. A parametric
    bootstrap then gives the densities and norms of new codes, if one component is selected.

    Args:
        codes: shape ``(n, d)``, at least ``2 (d + 1)`` different rows.
        seed: seed of folds and initial means. Equal seeds give equal measures.
        components: candidate numbers of components, ascending; see ``shown_components``.
        fresh: further codes ``(m, d)`` for the calibration instead of the held-out codes.
        designs: designs of the codes, shape ``(n, ...)``, if copies are to be found among these.
            Codes from a search have starts in common. Default: copies are found among the codes.

    Raises:
        InvalidInputError: there are too few different codes, or values are not finite.
    """
    array = as_codes(codes)
    n, d = array.shape
    different = len(np.unique(array, axis=0))
    copies = f" among {n}" if different < n else ""
    # Copies share a fold; with fewer than two different rows in each fold they cannot.
    least = max(2 * (d + 1), 2 * _FOLDS) if copies else 2 * (d + 1)
    if different < least:
        raise InvalidInputError(
            f"codes must have at least {least} different rows to fit a {d}-dimensional "
            f"latent space, got {different}{copies}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    # In whitened coordinates one prior covariance I suits all coordinates.
    frame, points = _framed(array, rng)
    alike = points if designs is None else _scaled(np.asarray(designs, dtype=np.float64))
    split = _Split.of(points, alike, rng)
    rows = split.rows
    # Each component needs 2 (d + 1) codes in every training part.
    affordable = (c for c in components if c == 1 or c * 2 * (d + 1) <= split.trained)
    initial: Array = np.ones((len(rows), 1))
    best, held_out = None, np.full(1, -np.inf)
    for count in affordable:
        distances = ((rows[:, None] - initial_means(rows, count, rng)) ** 2).sum(-1)
        nearest = np.eye(count)[distances.argmin(axis=1)]
        mixture, logs = split.evaluate(nearest, _POOLED[0] * d)
        if logs.mean() < held_out.mean() + _MIN_GAIN:
            break
        best, held_out, initial = mixture, logs, nearest
    for pooled in _POOLED[1:] if initial.shape[1] > 1 else ():
        mixture, logs = split.evaluate(initial, pooled * d)
        if logs.mean() > held_out.mean() + _MIN_GAIN:
            best, held_out = mixture, logs
    assert best is not None
    norms = np.linalg.norm(points, axis=1)
    if fresh is not None:
        drawn = as_codes(fresh, d, "fresh codes")
        held_out = best.log_density(frame.points(drawn, rng))
    elif split.different < max(_FEW, _FEW_PER_COORDINATE * d) and len(best.weights) == 1:
        made, norms = _bootstrap(best, split.different, rng)
        # Held-out codes correct the level for other than normal distributions, only downwards:
        # their median is noisy.
        held_out = made + min(0.0, float(np.median(held_out) - np.median(made)))
    if len(held_out) > _LEVELS:
        held_out = np.quantile(held_out, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    return Measure(
        frame.mean, frame.factor,
        Reference(best.weights, best.means, best.factors, np.sort(held_out)), np.sort(norms),
    )  # fmt: skip


class _Frame(NamedTuple):
    """Whitened coordinates of codes.

    Args:
        mean: mean of the codes, shape ``(d,)``.
        factor: map from points to codes, shape ``(d, d)``.
        empty: orthonormal directions of points in which codes do not vary, shape ``(d, k)``.
    """

    mean: Array
    factor: Array
    empty: Array

    def points(self, codes: Array, rng: np.random.Generator) -> Array:
        """Return points ``(n, d)`` of codes, with the coordinates of draws in empty directions."""
        points: Array = np.linalg.solve(self.factor, (codes - self.mean).T).T.astype(np.float64)
        if not self.empty.shape[1]:
            return points
        noise = rng.standard_normal((len(points), self.empty.shape[1]))
        return np.asarray(points + (noise - points @ self.empty) @ self.empty.T)


def _framed(codes: Array, rng: np.random.Generator) -> tuple[_Frame, Array]:
    """Whiten codes; return their frame and points ``(n, d)``.

    Shrinkage leaves little variance in directions in which nearly singular codes hardly vary. The
    mixture is regular there and would be wider than the codes. The codes are therefore whitened
    again within these directions. Where they do not vary at all, the points are draws of N(0, 1):
    designs do not depend on these coordinates.
    """
    mean, factor = whitening(codes)
    points: Array = np.linalg.solve(factor, (codes - mean).T).T.astype(np.float64)
    variances, directions = np.linalg.eigh(points.T @ points / len(points))
    empty = directions[:, variances < _ZERO]
    if empty.shape[1]:
        factor = factor @ _stretched(empty, math.sqrt(_ZERO) * np.eye(empty.shape[1]))
    for _ in range(_STRETCHES):
        thin = directions[:, (variances < _THIN) & (variances >= _ZERO)]
        if not thin.shape[1]:
            break
        # Rotated at random: shrinkage has no effect along the principal axes of the sample.
        thin = thin @ np.linalg.qr(rng.standard_normal((thin.shape[1],) * 2))[0]
        stretch = _stretched(thin, whitening(points @ thin)[1])
        factor = factor @ stretch
        points = np.linalg.solve(stretch, points.T).T.astype(np.float64)
        variances, directions = np.linalg.eigh(points.T @ points / len(points))
    frame = _Frame(mean, factor, empty)
    return frame, frame.points(codes, rng) if empty.shape[1] else points


def _stretched(directions: Array, inner: Array) -> Array:
    """Return the matrix ``(d, d)`` of ``inner`` ``(k, k)`` in orthonormal ``directions``."""
    return np.asarray(
        np.eye(len(directions)) + directions @ (inner - np.eye(len(inner))) @ directions.T
    )


@dataclass(frozen=True, eq=False)
class _Split:
    """Division of points into parts for the fit and parts that are held out.

    Args:
        rows: points that mixtures are fitted to, shape ``(n, d)``.
        fold: fold of each row ``(n,)``; empty if all rows are fitted.
        held: points that are held out, shape ``(m, d)``, without folds.
        different: number of groups of copies among all points.
    """

    rows: Array
    fold: Indices
    held: Array
    different: int

    @staticmethod
    def of(points: Array, alike: Array, rng: np.random.Generator) -> _Split:
        """Divide points ``(n, d)``; those with copies in ``alike`` ``(n, k)`` stay together."""
        if len(points) <= _MOST_ROWS:
            groups = row_groups(alike)
            fold = grouped_folds(groups, _FOLDS, rng)
            return _Split(points, fold, points[:0], len(np.unique(groups)))
        chosen = np.sort(rng.permutation(len(points))[: 2 * _MOST_ROWS])
        some = points[chosen]
        groups = row_groups(alike[chosen])
        half = grouped_folds(groups, 2, rng) == 0
        return _Split(some[half], np.empty(0, dtype=np.intp), some[~half], len(np.unique(groups)))

    @property
    def trained(self) -> float:
        """Number of rows in the smallest training part."""
        return len(self.rows) * ((_FOLDS - 1) / _FOLDS if len(self.fold) else 1.0)

    def evaluate(self, shares: Array, pooled: float) -> tuple[Reference, Array]:
        """Return the mixture of all rows, and held-out log densities.

        Args:
            shares: initial responsibilities ``(n, c)``.
            pooled: weight of the pooled covariance in points.
        """
        if len(self.fold):
            return _cross_validated(self.rows, shares, self.fold, pooled)
        whole, _ = fit_mixture(self.rows, shares, pooled)
        return whole, np.logaddexp.reduce(log_components(whole, self.held), axis=1)


def _scaled(designs: Array) -> Array:
    """Return designs as rows ``(n, k)`` in units of their mean deviation."""
    rows = designs.reshape(len(designs), -1)
    return np.asarray(rows / max(float(rows.std(axis=0).mean()), 1e-300))


def _bootstrap(normal: Reference, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return log densities and norms of new points under normal distributions fitted to ``n``.

    A replicate draws n points and new ones from ``normal``, and fits to the n points as
    ``fit_measure`` does.
    """
    logs, norms = [], []
    d = normal.means.shape[1]
    for _ in range(_REPLICATES):
        frame, points = _framed(normal.sample(rng, n), rng)
        fitted, _ = fit_mixture(points, np.ones((n, 1)), _POOLED[0] * d)
        new = frame.points(normal.sample(rng, _NEW), rng)
        logs.append(fitted.log_density(new) - np.linalg.slogdet(frame.factor)[1])
        norms.append(np.linalg.norm(new, axis=1))
    return np.concatenate(logs), np.concatenate(norms)


def _cross_validated(
    points: Array, shares: Array, fold: Indices, pooled: float
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
