"""Search domain of typed parameters: the unit cube."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bo_invert.domains.conditions import checked_conditions, has_conditions
from bo_invert.domains.named_points import parameter_quantiles, project_named
from bo_invert.domains.parameters import Parameter
from bo_invert.domains.reference_measure import DataPrior, normal_quantiles, plausible_draws
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array


class BoxDomain(Domain):
    """Unit cube of typed parameters; the reference measure is uniform, or that of data."""

    latent = False
    limits = (0.0, 1.0)
    centre, precision = 0.5, 12.0  # mean 1/2 and variance 1/12 of U(0, 1)
    # Hansen 2016, "The CMA evolution strategy: a tutorial": 0.2 to 0.3 of the width.
    step = 0.25
    # Engineering choices, in units of the width of the cube.
    default_rate = 0.02
    separation = 0.02
    # experiments/descent_rates.py, 16 random networks, seeds 8 to 11: within 25 and 100 steps the
    # mean loss at this rate is level with that of L-BFGS.
    adam = (20.0, 0.05, 0.2)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        reference = self.reference
        if reference is None:
            return self.project(rng.random((n, self.dim)))
        return self.project(
            plausible_draws(
                self.plausibility,
                self.floor,
                lambda count: self._valid(reference.sample(rng, count)),
                n,
            )
        )

    def _quantiles(self, u: Array) -> Array:
        if self.continuous and isinstance(self.reference, DataPrior):
            # The normal distribution with the mean and covariance of the data.
            mean, factor = self.reference.moments
            return np.asarray(mean + normal_quantiles(u) @ factor.T)
        if self.parameter_count == self.dim:
            return u
        return parameter_quantiles(self.parameters, u)

    def space_filling(
        self, sequence: np.random.Generator, draws: np.random.Generator, n: int, skip: int = 0
    ) -> Array:
        return self.sobol(sequence, n, skip) if self.reference is None else self.sample(draws, n)

    def project(self, points: Array) -> Array:
        inside = self._valid(points)
        if not self.floor or not isinstance(self.reference, DataPrior):
            return inside
        flat = inside.reshape(-1, self.dim)
        return self.reference.confine(flat, self.floor, self._valid).reshape(inside.shape)

    def rounded(self, points: Array) -> Array:
        return self._valid(points)

    def measured(self, points: Array) -> Array:
        points = np.asarray(points, dtype=np.float64)
        if self.continuous:
            return np.clip(points, 0.0, 1.0)
        flat = points.reshape(-1, self.dim)
        return project_named(self.parameters, flat, measured=True).reshape(points.shape)

    def _valid(self, points: Array) -> Array:
        """Clip points to the cube and round them to the levels of the parameters."""
        points = np.asarray(points, dtype=np.float64)
        if self.continuous:
            return np.clip(points, 0.0, 1.0)
        flat = points.reshape(-1, self.dim)
        return project_named(self.parameters, flat).reshape(points.shape)

    def plausibility(self, points: Array) -> Array:
        points = np.atleast_2d(points)
        if self.reference is not None:
            return self.reference.plausibility(points)
        return np.ones(len(points))

    def centred(self, points: Array) -> Array:
        return 2.0 * points - 1.0


def box_domain(
    parameters: Mapping[str, Parameter], reference: DataPrior | None = None, floor: float = 0.0
) -> Domain:
    """Return the unit cube of named parameters; the other arguments are those of ``Domain``."""
    dim = sum(p.width for p in parameters.values())
    parameters = checked_conditions(parameters) if has_conditions(parameters) else dict(parameters)
    return BoxDomain("box", dim, parameters, math.inf, reference, floor)
