"""Unit-cube inputs and kernel names shared by all surrogates; numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array

KERNELS = {"rbf": ("rbf",), "matern": ("matern",), "auto": ("rbf", "matern")}
"""Values of the option ``kernel`` and the kernels they allow; the data select among several."""

MAX_INDEPENDENT_OUTPUTS = 15
"""Largest number of outputs with one Gaussian process each; more are modelled by their principal
components. Engineering choice: bounds the cost of a fit."""

Z_90 = 1.6448536269514722
"""Half the width of a central 90 % interval of a normal distribution in standard deviations."""


def to_unit(domain: Domain, points: Array) -> Array:
    """Scale points ``(n, d)`` of a domain to the unit cube, shape ``(n, d)``."""
    if not domain.latent:
        return np.asarray(points)
    lower, upper = domain.bounds
    return np.asarray((points - lower) / (upper - lower))


def from_unit(domain: Domain, inputs: Array) -> Array:
    """Return the valid points ``(n, d)`` that are nearest to unit inputs ``(n, d)``."""
    # Rounding and projection make the inverse of to_unit land on valid points.
    if not domain.latent:
        return domain.project(np.asarray(inputs))
    lower, upper = domain.bounds
    return domain.project(lower + np.asarray(inputs) * (upper - lower))
