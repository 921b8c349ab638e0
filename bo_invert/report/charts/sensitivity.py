"""Sobol indices: shares of the variance of a model that parameters explain.

Estimators of Jansen (1999, "Analysis of variance designs for model output") on draws of posterior
functions, so that intervals hold the uncertainty of the model (Marrel et al. 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.report.charts.grid import varied_columns
from bo_invert.types import Array


class FunctionDraws(Protocol):
    """Functions drawn from the posterior of a model."""

    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of q functions at points ``(n, d)``, shape ``(q, n)``."""


@dataclass(frozen=True, eq=False)
class SobolIndices:
    """Sobol indices of q drawn functions over p parameters.

    Args:
        names: names of the parameters.
        first: first-order indices: variance explained by a parameter alone, shape ``(q, p)``.
        total: total indices: its interactions included, shape ``(q, p)``.
        used: smallest share of samples that satisfies the constraints on inputs.
    """

    names: tuple[str, ...]
    first: Array
    total: Array
    used: float


def sobol_indices(
    model: FunctionDraws, domain: Domain, output: str | None, count: int = 512, seed: int = 0
) -> SobolIndices:
    """Estimate the Sobol indices of a model over the reference measure of a domain.

    With samples A and B, and A_i with parameter i of B, the indices are
    ``S_i = 1 - E (f(B) - f(A_i))^2 / 2 V`` and ``T_i = E (f(A) - f(A_i))^2 / 2 V``.

    Args:
        model: functions drawn from the posterior.
        domain: search domain; samples that violate its constraints are left out.
        output: output of the functions; None for the value of the goal.
        count: number of samples.
        seed: seed of the samples.
    """
    rng = np.random.default_rng(seed)
    dependent = domain.reference is not None or bool(getattr(domain, "constraints", ()))
    if dependent:
        a, b = domain.sample(rng, count), domain.sample(rng, count)
    else:
        # Neighbours of a Sobol sequence are dependent; a permutation separates A from B.
        a, b = domain.sobol(rng, count), rng.permutation(domain.sobol(rng, count))
    columns = varied_columns(domain)
    parts, masks = [a, b], [np.ones(count, dtype=bool)] * 2
    for cols in columns.values():
        mixed = a.copy()
        mixed[:, cols] = b[:, cols]
        valid = domain.project(mixed)
        masks.append(np.abs(valid - mixed).max(axis=1) <= 1e-6)
        parts.append(valid)
    values = model.draws(np.concatenate(parts), output)
    f = values.reshape(len(values), len(parts), count)
    # The variance over both samples has the smaller error.
    variance = f[:, :2].reshape(len(values), -1).var(axis=1)
    variance = np.where(variance > 0.0, variance, 1.0)
    first, total = [], []
    for i in range(2, len(parts)):
        chosen = masks[i] if masks[i].any() else np.ones(count, dtype=bool)
        one = f[:, i, chosen]
        first.append(1.0 - ((f[:, 1, chosen] - one) ** 2).mean(axis=1) / (2.0 * variance))
        total.append(((f[:, 0, chosen] - one) ** 2).mean(axis=1) / (2.0 * variance))
    used = min((float(mask.mean()) for mask in masks[2:]), default=1.0)
    return SobolIndices(
        tuple(columns), np.clip(np.array(first).T, 0.0, 1.0), np.array(total).T, used
    )
