"""Designs as a model's inputs: few coordinates in which designs that look alike are near each other. numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array

_WIDE = 6.0
"""The unit cube holds so many standard deviations of the leading coordinate."""


@dataclass(frozen=True, eq=False)
class FeatureProjection:
    """The leading principal components of features, on the scale of the unit cube.

    All components share one scale, so distances are those of the designs as far as the components tell.

    Args:
        features: points ``(n, d)`` to features ``(n, p)``.
        mean: shape ``(p,)``.
        axes: shape ``(p, k)``; they carry the scale.
    """

    features: Callable[[Array], Array]
    mean: Array
    axes: Array

    def __call__(self, points: Array) -> Array:
        """Inputs ``(n, k)`` of points ``(n, d)``; NaN where a design has features that are not finite."""
        if not len(points):
            return np.empty((0, self.axes.shape[1]))
        return 0.5 + (np.asarray(self.features(points), dtype=np.float64) - self.mean) @ self.axes


def principal_components(
    features: Callable[[Array], Array],
    draws: Array,
    max_components: int = 16,
    explained_share: float = 0.99,
) -> FeatureProjection | None:
    """Principal components of the features of draws ``(n, d)``; None where they do not vary.

    Args:
        features: points ``(n, d)`` to features ``(n, p)``.
        draws: of the reference measure.
        most: components.
        share: of the variance that is enough.
    """
    seen = np.asarray(features(draws), dtype=np.float64)
    seen = seen[np.isfinite(seen).all(axis=1)]
    if len(seen) < 2:
        return None
    mean = seen.mean(axis=0)
    _, sizes, axes = np.linalg.svd(seen - mean, full_matrices=False)
    variances = sizes**2
    if not variances[0] > 1e-24 * (1.0 + (seen**2).sum()):
        return None
    many = min(
        max_components, 1 + int((np.cumsum(variances) < explained_share * variances.sum()).sum())
    )
    scale = _WIDE * sizes[0] / np.sqrt(len(seen) - 1)
    return FeatureProjection(features, mean, axes[:many].T / scale)
