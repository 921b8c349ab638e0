"""Next points of a search for all designs that meet a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.models.inverse.coverage import Coverage
from bo_invert.models.inverse.fit import TargetFit
from bo_invert.models.inverse.information import information
from bo_invert.models.inverse.smc import sample_particles
from bo_invert.types import Array

_CANDIDATES, _DRAWS = 128, 48
"""Numbers of candidates: particles, and draws of the reference measure. Engineering choice: they
bound the time of an ask."""
_CHECKED = 512
"""Number of draws of the reference measure among which a check is chosen. Engineering choice."""


@dataclass(frozen=True, eq=False)
class TargetSearch:
    """Particles of the posterior of designs, and what is verified.

    Args:
        fit: Model of the target.
        coverage: Particles and the verified designs.
    """

    fit: TargetFit
    coverage: Coverage

    @staticmethod
    def start(
        fit: TargetFit, verified: Array, particles: int, distance: float, rng: np.random.Generator
    ) -> TargetSearch:
        """Sample the particles.

        Args:
            fit: Model of the target.
            verified: Points of verified designs, shape ``(v, d)``.
            particles: Number of particles.
            distance: See ``Coverage``.
            rng: Random generator.
        """
        model = fit.model
        found = sample_particles(model.log_acceptance, model.domain, particles, rng)
        return TargetSearch(fit, Coverage.of(model, found.points, verified, distance))

    def complete(self, undiscovered: float) -> bool:
        """Return True if less than this share is uncovered and no branch is undiscovered."""
        covered = self.coverage.uncovered_share < undiscovered
        return covered and self.coverage.undiscovered_branches == 0

    def hits(self, points: Array) -> Array:
        """Return the probabilities ``(n,)`` that points ``(n, d)`` meet the target."""
        return np.asarray(np.exp(self.fit.model.log_acceptance(points)))

    def most_informative(self, pending: Array, rng: np.random.Generator) -> Array:
        """Return candidates ``(c, d)``, those first that cover or decide the most mass."""
        model, particles = self.fit.model, self.coverage.points
        chosen = particles[rng.permutation(len(particles))[:_CANDIDATES]]
        candidates = np.concatenate([chosen, model.domain.sample(rng, _DRAWS)])
        gain = self.hits(candidates) * self.coverage.gain(candidates, pending)
        gain += information(model.given(pending), particles, candidates)
        return candidates[np.argsort(-gain, kind="stable")]

    def least_certain(self, pending: Array, rng: np.random.Generator) -> Array:
        """Return draws of the reference measure, those first whose outputs are least certain."""
        drawn = self.fit.model.domain.sample(rng, _CHECKED)
        uncertainty = self.fit.model.given(pending).uncertainty(drawn)
        return drawn[np.argsort(-uncertainty, kind="stable")]
