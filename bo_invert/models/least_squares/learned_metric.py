"""Gaussian process of many outputs in one learned metric; numpy and scipy only.

Outputs of one simulator often depend on the same combinations of inputs, such as sums. All outputs
share a Matern-5/2 kernel of |(x - x') A| with a full matrix A (Vivarelli & Williams 1998), or a
diagonal one with few data. Each output has its own scale, optimised analytically.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from bo_invert.types import JSON, Array

_NOISE_BOUNDS = (1e-10, 1.0)
"""Bounds of the noise variance in units of the scores' variance. Engineering choice."""
_METRIC_PRECISION = 0.05
"""Prior precision of the entries of A per coordinate, dimensionless: A_ij ~ N(0, 1 / (0.05 d)).
Engineering choice."""
_MAX_FIT_POINTS = 200
"""Largest number of observations in a fit. Engineering choice: a step costs O(n^3)."""
_MAX_FULL_DIM = 16
"""Largest number of coordinates with a full metric. Engineering choice: larger ones are slow to fit
and large to store."""


@dataclass(frozen=True)
class MetricGP:
    """Posterior of K scores with mean 0 and variance 1.

    Args:
        inputs: Unit inputs, shape ``(n, d)``.
        scores: Observed scores, shape ``(n, K)``.
        metric: A, shape ``(d, d)``.
        noise: Noise variance in units of the scores.
        inverse: Inverse covariance C^-1, shape ``(n, n)``.
        constant: Prior means m, shape ``(K,)``.
        alpha: C^-1 (scores - m), shape ``(n, K)``.
    """

    inputs: Array
    scores: Array
    metric: Array
    noise: float
    inverse: Array
    constant: Array
    alpha: Array

    def mean(self, x: Array) -> Array:
        """Return the posterior mean ``(b, K)`` at inputs ``(b, d)``."""
        value, _ = _kernel(x @ self.metric, self.inputs @ self.metric)
        return np.asarray(value @ self.alpha + self.constant)

    def mean_and_jacobian(self, x: Array) -> tuple[Array, Array]:
        """Return the mean ``(b, K)`` and its Jacobian ``(b, K, d)`` at inputs ``(b, d)``."""
        here, there = x @ self.metric, self.inputs @ self.metric
        value, slope = _kernel(here, there)
        # sum_n slope_bn alpha_nK (there_n - here_b), without an array of shape (b, n, d)
        n, d = there.shape
        weighted = (self.alpha[:, :, None] * there[:, None, :]).reshape(n, -1)
        jacobian = (slope @ weighted).reshape(len(x), -1, d) - (slope @ self.alpha)[
            :, :, None
        ] * here[:, None, :]
        return value @ self.alpha + self.constant, jacobian @ self.metric.T

    @property
    def loo_errors(self) -> Array:
        """Leave-one-out errors alpha_i / (C^-1)_ii, shape ``(n, K)``."""
        return np.asarray(self.alpha / np.diag(self.inverse)[:, None])

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw scores ``(b, K)`` at inputs ``(b, d)`` from the joint posterior."""
        here, there = x @ self.metric, self.inputs @ self.metric
        known, _ = _kernel(here, there)
        # An eigendecomposition gives a root also of singular covariances.
        sizes, axes = np.linalg.eigh(_kernel(here, here)[0] - known @ self.inverse @ known.T)
        scale = np.sqrt(np.maximum((self.alpha * (self.scores - self.constant)).mean(0), 0.0))
        noise = rng.standard_normal((len(x), self.scores.shape[1]))
        return np.asarray(self.mean(x) + (axes * np.sqrt(np.maximum(sizes, 0.0))) @ noise * scale)

    def condition_on(self, x: Array, scores: Array) -> MetricGP:
        """Condition on further scores ``(b, K)`` at inputs ``(b, d)``."""
        inputs, scores = np.concatenate([self.inputs, x]), np.concatenate([self.scores, scores])
        return _condition(inputs, scores, self.metric, self.noise)


def fit_metric_gp(
    inputs: Array, scores: Array, importance: Array, memo: JSON = None, *, total: int | None = None
) -> tuple[MetricGP, JSON]:
    """Fit the most probable metric and noise; return the posterior and a memo.

    An evenly spaced subset determines the metric; all data are conditioned on.

    Args:
        inputs: Unit inputs, shape ``(n, d)``, n >= 2.
        scores: Scores with mean 0 and variance 1, shape ``(n, K)``.
        importance: Weight of each score in the likelihood, shape ``(K,)``.
        memo: Memo of an earlier fit; reused until the data grow by 15 %.
        total: Number of evaluations, if the inputs are a subset; n by default.
    """
    n, d = len(inputs) if total is None else total, inputs.shape[1]
    # A full metric has d^2 entries and needs several observations for each.
    full = d <= _MAX_FULL_DIM and scores.size >= 4 * d * d
    size = (d * d if full else d) + 1
    noted = (memo or {}).get("logs", [])
    warm = np.array(noted) if len(noted) == size else None
    if warm is None or not memo["n"] <= n < 1.15 * memo["n"]:
        base = np.eye(d).ravel() if full else np.ones(d)
        # Isotropic starts with lengthscales 0.3 sqrt(d) and 0.8 sqrt(d).
        cold = [
            np.append(base / (share * math.sqrt(d)), math.log(noise))
            for share, noise in ((0.3, 1e-3), (0.8, 1e-2))
        ]
        some = (
            np.linspace(0, len(inputs) - 1, min(len(inputs), _MAX_FIT_POINTS)).round().astype(int)
        )
        limits = [(None, None)] * (size - 1) + [tuple(map(math.log, _NOISE_BOUNDS))]
        # The cold start corrects a poor optimum of a fit to few data.
        found = [
            minimize(
                _negative_log_posterior,
                start,
                args=(inputs[some], scores[some], importance),
                jac=True,
                method="L-BFGS-B",
                bounds=limits,
                options={"maxiter": 60 if warm is None else 30, "ftol": 1e-6},
            )
            for start in (cold if warm is None else [warm, cold[0]])
        ]
        warm = min(found, key=lambda result: float(result.fun)).x
        memo = {"n": n, "logs": [float(v) for v in warm]}
    return _condition(inputs, scores, _matrix(warm[:-1], d), math.exp(warm[-1])), memo


def _matrix(entries: Array, d: int) -> Array:
    """Return A ``(d, d)`` from all its entries or from its diagonal."""
    return np.diag(entries) if len(entries) < d * d or d == 1 else entries.reshape(d, d)


def _kernel(here: Array, there: Array) -> tuple[Array, Array]:
    """Return Matern-5/2 of mapped inputs ``(b, d)``, ``(n, d)``, and -2 dk/d(r^2)."""
    squared = (here**2).sum(1)[:, None] + (there**2).sum(1)[None] - 2.0 * here @ there.T
    r = np.sqrt(5.0 * np.maximum(squared, 0.0))
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, (5.0 / 3.0) * (1.0 + r) * decay


def _condition(inputs: Array, scores: Array, metric: Array, noise: float) -> MetricGP:
    """Condition on all scores, with more noise if the covariance is singular."""
    covariance, _ = _kernel(inputs @ metric, inputs @ metric)
    try:
        _, inverse, constant, alpha = _solve(covariance, noise, scores)
    except np.linalg.LinAlgError:
        return _condition(inputs, scores, metric, 10.0 * noise)
    return MetricGP(inputs, scores, metric, noise, inverse, constant, alpha)


def _solve(covariance: Array, noise: float, scores: Array) -> tuple[Array, Array, Array, Array]:
    """Return Cholesky factor and inverse of C = covariance + noise I, m and C^-1 (scores - m).

    The prior means m are the most probable ones.

    Raises:
        LinAlgError: C is singular.
    """
    eye = np.eye(len(scores))
    factor = cho_factor(covariance + noise * eye, lower=True)
    inverse = cho_solve(factor, eye)
    weights = inverse.sum(1)
    constant = weights @ scores / weights.sum()
    return factor[0], inverse, constant, inverse @ (scores - constant)


def _negative_log_posterior(
    logs: Array, inputs: Array, scores: Array, importance: Array
) -> tuple[float, Array]:
    """Return the negative log posterior of metric and noise, and its gradient.

    sum_j w_j [n log(r_j'C^-1 r_j) / 2 + log|C| / 2] + 0.05 d |A|^2 / 2 with weights w and residuals
    r_j = y_j - m_j; the scale of each output and its constant m_j are optimal.
    """
    n, d = inputs.shape
    metric, noise = _matrix(logs[:-1], d), math.exp(logs[-1])
    mapped = inputs @ metric
    covariance, slope = _kernel(mapped, mapped)
    try:
        factor, inverse, constant, alpha = _solve(covariance, noise, scores)
    except np.linalg.LinAlgError:  # singular: the line search steps back
        return 1e10, np.zeros(len(logs))
    scale = np.maximum(((scores - constant) * alpha).sum(0), 1e-300)
    value = (
        0.5 * n * (importance * np.log(scale)).sum()
        + importance.sum() * np.log(np.diag(factor)).sum()
    )
    # pull = -2 dL/dC. With k(r^2), dL/dA = X'(D - S) X A for S = pull * slope, D = diag(S 1).
    pull = (alpha * (n * importance / scale)) @ alpha.T - importance.sum() * inverse
    spread = pull * slope
    curvature = (inputs * spread.sum(1)[:, None]).T @ inputs - inputs.T @ (spread @ inputs)
    by_metric = curvature @ metric + _METRIC_PRECISION * d * metric
    value += 0.5 * _METRIC_PRECISION * d * (metric**2).sum()
    entries = by_metric.ravel() if len(logs) == d * d + 1 and d > 1 else np.diag(by_metric)
    return float(value), np.append(entries, -0.5 * noise * np.trace(pull))
