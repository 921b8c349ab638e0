"""Models of different kinds compared by what they predict of left-out trials."""

from __future__ import annotations

import numpy as np
import torch

from bo_invert.domain import Domain
from bo_invert.models import exact, spherical
from bo_invert.models.base import to_unit
from bo_invert.models.outputs import MANY
from bo_invert.types import Array

_GLANCE = 300
_FOLDS = 3


def linear_is_better(domain: Domain, points: Array, values: Array) -> bool:
    """Whether a linear process on the shell predicts left-out values better than a smooth one does.

    Both are fitted afresh without them: with a lengthscale per coordinate the smooth one can make the values it was
    fitted to predict each other.

    Args:
        domain: a latent.
        points: shape ``(n, d)``; of many, some are looked at.
        values: outputs, shape ``(n, m)``; of more than ``MANY``, so many of their principal components.
    """
    if len(points) > _GLANCE:
        some = np.linspace(0, len(points) - 1, _GLANCE).round().astype(int)
        points, values = points[some], values[some]
    values = values - values.mean(0)
    if values.shape[1] > MANY:
        left, sizes, _ = np.linalg.svd(values, full_matrices=False)
        values = left[:, :MANY] * sizes[:MANY]
    values = values / np.maximum(values.std(0), 1e-300)
    inputs = to_unit(domain, points)
    of_linear = of_smooth = 0.0
    for fold in range(_FOLDS):
        out = np.arange(len(points)) % _FOLDS == fold
        linear = spherical.fit(points[~out], values[~out], directions=True)
        with exact.settled(0):
            smooth = exact.fit(inputs[~out], values[~out]).mean(torch.tensor(inputs[out])).numpy()
        of_linear += float(((linear.posterior(points[out])[0] - values[out]) ** 2).sum())
        of_smooth += float(((smooth - values[out]) ** 2).sum())
    return of_linear < of_smooth
