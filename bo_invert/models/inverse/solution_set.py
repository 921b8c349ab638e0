"""Sample of all designs that meet a target, and the verified designs near it."""

from __future__ import annotations

import numpy as np

from bo_invert.models.inverse.coverage import Coverage
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.models.inverse.smc import Particles, sample_particles
from bo_invert.types import Array

COVERING = 2.5
"""Distance within which a verified design covers others, in separations of the domain: 0.05 in a
box and 0.5 in a latent. Engineering choice: default of the strategy ``inverse``."""
_FINAL_ROUNDS = 4
"""Additional rounds of moves of the samples. Engineering choice: they separate repeated samples."""
_LEAST_PARTICLES = 1000
"""Least number of particles behind the samples. Engineering choice: few particles lose branches."""


def sample_solutions(
    model: TargetModel, verified: Array, count: int, seed: int
) -> tuple[Particles, Coverage]:
    """Sample the posterior of designs; equal arguments give equal branches.

    Args:
        model: Model of the target.
        verified: Points of designs that the oracle confirmed, shape ``(v, d)``.
        count: Number of samples; branches need at least 1,000, so there may be more.
        seed: Seed of the samples.
    """
    domain, rng = model.domain, np.random.default_rng(seed)
    count = max(count, _LEAST_PARTICLES)
    found = sample_particles(model.log_acceptance, domain, count, rng, final_rounds=_FINAL_ROUNDS)
    return found, Coverage.of(model, found.points, verified, COVERING * domain.separation)
