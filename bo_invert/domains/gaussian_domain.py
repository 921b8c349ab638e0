"""Search domain of a whitened latent: a ball around the origin."""

from __future__ import annotations

import math
from functools import partial
from types import ModuleType

import numpy as np

from bo_invert.domains.reference_measure import Reference, normal_quantiles, plausible_draws
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array

# Engineering choice: relative distance from the edge of the ball. It exceeds the rounding error
# of single precision, 6e-8, in a norm of some thousand coordinates.
_MARGIN = 1e-5


class GaussianDomain(Domain):
    """Whitened latent: a ball with the latent prior ``reference``, or N(0, I), as measure."""

    latent = True
    limits = (-math.inf, math.inf)
    centre, precision = 0.0, 1.0  # mean and variance of N(0, 1)
    # Engineering choices, in standard deviations of a coordinate.
    step = 1.0
    default_rate = 0.1
    separation = 0.2
    # experiments/descent_rates.py, as for a box.
    adam = (60.0, 0.15, 0.6)

    @property
    def reach(self) -> float:
        # The plausibility of z under N(0, I) is P(chi^2_d > |z|^2), so the floor is a radius too.
        if not self.floor or self.reference is not None:
            return self.radius
        chdtri = _special_functions().chdtri
        return min(self.radius, math.sqrt(chdtri(self.dim, self.floor)) * (1.0 - _MARGIN))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return self.project(
            plausible_draws(self.plausibility, self.floor, partial(self._draw, rng), n)
        )

    def _draw(self, rng: np.random.Generator, n: int) -> Array:
        if self.reference is None:
            return rng.standard_normal((n, self.dim))
        return self.reference.sample(rng, n)

    def _quantiles(self, u: Array) -> Array:
        return normal_quantiles(u)

    def space_filling(
        self, sequence: np.random.Generator, draws: np.random.Generator, n: int, skip: int = 0
    ) -> Array:
        return self.sample(draws, n)

    def project(self, points: Array) -> Array:
        inside = self._inside(np.asarray(points, dtype=np.float64))
        if not self.floor or self.reference is None:
            return inside
        moved = self.reference.confine(inside.reshape(-1, self.dim), self.floor)
        return self._inside(moved).reshape(inside.shape)

    def _inside(self, points: Array) -> Array:
        norm = np.linalg.norm(points, axis=-1, keepdims=True)
        return np.asarray(points * np.minimum(1.0, self.reach / np.maximum(norm, 1e-12)))

    def plausibility(self, points: Array) -> Array:
        points = np.atleast_2d(points)
        if self.reference is not None:
            return self.reference.plausibility(points)
        return np.asarray(_special_functions().chdtrc(self.dim, (points**2).sum(axis=1)))

    def centred(self, points: Array) -> Array:
        return points


def _special_functions() -> ModuleType:
    from scipy import special

    module: ModuleType = special
    return module


def gaussian_domain(
    dim: int, radius: float = math.inf, reference: Reference | None = None, floor: float = 0.0
) -> Domain:
    """Return a whitened latent; the arguments are those of ``Domain``."""
    return GaussianDomain("gaussian", dim, {}, radius, reference, floor)
