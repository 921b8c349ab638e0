"""Gaussian mixture with full covariances, fitted by expectation maximisation (EM)."""

from __future__ import annotations

import math

import numpy as np

from bo_invert.domains.reference_measure import Reference
from bo_invert.types import Array


def fit_mixture(
    points: Array, shares: Array, pooled: float = 0.0, least: int = 1, steps: int = 60
) -> tuple[Reference, Array]:
    """Fit a Gaussian mixture with full covariances by expectation maximisation (EM).

    Covariances are maximum a posteriori estimates (see ``_maximise``). The prior counts as one
    point of the whitened population, with covariance I, and ``pooled`` points of the covariance
    within components. It keeps small components regular and vanishes for large ones.

    Args:
        points: whitened points, shape ``(n, d)``.
        shares: initial responsibilities of the components, shape ``(n, c)``; rows sum to 1.
        pooled: weight of the pooled covariance in points.
        least: least number of iterations.
        steps: largest number of iterations. EM stops earlier if the mean log likelihood gains less
            than 3e-4 nats.

    Returns:
        The mixture and the final responsibilities ``(n, c)``.
    """
    mixture, previous = _maximise(points, shares, pooled), -np.inf
    for done in range(steps):
        logs = log_components(mixture, points)
        total = np.logaddexp.reduce(logs, axis=1)
        if done >= least and total.mean() - previous < 3e-4:
            break
        previous = float(total.mean())
        shares = np.exp(logs - total[:, None])
        mixture = _maximise(points, shares, pooled)
    return mixture, shares


def log_components(mixture: Reference, points: Array) -> Array:
    """Return log densities of the weighted components, shape ``(n, c)``.

    With ``L_c`` the Cholesky factor of a covariance and ``u = L_c^-1 (x - m_c)``, these are
    ``log w_c - log det L_c - |u|^2 / 2 - d log(2 pi) / 2``.
    """
    whiteners = np.linalg.inv(mixture.factors)
    logs = [
        math.log(weight)
        + np.log(np.diag(whitener)).sum()
        - 0.5 * (((points - mean) @ whitener.T) ** 2).sum(1)
        for weight, mean, whitener in zip(mixture.weights, mixture.means, whiteners, strict=True)
    ]
    constant = 0.5 * points.shape[1] * math.log(2.0 * math.pi)
    return np.stack(logs, axis=1, dtype=np.float64) - float(constant)


def _maximise(points: Array, shares: Array, pooled: float) -> Reference:
    """Run the M-step of EM: weights, means and Cholesky factors of the covariances.

    With mass n_c, scatter S_c and prior weight p = ``pooled``, the covariances are

        W = (sum_c S_c + I) / (n + 1),  C_c = (S_c + I + p W) / (n_c + 1 + p).
    """
    prior = np.eye(points.shape[1])
    mass = shares.sum(axis=0) + 1e-9
    means = (shares.T @ points) / mass[:, None]
    residuals = [points - mean for mean in means]
    scatters = np.array(
        [(share[:, None] * off).T @ off for share, off in zip(shares.T, residuals, strict=True)]
    )
    within = (scatters.sum(axis=0) + prior) / (len(points) + 1.0)
    factors = np.linalg.cholesky(
        (scatters + prior + pooled * within) / (mass + 1.0 + pooled)[:, None, None]
    )
    return Reference(mass / mass.sum(), means, factors, np.empty(0))


def initial_means(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Choose initial means ``(count, d)`` by k-means++ (Arthur and Vassilvitskii 2007).

    The next mean is a point drawn with probability proportional to its squared distance from the
    nearest mean so far.
    """
    chosen = [points[rng.integers(len(points))]]
    for _ in range(count - 1):
        distance = ((points[:, None] - np.array(chosen)) ** 2).sum(-1).min(axis=1)
        weight = distance + 1e-12
        chosen.append(points[rng.choice(len(points), p=weight / weight.sum())])
    return np.array(chosen)
