"""Principal components of design features as inputs of a surrogate; numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.types import Array

_WIDTH = 6.0
"""Width of the unit cube in standard deviations of the leading component. Engineering choice: it
holds 99.7 % of a normal distribution."""


@dataclass(frozen=True, eq=False)
class FeatureProjection:
    """Projection of features to their leading principal components, in the unit cube.

    All components share one scale, so that distances between designs are preserved.

    Args:
        features: Function from points ``(n, d)`` to features ``(n, p)``.
        mean: Mean of the features, shape ``(p,)``.
        axes: Scaled principal axes, shape ``(p, k)``.
    """

    features: Callable[[Array], Array]
    mean: Array
    axes: Array

    def __call__(self, points: Array) -> Array:
        """Return inputs ``(n, k)`` of points ``(n, d)``; NaN for features that are not finite."""
        if not len(points):
            return np.empty((0, self.axes.shape[1]))
        return 0.5 + (np.asarray(self.features(points), dtype=np.float64) - self.mean) @ self.axes


def principal_components(
    features: Callable[[Array], Array],
    draws: Array,
    max_components: int = 16,
    explained_share: float = 0.99,
) -> FeatureProjection | None:
    """Fit a projection to the features of draws; None if the features do not vary.

    Args:
        features: Function from points ``(n, d)`` to features ``(n, p)``.
        draws: Draws of the reference measure, shape ``(n, d)``.
        max_components: Largest number of components.
        explained_share: Share of the variance that the components explain.
    """
    seen = np.asarray(features(draws), dtype=np.float64)
    seen = seen[np.isfinite(seen).all(axis=1)]
    if len(seen) < 2:
        return None
    mean = seen.mean(axis=0)
    # seen - mean = U S V': rows of V' are the principal axes, S^2 / (n - 1) their variances.
    _, sizes, axes = np.linalg.svd(seen - mean, full_matrices=False)
    variances = sizes**2
    if not variances[0] > 1e-24 * (1.0 + (seen**2).sum()):
        return None
    # The smallest number of components that explains the share; singular values are sorted.
    enough = 1 + int((np.cumsum(variances) < explained_share * variances.sum()).sum())
    scale = _WIDTH * sizes[0] / np.sqrt(len(seen) - 1)
    return FeatureProjection(features, mean, axes[: min(max_components, enough)].T / scale)
