"""Fit of the data prior of a box: mixture of normals and calibrated plausibility of its rows."""

from __future__ import annotations

import numpy as np

from bo_invert.domains.reference_measure import DataPrior, Reference
from bo_invert.generators.latent_plausibility import Measure, fit_measure, whitening
from bo_invert.generators.repeated_rows import grouped_folds, row_groups
from bo_invert.types import Array

# Rows that the mixture is fitted to, and points and numbers of the data that are stored.
# Engineering choices: more rows hardly change the mixture, and the fit takes up to two seconds;
# 50,000 numbers can be sent to a server.
_FIT_ROWS, _STORED_ROWS, _STORED_NUMBERS = 2000, 1000, 50_000
# Candidate numbers of components. Engineering choice: bounds the time of the fit.
_COMPONENTS = (1, 2, 4, 8)
# Largest number of entries of all covariances. Engineering choice: bounds the time of an ask and
# the size of a declaration.
_MAX_ENTRIES = 60_000
# Rows per coordinate below which one normal distribution is fitted. Engineering choice: with 200
# made rows of 100 coordinates, the densities of a fold differ from those of the fit to all rows,
# and 0.1 % of fresh rows had a plausibility below 0.05 under the mixture.
_MIN_ROWS = 10
# Standard deviation of a constant column, in units of the box. Engineering choice: a variance of 0
# has no density, and small changes of an input without effect do no harm.
_CONSTANT_DEVIATION = 0.02
# Number of folds for the calibration of one normal distribution. Engineering choice.
_FOLDS = 10


def fit_data_prior(points: Array, seed: int = 0) -> DataPrior:
    """Fit the data prior to points ``(n, d)`` of the unit cube, ``n >= 10``.

    ``fit_measure`` fits a mixture if there are ten rows per coordinate. Fewer rows have one normal
    distribution with shrunk correlations (Chen et al. 2010), whose densities are calibrated by
    cross-validation of the whole fit.

    Args:
        points: points of real designs.
        seed: seed of the selected rows and of the folds.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    d = points.shape[1]
    fitted = _some(points, _FIT_ROWS, rng)
    constant = np.ptp(fitted, axis=0) == 0.0
    fitted = fitted + _CONSTANT_DEVIATION * constant * rng.standard_normal(fitted.shape)
    if len(fitted) >= _MIN_ROWS * d:
        counts = [c for c in _COMPONENTS if c == 1 or c * d * d <= _MAX_ENTRIES]
        prior = _in_unit_coordinates(fit_measure(fitted, seed, counts))
    else:
        prior = _normal(fitted)
        fold = grouped_folds(row_groups(fitted), _FOLDS, rng)
        held_out = [
            _normal(fitted[fold != k]).log_density(fitted[fold == k]) for k in range(_FOLDS)
        ]
        prior = Reference(
            prior.weights, prior.means, prior.factors, np.sort(np.concatenate(held_out))
        )
    stored = _some(points, min(_STORED_ROWS, max(2, _STORED_NUMBERS // d)), rng)
    return DataPrior(prior.weights, prior.means, prior.factors, prior.quantiles, stored)


def _some(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Return at most ``count`` random rows, in their order."""
    if len(points) <= count:
        return points
    return np.asarray(points[np.sort(rng.choice(len(points), count, replace=False))])


def _normal(points: Array) -> Reference:
    mean, factor = whitening(points)
    return Reference(np.ones(1), mean[None], _lower(factor)[None], np.empty(0))


def _in_unit_coordinates(measure: Measure) -> Reference:
    """Undo the whitening of a measure: ``x = mean + F z`` divides densities by ``|det F|``."""
    found = measure.reference
    volume = float(np.linalg.slogdet(measure.factor)[1])
    return Reference(
        found.weights,
        measure.color(found.means),
        np.array([_lower(measure.factor @ factor) for factor in found.factors]),
        found.quantiles - volume,
    )


def _lower(root: Array) -> Array:
    """Return the lower Cholesky factor of ``root root'``, shape ``(d, d)``."""
    # A QR decomposition has the precision of the root; the product would square its condition.
    upper = np.linalg.qr(root.T, mode="r")
    return np.asarray((upper * np.sign(np.diag(upper))[:, None]).T)
