"""Importances of parameters: shares of the variance of a model over the search space.

Independent parameters have Sobol indices, by the estimators of Jansen (1999, "Analysis of variance
designs for model output"). Parameters that constraints, or data, make dependent have Shapley
effects (Owen 2014, "Sobol' indices and Shapley value"; Song, Nelson & Staum 2016, "Shapley effects
for global sensitivity analysis"). Both use draws of posterior functions, so that intervals hold the
uncertainty of the model (Marrel et al. 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bo_invert.domains.completions import complete, nearest_draws
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.grid import varied_columns
from bo_invert.types import Array

_EVALUATIONS, _MOST_PERMUTATIONS = 20_000, 4096
"""Number of points of Shapley effects, and largest number of permutations. Engineering choice: a
standard error of about 0.02 for five parameters, in a second."""
_SAMPLES = 512
"""Number of samples of Sobol indices. Engineering choice: a power of two, for Sobol sequences."""
_MOST_PARAMETERS = 100
"""Largest number of parameters. Engineering choice: memory of 500 MB and half a minute."""
_NEIGHBOURS = 12
"""Number of draws among which a conditional draw is chosen. Engineering choice: 0.6 % of them."""
_ROUNDING = 1e-11
"""Relative range of values that are equal. Engineering choice: 50,000 units of rounding, which
outputs that a program sums up, and posterior means, can reach."""
_DRAWS = 2048
"""Number of draws of the search space behind conditional draws. Engineering choice."""


Functions = Callable[[Array], Array]
"""Map from points ``(n, d)`` to values of q drawn functions, shape ``(q, n)``."""


class FunctionDraws(Protocol):
    """Functions drawn from the posterior of a model."""

    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of q functions at points ``(n, d)``, shape ``(q, n)``."""


@dataclass(frozen=True, eq=False)
class Importances:
    """Importances of p parameters for q drawn functions.

    Args:
        names: names of the parameters.
        shares: total Sobol indices of independent parameters, or Shapley effects, which sum to 1,
            shape ``(q, p)``.
        first: first-order Sobol indices, shape ``(q, p)``; None with Shapley effects.
        constant: True if the functions vary by rounding only, so that no share is defined.
        spread: range of the values of the median function.
    """

    names: tuple[str, ...]
    shares: Array
    first: Array | None = None
    constant: bool = False
    spread: float = math.inf

    @property
    def shapley(self) -> bool:
        """True for Shapley effects."""
        return self.first is None


def is_constant(values: Array) -> bool:
    """Return True if values ``(..., n)`` differ by rounding only, in the median function."""
    spread = np.ptp(values, axis=-1)
    return bool(np.median(spread - _ROUNDING * np.abs(values).max(axis=-1)) <= 0.0)


def _spread(values: Array) -> float:
    return float(np.median(np.ptp(values, axis=-1)))


def importances(
    model: FunctionDraws,
    domain: Domain,
    output: str | None,
    count: int | None = None,
    seed: int = 0,
) -> Importances:
    """Return Sobol indices of independent parameters, Shapley effects of dependent ones.

    Args:
        model: functions drawn from the posterior.
        domain: search domain, whose reference measure weighs its points.
        output: output of the functions; None for the value of the goal.
        count: number of samples, or of permutations; None to choose it.
        seed: seed of the samples.

    Raises:
        InvalidInputError: there are more than 100 parameters.
    """
    if len(domain.axes) > _MOST_PARAMETERS:
        raise InvalidInputError(
            f"param_importances: at most {_MOST_PARAMETERS} parameters can be compared, there are "
            f"{len(domain.axes)}. A search in so high a dimension identifies none of them."
        )
    rng = np.random.default_rng(seed)
    dependent = domain.reference is not None or domain.constraints
    estimate = shapley_effects if dependent else sobol_indices
    return estimate(lambda points: model.draws(points, output), domain, rng, count)


def sobol_indices(
    functions: Functions, domain: Domain, rng: np.random.Generator, count: int | None = None
) -> Importances:
    """Estimate the Sobol indices of a model over a domain without constraints.

    With samples A and B, and A_i with parameter i of B, the indices are
    ``S_i = 1 - E (f(B) - f(A_i))^2 / 2 V`` and ``T_i = E (f(A) - f(A_i))^2 / 2 V``. Conditional
    parameters have values in all samples, and the model sees them where they exist.

    Args:
        functions: drawn functions.
        domain: search domain without constraints.
        rng: random generator.
        count: number of samples; None for 512.
    """
    count = count or _SAMPLES
    # Neighbours of a Sobol sequence are dependent; a permutation separates A from B.
    a, b = domain.sobol(rng, count), rng.permutation(domain.sobol(rng, count))
    if domain.conditional:
        # A projected sample has lost the values of inactive parameters.
        a, b = (np.where(domain.inactive(one), rng.random(one.shape), one) for one in (a, b))
    columns = varied_columns(domain)
    parts = [a, b]
    for cols in columns.values():
        mixed = a.copy()
        mixed[:, cols] = b[:, cols]
        parts.append(mixed)
    values = functions(domain.project(np.concatenate(parts)))
    f = values.reshape(len(values), len(parts), count)
    # The variance over both samples has the smaller error.
    variance = f[:, :2].reshape(len(values), -1).var(axis=1)
    variance = np.where(variance > 0.0, variance, 1.0)[:, None]
    first = 1.0 - ((f[:, 1:2] - f[:, 2:]) ** 2).mean(axis=2) / (2.0 * variance)
    total = ((f[:, 0:1] - f[:, 2:]) ** 2).mean(axis=2) / (2.0 * variance)
    return Importances(
        tuple(columns),
        np.clip(total, 0.0, 1.0),
        np.clip(first, 0.0, 1.0),
        is_constant(f[:, 0]),
        _spread(f[:, 0]),
    )


def shapley_effects(
    functions: Functions, domain: Domain, rng: np.random.Generator, count: int | None = None
) -> Importances:
    """Estimate the Shapley effects of a model over the points of a domain.

    The effect of parameter i is the mean, over the subsets u without it, of
    ``c(u + i) - c(u)`` with the cost ``c(u) = E Var(f | x_-u)`` (Song, Nelson & Staum 2016).
    One draw x and one random permutation give one unbiased term for each parameter:
    ``((f(x) - f(x_j))^2 - (f(x) - f(x_j-1))^2) / 2``, where x_j has its first j parameters of
    the permutation drawn again given the others. Conditional draws take these parameters
    from one of the draws of the domain that are nearest in the others (nearest neighbours: Broto,
    Bachoc & Depecker 2020), completed inside the constraints. Effects sum to 1. The permutations
    of each function are resampled, so that intervals hold the error of sampling, too (bootstrap).

    Args:
        functions: drawn functions.
        domain: search domain.
        rng: random generator.
        count: number of permutations, an even number; None to choose it.
    """
    columns = varied_columns(domain)
    p = len(columns)
    count = count or min(_MOST_PERMUTATIONS, 2 * max(64, _EVALUATIONS // (2 * p)))
    pool, x = domain.sample(rng, _DRAWS), domain.sample(rng, count)
    # A permutation and its reverse are antithetic (Mitchell et al. 2022).
    ranks = rng.permuted(np.tile(np.arange(p), (count // 2, 1)), axis=1)
    ranks = np.concatenate([ranks, p - 1 - ranks])
    # Fixed parameters, which have coordinates too during one ask, are never drawn.
    held = np.ones((p, *x.shape), dtype=bool)
    for i, cols in enumerate(columns.values()):
        for j in range(p):
            held[j, :, cols] = (ranks[:, i] > j)[:, None]
    flat = np.tile(x, (p, 1))
    mask = held.reshape(flat.shape)
    near = nearest_draws(flat, mask, pool, _NEIGHBOURS)
    chosen = near[np.arange(len(flat)), rng.integers(near.shape[1], size=len(flat))]
    last = slice(len(flat) - count, None)  # all parameters are drawn
    chosen[last] = rng.integers(len(pool), size=count)
    drawn, done = complete(domain, np.where(mask, flat, pool[chosen]), mask)
    drawn = np.where(done[:, None], drawn, flat)
    values = functions(np.concatenate([x, drawn]))
    f = values.reshape(len(values), p + 1, count)
    cost = 0.5 * (f[:, :1] - f) ** 2  # (q, p + 1, count); none is drawn in the first
    steps = np.diff(cost, axis=1)
    order = np.broadcast_to(ranks.T, (len(f), p, count))
    terms = np.take_along_axis(steps, order, axis=1)
    weight = rng.multinomial(count // 2, np.full(count // 2, 2.0 / count), size=len(f)) / count
    terms = np.einsum("qpn,qn->qp", terms, np.tile(weight, 2))
    total = terms.sum(axis=1, keepdims=True)
    shares = terms / np.where(total > 0.0, total, 1.0)
    return Importances(
        tuple(columns),
        np.clip(shares, 0.0, 1.0),
        constant=is_constant(f[:, 0]),
        spread=_spread(f[:, 0]),
    )
