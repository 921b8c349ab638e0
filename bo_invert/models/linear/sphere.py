"""Points as unit vectors, and where linear functions of unit vectors are lowest or nearest to a target. numpy only.

Everything here has a closed form, or one root of a falling function: no starts, no steps, no local optima.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.types import Array


@dataclass(frozen=True)
class SphereProjection:
    """How centred points ``(n, d)`` become unit vectors ``(n, D)``, and back.

    Args:
        dim: d.
        lengthscale: None for directions, ``x / |x|`` with D = d: all that matters of a whitened latent, whose mass
            lies on the shell of radius ``sqrt(d)``. A number for the inverse stereographic projection (Doumont et
            al., AISTATS 2026): ``[2z, |z|^2 - 1] / (1 + |z|^2)`` with ``z = x / (lengthscale sqrt(d))`` and D = d + 1.
    """

    dim: int
    lengthscale: float | None = None

    @property
    def size(self) -> int:
        """D, the length of the unit vectors."""
        return self.dim if self.lengthscale is None else self.dim + 1

    @property
    def reach(self) -> float:
        """The radius that is mapped to the equator."""
        return math.sqrt(self.dim) * (1.0 if self.lengthscale is None else self.lengthscale)

    def features(self, points: Array) -> Array:
        """Unit vectors with a last column of ones, shape ``(n, D + 1)``: the features of a linear model."""
        scales, heights = self._parts(points)
        rows = np.empty((len(points), self.size + 1))
        np.multiply(points, scales[:, None], out=rows[:, : self.dim])
        rows[:, self.dim : -1] = heights
        rows[:, -1] = 1.0
        return rows

    def features_dot(self, points: Array, values: Array) -> Array:
        """``lift(points).T @ values`` of values ``(n, k)``, shape ``(D + 1, k)``, without the features."""
        scales, heights = self._parts(points)
        return np.concatenate(
            [points.T @ (scales[:, None] * values), heights.T @ values, values.sum(0)[None]]
        )

    def factors(self, squares: Any) -> Any:
        """What coordinates are multiplied by, of positive squared norms in units of ``reach``: array or tensor."""
        return (squares**-0.5 if self.lengthscale is None else 2.0 / (1.0 + squares)) / self.reach

    def heights(self, squares: Any) -> Any:
        """The last coordinate of a unit vector, of the same; only with a lengthscale."""
        return (squares - 1.0) / (squares + 1.0)

    def _parts(self, points: Array) -> tuple[Array, Array]:
        """Factors ``(n,)`` of the coordinates, and what else is in a unit vector, ``(n, D - d)``."""
        squares = np.maximum(np.einsum("ij,ij->i", points, points) / self.reach**2, 1e-300)
        rest = (
            np.empty((len(points), 0))
            if self.lengthscale is None
            else self.heights(squares)[:, None]
        )
        return np.asarray(self.factors(squares)), rest

    def unproject(self, vectors: Array) -> Array:
        """Points ``(..., d)`` of unit vectors ``(..., D)``; directions come back at radius ``sqrt(d)``."""
        if self.lengthscale is None:
            return vectors * self.reach
        gaps = np.maximum(1.0 - vectors[..., -1:], 1e-12)
        return np.asarray(vectors[..., :-1] * self.reach / gaps)

    def max_height(self, radius: float) -> float:
        """Unit vectors of points inside ``radius`` have a last coordinate of at most this; 1 for directions."""
        if self.lengthscale is None or not math.isfinite(radius):
            return 1.0
        return float(self.heights((radius / self.reach) ** 2))


def minimise_linear(slope: Array, height: float = 1.0) -> Array:
    """The unit vector ``(D,)`` with the least ``slope @ p``, of those whose last coordinate is at most ``height``."""
    norm = float(np.linalg.norm(slope))
    p = -slope / norm if norm > 0.0 else np.eye(len(slope))[0]
    if p[-1] <= height:
        return p
    return _on_rim(minimise_linear(slope[:-1]), height)


def minimise_distance(slopes: Array, wanted: Array, near: Array, height: float = 1.0) -> Array:
    """The unit vector ``(D,)`` with the least ``|slopes @ p - wanted|^2``.

    A trust-region subproblem with equality: with the eigenvalues of ``slopes' slopes`` and the multiplier mu, the
    length of the solution falls in mu, and one root gives the global minimum. In the hard case (every problem with
    fewer rows than D whose target is within reach) there are many solutions; the one towards ``near`` is taken.

    Args:
        slopes: shape ``(k, D)``.
        wanted: shape ``(k,)``.
        near: shape ``(D,)``, of any length.
        height: most that the last coordinate may be. Where the minimum on the sphere is higher, that on the rim of
            the cap is taken.
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
    size = slopes.shape[1]
    left, roots, right = np.linalg.svd(slopes, full_matrices=False)
    scale = float(roots.max(initial=0.0))
    if scale == 0.0:
        return _unit(near)
    roots = roots / scale
    eigenvalues, pulls = roots**2, roots * (left.T @ (wanted / scale))
    # Directions that no row sees share the eigenvalue 0, and nothing pulls along them.
    least = float(eigenvalues.min()) if len(roots) == size else 0.0
    lowest_ones = eigenvalues - least <= 1e-12
    free = ~lowest_ones
    settled = np.zeros(len(roots))
    settled[free] = pulls[free] / (eigenvalues[free] - least)
    room = 1.0 - float(settled @ settled)
    if room > 0.0 and float(np.abs(pulls[lowest_ones]).max(initial=0.0)) <= 1e-14 * float(
        np.linalg.norm(pulls)
    ):
        rest = _unit(near - right[free].T @ (right[free] @ near), right[free])
        return _unit(right[free].T @ settled[free] + math.sqrt(room) * rest)
    coefficients = pulls / (eigenvalues + _multiplier(eigenvalues, pulls, least))
    return _unit(right.T @ coefficients)


def _multiplier(eigenvalues: Array, pulls: Array, least: float) -> float:
    """The mu > -least at which ``pulls / (eigenvalues + mu)`` has length 1."""
    from scipy.optimize import brentq

    gaps = eigenvalues - least

    def excess(log: float) -> float:
        return 1.0 - 1.0 / max(float(np.linalg.norm(pulls / (gaps + math.exp(log)))), 1e-300)

    # |pulls| / (gap + t) brackets the length from both sides, with the largest and the smallest gap.
    high = math.log(max(float(np.linalg.norm(pulls)), 1e-300)) + 1e-9
    low = high - 1.0
    while excess(low) < 0.0 and low > high - 700.0:
        low = high - 2.0 * (high - low)
    shift = math.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14))
    return shift - least


def _unit(vector: Array, avoid: Array | None = None) -> Array:
    """The vector at length 1; where it vanishes, some unit vector orthogonal to the rows of ``avoid``."""
    norm = float(np.linalg.norm(vector))
    if norm > 1e-12:
        return np.asarray(vector / norm)
    basis = np.eye(len(vector))
    if avoid is not None and len(avoid):
        basis = basis - (basis @ avoid.T) @ avoid
    norms = np.linalg.norm(basis, axis=1)
    return np.asarray(basis[norms.argmax()] / norms.max())
