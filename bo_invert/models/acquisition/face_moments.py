"""Posterior moments, conditioned on the faces of the box on which all criteria are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bo_invert.models.acquisition.constant_faces import ConstantFace
from bo_invert.models.gp.posterior import Moments, MomentsCache
from bo_invert.types import Array, Indices, Mask

_MAX_LENGTHSCALE = 0.25
"""Largest distance up to which a face determines its neighbourhood, as a share of the range.
Engineering choice: a lengthscale of all observations may hold far from the face only."""
_MIN_VARIANCE = 1e-8
"""Lower bound of a variance in units of the prior variance. Engineering choice."""

HostMoments = Moments[NDArray[Any]]
HostCache = MomentsCache[NDArray[Any]]


class _FaceCache(NamedTuple):
    """Intermediate results for gradients of moments near a face."""

    base: HostCache
    share: Array
    """Correlation r with the projection, shape ``(b, k)``."""
    slope: Array
    """Derivative of r in the coordinate of the face, shape ``(b, k)``."""
    gap: Array
    """Constant minus mean at the projection, shape ``(b, k, F)``."""
    projected: Array
    """Variance at the projection, shape ``(b, k)``."""
    free: Mask
    """False where the variance is at its lower bound, shape ``(b, k)``."""
    coordinate: Indices
    """Coordinate of the nearest face of each input, shape ``(b,)``."""


@dataclass(frozen=True, eq=False)
class FaceMoments(Moments[NDArray[Any]]):
    """Moments of a posterior, conditioned on the constant of the nearest face.

    With the projection p of x on the face, its constant c and the prior correlation
    ``r = exp(-t^2 / (2 l^2))`` at distance t:

        ``mean(x) + r (c - mean(p))`` and ``variance(x) - r^2 variance(p)``,

    the posterior given one more observation at p if the covariance of x and p is r variance(p).

    Args:
        base: Moments without the faces.
        faces: Faces, at least one.
    """

    base: HostMoments
    faces: Sequence[ConstantFace]

    @staticmethod
    def of(base: HostMoments, faces: Sequence[ConstantFace]) -> HostMoments:
        """Return moments with faces; the moments themselves without one."""
        if not faces:
            return base
        own = {field.name: getattr(base, field.name) for field in fields(Moments)}
        return FaceMoments(**own, base=base, faces=faces)

    def __call__(  # type: ignore[override]  # another cache
        self, inputs: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], _FaceCache]:
        b = len(inputs)
        every = np.array([face.coordinate for face in self.faces])
        bounds = np.array([face.bound for face in self.faces])
        nearest = np.abs(inputs[:, every] - bounds).argmin(1)
        rows, coordinate = np.arange(b), every[nearest]
        constant = np.array([face.values for face in self.faces])[nearest]  # (b, k)
        projection = inputs.copy()
        projection[rows, coordinate] = bounds[nearest]
        mean, variance, cache = self.base(np.concatenate([inputs, projection]))
        logs = self.kernel.column_log_lengthscales(self.log_lengthscales)
        length = np.minimum(np.exp(logs[:, coordinate].T), _MAX_LENGTHSCALE)  # (b, k)
        away = (inputs[rows, coordinate] - bounds[nearest])[:, None]
        known = np.isfinite(constant)
        share = np.where(known, np.exp(-0.5 * (away / length) ** 2), 0.0)
        gap = np.where(known, constant, 0.0)[..., None] - mean[b:]
        after = variance[:b] - share**2 * variance[b:]
        free = after > _MIN_VARIANCE
        return (
            mean[:b] + share[..., None] * gap,
            np.where(free, after, _MIN_VARIANCE),
            _FaceCache(
                cache, share, -share * away / length**2, gap, variance[b:], free, coordinate
            ),
        )

    def gradient(  # type: ignore[override]  # another cache
        self, cache: _FaceCache, by_mean: NDArray[Any], by_variance: NDArray[Any]
    ) -> NDArray[Any]:
        share, rows = cache.share, np.arange(len(by_mean))
        by_variance = np.where(cache.free, by_variance, 0.0)
        both = self.base.gradient(
            cache.base,
            np.concatenate([by_mean, -share[..., None] * by_mean]),
            np.concatenate([by_variance, -(share**2) * by_variance]),
        )
        own, projected = both[: len(rows)].copy(), both[len(rows) :].copy()
        projected[rows, cache.coordinate] = 0.0
        pull = (by_mean * cache.gap).sum(-1) - 2.0 * share * by_variance * cache.projected
        own[rows, cache.coordinate] += (cache.slope * pull).sum(1)
        return np.asarray(own + projected)
