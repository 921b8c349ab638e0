"""What every surrogate here shares: inputs in the unit cube, and hyperparameters by penalised likelihood. numpy only.

The kernel is a squared exponential with one lengthscale per coordinate and output scale 1, on standardised outputs;
the prior of the lengthscales grows with the dimension (Hvarfner, Hellsten & Nardi, ICML 2024). The likelihood is
written out here with its gradient, because that is many times faster than differentiating it, and always the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.domain import Domain
from bo_invert.types import JSON, Array

_LONGEST = 1e3


def to_unit(domain: Domain, points: Array) -> Array:
    """Points ``(n, d)`` of a domain on the scale of the unit cube, shape ``(n, d)``."""
    lower, upper = domain.bounds
    return np.asarray((points - lower) / (upper - lower))


def from_unit(domain: Domain, inputs: Array) -> Array:
    """The points ``(n, d)`` that can be evaluated and are nearest to unit inputs ``(n, d)``."""
    lower, upper = domain.bounds
    return domain.project(lower + np.asarray(inputs) * (upper - lower))


@dataclass(frozen=True)
class Belief:
    """What is believed before the data.

    Args:
        mean: of the logarithm of the noise, as a variance in units of the output's.
        std: of that logarithm.
        floor: least noise.
        shortest: least lengthscale, in units of the unit cube.
    """

    mean: float
    std: float
    floor: float
    shortest: float = 0.025


EXACT = Belief(-10.0, 3.0, 1e-8)
"""For deterministic oracles: next to no noise, unless the data say that the model cannot follow them."""
NOISY = Belief(-4.0, 1.0, 1e-4)
"""BoTorch's default."""
LABELS = Belief(-4.0, 1.0, 1e-2, shortest=0.25)
"""For labels 0 and 1: likelihood would follow their jumps with short lengthscales, which then generalise to nothing."""


@dataclass(frozen=True)
class Hyperparameters:
    """Of one standardised output: lengthscales in units of the unit cube, and noise variance."""

    lengthscales: tuple[float, ...]
    noise: float

    def to_json(self) -> JSON:
        return [*self.lengthscales, self.noise]

    @staticmethod
    def from_json(data: JSON) -> Hyperparameters:
        return Hyperparameters(tuple(float(v) for v in data[:-1]), float(data[-1]))

    @property
    def logs(self) -> Array:
        """Logarithms, lengthscales first, shape ``(d + 1,)``."""
        return np.log([*self.lengthscales, self.noise])


def kernel(inputs: Array, lengthscales: Array) -> Array:
    """Squared exponential kernel of inputs ``(n, d)`` with themselves, shape ``(n, n)``."""
    scaled = inputs / lengthscales
    norms = (scaled**2).sum(1)
    squared = norms[:, None] + norms[None, :] - 2.0 * scaled @ scaled.T
    np.fill_diagonal(squared, 0.0)
    return np.asarray(np.exp(-0.5 * np.maximum(squared, 0.0)))


def fit_hyperparameters(
    inputs: Array, values: Array, belief: Belief, warm: Hyperparameters | None = None
) -> Hyperparameters:
    """The most probable hyperparameters of values ``(n,)`` (mean 0, variance 1) at unit inputs ``(n, d)``.

    Args:
        inputs: shape ``(n, d)``.
        values: shape ``(n,)``.
        belief: prior of the noise, and limits.
        warm: of an earlier fit; tried beside the fixed starting points.

    Never raises: where every start fails, ``warm`` or the prior's own values come back.
    """
    from scipy.optimize import minimize

    d = inputs.shape[1]
    short = Hyperparameters((0.2 * math.sqrt(d),) * d, max(belief.floor, 1e-6))
    long = Hyperparameters((math.sqrt(d),) * d, max(belief.floor, 1e-3))
    bounds = [(math.log(belief.shortest), math.log(_LONGEST))] * d + [(math.log(belief.floor), 0.0)]
    lower, upper = np.array(bounds).T
    best, lowest = warm or long, math.inf
    for start in (short, long) if warm is None else (warm, short, long):
        result = minimize(
            _negative_log_posterior,
            np.clip(start.logs, lower, upper),
            args=(inputs, values, belief),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 100, "ftol": 1e-7},
        )
        if result.fun < lowest:
            found = np.exp(np.clip(result.x, lower, upper))
            best, lowest = Hyperparameters(tuple(float(v) for v in found[:-1]), float(found[-1])), result.fun
    return best


def _negative_log_posterior(logs: Array, inputs: Array, values: Array, belief: Belief) -> tuple[float, Array]:
    """Minus log marginal likelihood and log prior, with the gradient in the logarithms of the hyperparameters."""
    from scipy.linalg import cho_factor, cho_solve

    n, d = inputs.shape
    lengthscales, variance = np.exp(logs[:-1]), math.exp(logs[-1])
    smooth = kernel(inputs, lengthscales)
    try:
        factor = cho_factor(smooth + variance * np.eye(n), lower=True)
    except np.linalg.LinAlgError:  # too singular for this little noise: no place to be
        return 1e10, np.zeros(d + 1)
    inverse = cho_solve(factor, np.eye(n))
    weights = inverse.sum(1)
    residual = values - (weights @ values) / weights.sum()  # the best constant mean, which costs no search
    alpha = inverse @ residual
    value = 0.5 * residual @ alpha + np.log(np.diag(factor[0])).sum()
    pull = np.outer(alpha, alpha) - inverse
    spread = pull * smooth
    # sum_ij spread_ij (x_ik - x_jk)^2 without an array of shape (n, n, d)
    squares = 2.0 * (spread.sum(1) @ inputs**2 - (inputs * (spread @ inputs)).sum(0))
    gradient = np.append(-0.5 * squares / lengthscales**2, -0.5 * variance * np.trace(pull))
    centre, width = math.sqrt(2.0) + 0.5 * math.log(d), math.sqrt(3.0)
    value += ((logs[:-1] - centre) ** 2 / (2 * width**2) + logs[:-1]).sum()
    gradient[:-1] += (logs[:-1] - centre) / width**2 + 1.0
    value += (logs[-1] - belief.mean) ** 2 / (2 * belief.std**2) + logs[-1]
    gradient[-1] += (logs[-1] - belief.mean) / belief.std**2 + 1.0
    return float(value), gradient


def fresh_enough(fitted: int, n: int) -> bool:
    """Whether hyperparameters fitted to ``fitted`` points still serve n of them: 5 % more call for new ones."""
    return fitted <= n < fitted + max(1, fitted // 20)


def plateau(inputs: Array, values: Array) -> float:
    """How far apart queries must be to learn anything, in units of the unit cube; 0 for most functions.

    A function that answers exactly the same at two points is flat between them, as far as anybody knows: trees,
    rounding, clipping. The smooth model does not see that, and would go on asking within one leaf. The distance is
    twice the median of what lies between such twins, so it grows for as long as answers repeat themselves.

    Args:
        inputs: shape ``(n, d)``.
        values: outputs, shape ``(n, m)``.
    """
    from scipy.spatial import cKDTree

    _, group, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    gaps: list[float] = []
    for number in np.flatnonzero(counts > 1):
        twins = np.unique(inputs[group.ravel() == number], axis=0)
        if len(twins) > 1:
            gaps.extend(cKDTree(twins).query(twins, k=2)[0][:, 1])
    return min(2.0 * float(np.median(gaps)), 0.1 * math.sqrt(inputs.shape[1])) if gaps else 0.0


def seen(points: Array, known: Sequence[Array], apart: float = 0.0) -> Array:
    """Which points ``(n, d)`` are among the known ones, or nearer to one than ``apart``, shape ``(n,)``."""
    if not len(known):
        return np.zeros(len(points), dtype=bool)
    gaps = np.linalg.norm(points[:, None, :] - np.asarray(known)[None], axis=-1)
    return np.asarray((gaps < max(apart, 1e-9)).any(1))
