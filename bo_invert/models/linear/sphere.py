"""Projection of points to the unit sphere, and global optima of linear functions there.

All optima are analytic or a root of a monotone function; no iterative search is needed. numpy and
scipy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.optimize import brentq

from bo_invert.types import Array

if TYPE_CHECKING:
    from torch import Tensor

Squares = TypeVar("Squares", float, Array, "Tensor")
"""Squared norms as a number, an array or a tensor."""


@dataclass(frozen=True)
class SphereProjection:
    """Map from centred points ``(n, d)`` to unit vectors ``(n, D)``, and its inverse.

    Args:
        dim: d.
        lengthscale: None for directions x / |x| with D = d: a whitened latent has its mass near the
            sphere of radius sqrt(d). A number for the inverse stereographic projection (Doumont et
            al., AISTATS 2026): [2z, |z|^2 - 1] / (1 + |z|^2) with z = x / (lengthscale sqrt(d)) and
            D = d + 1.
    """

    dim: int
    lengthscale: float | None = None

    @property
    def size(self) -> int:
        """Length D of the unit vectors."""
        return self.dim if self.lengthscale is None else self.dim + 1

    @property
    def reach(self) -> float:
        """Radius that maps to the equator."""
        return math.sqrt(self.dim) * (1.0 if self.lengthscale is None else self.lengthscale)

    def features(self, points: Array) -> Array:
        """Return unit vectors and a column of ones, shape ``(n, D + 1)``."""
        scales, heights = self._parts(points)
        return np.column_stack([points * scales[:, None], heights, np.ones(len(points))])

    def features_dot(self, points: Array, values: Array) -> Array:
        """Return ``features(points).T @ values``, shape ``(D + 1, k)``, without the features."""
        scales, heights = self._parts(points)
        return np.concatenate(
            [points.T @ (scales[:, None] * values), heights.T @ values, values.sum(0)[None]]
        )

    def factors(self, squares: Squares) -> Squares:
        """Return the factors of the coordinates for squared norms in units of ``reach``."""
        return (squares**-0.5 if self.lengthscale is None else 2.0 / (1.0 + squares)) / self.reach

    def heights(self, squares: Squares) -> Squares:
        """Return the last coordinates for squared norms in units of ``reach``."""
        return (squares - 1.0) / (squares + 1.0)

    def _parts(self, points: Array) -> tuple[Array, Array]:
        """Return factors ``(n,)`` of the coordinates, and last coordinates ``(n, D - d)``."""
        squares = np.maximum(np.einsum("ij,ij->i", points, points) / self.reach**2, 1e-300)
        rest = (
            np.empty((len(points), 0))
            if self.lengthscale is None
            else self.heights(squares)[:, None]
        )
        return np.asarray(self.factors(squares)), rest

    def unproject(self, vectors: Array) -> Array:
        """Return points ``(..., d)`` of unit vectors ``(..., D)``.

        Directions get the radius sqrt(d). Otherwise z = p_1..d / (1 - p_D).
        """
        if self.lengthscale is None:
            return vectors * self.reach
        gaps = np.maximum(1.0 - vectors[..., -1:], 1e-12)
        return np.asarray(vectors[..., :-1] * self.reach / gaps)

    def max_height(self, radius: float) -> float:
        """Return the largest last coordinate of points inside a radius; 1 for directions."""
        unbounded = self.lengthscale is None or math.isinf(radius)
        return 1.0 if unbounded else self.heights((radius / self.reach) ** 2)


def minimise_linear(slope: Array, height: float = 1.0) -> Array:
    """Minimise slope'p over unit vectors p ``(D,)`` with last coordinate at most ``height``."""
    norm = float(np.linalg.norm(slope))
    p = -slope / norm if norm > 0.0 else np.eye(len(slope))[0]
    # If the constraint is active, the problem is linear again on the rim of the cap.
    return p if p[-1] <= height else _on_rim(minimise_linear(slope[:-1]), height)


def minimise_distance(slopes: Array, wanted: Array, near: Array, height: float = 1.0) -> Array:
    """Minimise |slopes p - wanted|^2 over unit vectors p ``(D,)``.

    This is a trust-region subproblem with equality (More & Sorensen 1983). The length of
    (slopes'slopes + mu I)^-1 slopes'wanted decreases in mu, so one root gives the global minimum.
    With fewer rows than D and a target within reach, the hard case, the solution nearest to
    ``near`` is returned.

    Args:
        slopes: Shape ``(k, D)``.
        wanted: Shape ``(k,)``.
        near: Preferred direction of any length, shape ``(D,)``.
        height: Largest last coordinate. If the minimum on the sphere exceeds it, the minimum on the
            rim of the cap is returned.
    """
    p = _nearest(slopes, wanted, near)
    if p[-1] <= height:
        return p
    rim = math.sqrt(max(1.0 - height**2, 0.0))
    return _on_rim(
        _nearest(rim * slopes[:, :-1], wanted - height * slopes[:, -1], near[:-1]), height
    )


def _on_rim(direction: Array, height: float) -> Array:
    return np.append(math.sqrt(max(1.0 - height**2, 0.0)) * direction, height)


def _nearest(slopes: Array, wanted: Array, near: Array) -> Array:
    """Minimise |slopes p - wanted|^2 over the whole sphere."""
    left, roots, right = np.linalg.svd(slopes, full_matrices=False)
    scale = float(roots.max(initial=0.0))
    if scale == 0.0:
        return _unit(near)
    roots = roots / scale
    # In the basis of right singular vectors the solution is pulls / (eigenvalues + mu).
    eigenvalues, pulls = roots**2, roots * (left.T @ (wanted / scale))
    # Directions outside of the row space share the eigenvalue 0 and have no pull.
    least = float(eigenvalues.min()) if len(roots) == slopes.shape[1] else 0.0
    free = eigenvalues - least > 1e-12
    settled = np.divide(pulls, eigenvalues - least, out=np.zeros(len(roots)), where=free)
    room = 1.0 - float(settled @ settled)
    # Hard case: mu = -least, and the remaining length is free in the eigenspace of ``least``.
    if room > 0.0 and float(np.abs(pulls[~free]).max(initial=0.0)) <= 1e-14 * float(
        np.linalg.norm(pulls)
    ):
        rest = _unit(near - right[free].T @ (right[free] @ near), right[free])
        return _unit(right[free].T @ settled[free] + math.sqrt(room) * rest)
    return _unit(right.T @ (pulls / (eigenvalues + _multiplier(eigenvalues, pulls, least))))


def _multiplier(eigenvalues: Array, pulls: Array, least: float) -> float:
    """Return the mu > -least at which pulls / (eigenvalues + mu) has length 1."""
    gaps = eigenvalues - least

    def excess(log: float) -> float:
        # The reciprocal of the length is nearly linear in mu.
        return 1.0 - 1.0 / max(float(np.linalg.norm(pulls / (gaps + math.exp(log)))), 1e-300)

    # t = mu + least <= |pulls|, because every gap is at least 0.
    high = math.log(max(float(np.linalg.norm(pulls)), 1e-300)) + 1e-9
    low = high - 1.0
    while excess(low) < 0.0 and low > high - 700.0:
        low = high - 2.0 * (high - low)
    return math.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14)) - least


def _unit(vector: Array, avoid: Array | None = None) -> Array:
    """Normalise a vector; if it is zero, return a unit vector orthogonal to ``avoid``'s rows."""
    norm = float(np.linalg.norm(vector))
    if norm > 1e-12:
        return np.asarray(vector / norm)
    basis = np.eye(len(vector))
    if avoid is not None and len(avoid):
        basis = basis - (basis @ avoid.T) @ avoid
    norms = np.linalg.norm(basis, axis=1)
    return np.asarray(basis[norms.argmax()] / norms.max())
