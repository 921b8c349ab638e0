"""What every surrogate here shares: inputs in the unit cube, and names of kernels. numpy only."""

from __future__ import annotations

import numpy as np

from bo_invert.search_domain import Domain
from bo_invert.types import Array

KERNELS = {"rbf": ("rbf",), "matern": ("matern",), "auto": ("rbf", "matern")}
"""What a strategy's option ``kernel`` may be; of several kernels the data choose."""

MAX_INDEPENDENT_OUTPUTS = 15
"""From more outputs than this, principal components are modelled instead of outputs."""


def to_unit(domain: Domain, points: Array) -> Array:
    """Points ``(n, d)`` of a domain on the scale of the unit cube, shape ``(n, d)``."""
    lower, upper = domain.bounds
    return np.asarray((points - lower) / (upper - lower))


def from_unit(domain: Domain, inputs: Array) -> Array:
    """The points ``(n, d)`` that can be evaluated and are nearest to unit inputs ``(n, d)``."""
    lower, upper = domain.bounds
    return domain.project(lower + np.asarray(inputs) * (upper - lower))
