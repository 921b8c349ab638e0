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
    """Whether left-out values are nearer to a linear process on the shell than to a smooth one, by squared errors.

    By errors and not by density: the linear model knows its slopes better than its own doubt.

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
        mean = smooth.process.leave_one_out()[0].numpy()
    scale = values.std(0) + 1e-300
    of_smooth = (smooth.offset.numpy() + mean * smooth.weights.diagonal().numpy() - values) / scale
    of_linear = (linear.loo()[0] - values) / scale
    return bool((of_linear**2).sum() < (of_smooth**2).sum())
