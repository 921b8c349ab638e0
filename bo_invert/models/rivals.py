"""Models of different kinds compared by what they predict of left-out trials."""

from __future__ import annotations

import numpy as np

from bo_invert.domain import Domain
from bo_invert.models import exact, spherical
from bo_invert.models.base import to_unit
from bo_invert.models.outputs import MANY
from bo_invert.types import Array

_GLANCE = 300


def linear_is_better(domain: Domain, points: Array, values: Array) -> bool:
    """Whether left-out values are more probable under a linear process on the shell than under a smooth one.

    Args:
        domain: a latent.
        points: shape ``(n, d)``; of many, some are looked at.
        values: outputs, shape ``(n, m)``; of more than ``MANY``, so many of their principal components.
    """
    if len(points) > _GLANCE:
        some = np.linspace(0, len(points) - 1, _GLANCE).round().astype(int)
        points, values = points[some], values[some]
    if values.shape[1] > MANY:
        left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
        values = left[:, :MANY] * sizes[:MANY]
    linear = spherical.fit(points, values, directions=True)
    with exact.settled(0):
        smooth = exact.fit(to_unit(domain, points), values)
        mean, variance = (part.numpy() for part in smooth.process.leave_one_out())
    spread = smooth.weights.diagonal().numpy()
    of_smooth = _log_density(values, smooth.offset.numpy() + mean * spread, variance * spread**2)
    return _log_density(values, *linear.loo()) > of_smooth


def _log_density(values: Array, mean: Array, variance: Array) -> float:
    return float(-0.5 * ((values - mean) ** 2 / variance + np.log(variance)).sum())
