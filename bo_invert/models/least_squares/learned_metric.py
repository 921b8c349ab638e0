"""One process behind all outputs, in a learned metric of the inputs. numpy only.

Many outputs of one simulator share what moves them, and seldom is that a single coordinate: a resonance follows a
sum of thicknesses, a tip a sum of angles. So all outputs have one Matern-5/2 kernel of ``|(x - x') A|``, with ``A`` a
full matrix (Vivarelli & Williams 1998) where the outputs are many enough to learn it, else a diagonal one; every
output has a scale of its own, which has its best value in closed form. On 201 wavelengths of a layered sphere, half
the squared error of what a diagonal metric leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bo_invert.types import JSON, Array

_NOISE_BOUNDS = (1e-10, 1.0)
_METRIC_PRECISION = 0.05
_MAX_FIT_POINTS = 200
"""So many data at most are given to a fit, whose every step costs the third power of their number."""
_MAX_FULL_DIM = 16
"""More coordinates than this have a diagonal metric: a full one would be slow to learn and large to note."""


@dataclass(frozen=True)
class MetricGP:
    """The posterior of K numbers of mean 0 and variance 1.

    Args:
        inputs: shape ``(n, d)``, on the scale of the unit cube.
        scores: shape ``(n, K)``.
        metric: ``A``, shape ``(d, d)``.
        noise: variance, in units of the scores'.
        inverse: of the covariance, shape ``(n, n)``.
        constant: of the mean, shape ``(K,)``.
        alpha: ``inverse @ (scores - constant)``, shape ``(n, K)``.
    """

    inputs: Array
    scores: Array
    metric: Array
    noise: float
    inverse: Array
    constant: Array
    alpha: Array

    def mean(self, x: Array) -> Array:
        """Shape ``(b, K)``, at inputs ``(b, d)``."""
        value, _ = _kernel(x @ self.metric, self.inputs @ self.metric)
        return np.asarray(value @ self.alpha + self.constant)

    def mean_and_jacobian(self, x: Array) -> tuple[Array, Array]:
        """The mean ``(b, K)`` and its Jacobian ``(b, K, d)`` at inputs ``(b, d)``."""
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
        """Leave-one-out errors, shape ``(n, K)``."""
        return np.asarray(self.alpha / np.diag(self.inverse)[:, None])

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Scores ``(b, K)`` at inputs ``(b, d)``, drawn from what the process believes of them together."""
        here, there = x @ self.metric, self.inputs @ self.metric
        known, _ = _kernel(here, there)
        covariance = _kernel(here, here)[0] - known @ self.inverse @ known.T
        sizes, axes = np.linalg.eigh(covariance)
        own = np.sqrt(np.maximum((self.alpha * (self.scores - self.constant)).mean(0), 0.0))
        noise = rng.standard_normal((len(x), self.scores.shape[1]))
        return np.asarray(self.mean(x) + (axes * np.sqrt(np.maximum(sizes, 0.0))) @ noise * own)

    def condition_on(self, x: Array, scores: Array) -> MetricGP:
        """The same process as if inputs ``(b, d)`` had been told to have these scores ``(b, K)``."""
        inputs, scores = np.concatenate([self.inputs, x]), np.concatenate([self.scores, scores])
        return _condition(inputs, scores, self.metric, self.noise)


def fit_metric_gp(
    inputs: Array, scores: Array, importance: Array, memo: JSON = None, *, total: int | None = None
) -> tuple[MetricGP, JSON]:
    """The most probable process, and a memo that warms the next fit or spares it.

    The metric is learned from at most 200 of the data, evenly spread over their order; all of them are conditioned on.

    Args:
        inputs: shape ``(n, d)``, n >= 2.
        scores: shape ``(n, K)``, each of mean 0 and variance 1.
        importance: of each score in the likelihood, shape ``(K,)``.
        memo: of an earlier fit.
        told: how many data there are to choose these from, by default n; a fit is spared until they grow by 15 %.
    """
    from scipy.optimize import minimize

    n, d = len(inputs) if total is None else total, inputs.shape[1]
    full = d <= _MAX_FULL_DIM and scores.size >= 4 * d * d
    size = (d * d if full else d) + 1
    noted = (memo or {}).get("logs", [])
    warm = np.array(noted) if len(noted) == size else None
    if warm is None or not memo["n"] <= n < 1.15 * memo["n"]:
        base = np.eye(d).ravel() if full else np.ones(d)
        cold = [
            np.append(base / (share * math.sqrt(d)), math.log(noise))
            for share, noise in ((0.3, 1e-3), (0.8, 1e-2))
        ]
        some = (
            np.linspace(0, len(inputs) - 1, min(len(inputs), _MAX_FIT_POINTS)).round().astype(int)
        )
        limits = [(None, None)] * (size - 1) + [
            (math.log(_NOISE_BOUNDS[0]), math.log(_NOISE_BOUNDS[1]))
        ]
        found = [
            minimize(
                _negative_log_posterior, start, args=(inputs[some], scores[some], importance), jac=True,
                method="L-BFGS-B", bounds=limits, options={"maxiter": 60 if warm is None else 30, "ftol": 1e-6},
            )
            for start in (cold if warm is None else [warm, cold[0]])  # few data may have led to a poor optimum
        ]  # fmt: skip
        warm = min(found, key=lambda result: float(result.fun)).x
        memo = {"n": n, "logs": [float(v) for v in warm]}
    return _condition(inputs, scores, _matrix(warm[:-1], d), math.exp(warm[-1])), memo


def _matrix(entries: Array, d: int) -> Array:
    return np.diag(entries) if len(entries) < d * d or d == 1 else entries.reshape(d, d)


def _kernel(here: Array, there: Array) -> tuple[Array, Array]:
    """Matern-5/2 of mapped inputs ``(b, d)``, ``(n, d)``, and minus twice its slope in the squared distance."""
    squared = (here**2).sum(1)[:, None] + (there**2).sum(1)[None] - 2.0 * here @ there.T
    r = np.sqrt(5.0 * np.maximum(squared, 0.0))
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, (5.0 / 3.0) * (1.0 + r) * decay


def _condition(inputs: Array, scores: Array, metric: Array, noise: float) -> MetricGP:
    from scipy.linalg import cho_factor, cho_solve

    covariance, _ = _kernel(inputs @ metric, inputs @ metric)
    factor = None
    while factor is None:
        try:
            factor = cho_factor(covariance + noise * np.eye(len(inputs)), lower=True)
        except np.linalg.LinAlgError:
            noise *= 10.0
    inverse = cho_solve(factor, np.eye(len(inputs)))
    weights = inverse.sum(1)
    constant = weights @ scores / weights.sum()
    return MetricGP(inputs, scores, metric, noise, inverse, constant, inverse @ (scores - constant))


def _negative_log_posterior(
    logs: Array, inputs: Array, scores: Array, importance: Array
) -> tuple[float, Array]:
    """Minus log marginal likelihood, scales and constant at their best, and a normal prior of the metric."""
    from scipy.linalg import cho_factor, cho_solve

    n, d = inputs.shape
    metric, noise = _matrix(logs[:-1], d), math.exp(logs[-1])
    mapped = inputs @ metric
    covariance, slope = _kernel(mapped, mapped)
    try:
        factor = cho_factor(covariance + noise * np.eye(n), lower=True)
    except np.linalg.LinAlgError:  # too singular for this little noise: no place to be
        return 1e10, np.zeros(len(logs))
    inverse = cho_solve(factor, np.eye(n))
    weights = inverse.sum(1)
    residual = scores - weights @ scores / weights.sum()
    alpha = inverse @ residual
    scale = np.maximum((residual * alpha).sum(0), 1e-300)
    value = (
        0.5 * n * (importance * np.log(scale)).sum()
        + importance.sum() * np.log(np.diag(factor[0])).sum()
    )
    pull = (alpha * (n * importance / scale)) @ alpha.T - importance.sum() * inverse
    spread = pull * slope
    curvature = (inputs * spread.sum(1)[:, None]).T @ inputs - inputs.T @ (spread @ inputs)
    by_metric = curvature @ metric + _METRIC_PRECISION * d * metric
    value += 0.5 * _METRIC_PRECISION * d * (metric**2).sum()
    entries = by_metric.ravel() if len(logs) == d * d + 1 and d > 1 else np.diag(by_metric)
    return float(value), np.append(entries, -0.5 * noise * np.trace(pull))
