"""Trust region around a centre: its candidates, and their ranking by many scores at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.optim.optimize_acquisition import evaluate_scores, gradient_ascent
from bo_invert.models.optim.score import Score, at_valid, differentiable
from bo_invert.types import Array

_CHUNK = 128
"""Points per evaluation of the scores. Engineering choice: their matrices stay in the cache."""
_MAX_LOG_ASPECT = math.log(4.0)
"""Largest logarithm of the ratio of a side to the mean side. Engineering choice: lengthscales of
early fits are uncertain."""


@dataclass(frozen=True, eq=False)
class TrustRegion:
    """Trust region: a box in the unit cube (Eriksson et al., NeurIPS 2019).

    Args:
        domain: Search domain.
        centre: Unit input, shape ``(d,)``.
        sides: Lengths in units of the unit cube, shape ``(d,)``.
    """

    domain: Domain
    centre: Array
    sides: Array

    @property
    def lower(self) -> Array:
        """Lower corner inside the unit cube, shape ``(d,)``."""
        return np.clip(self.centre - 0.5 * self.sides, 0.0, 1.0)

    @property
    def upper(self) -> Array:
        """Upper corner inside the unit cube, shape ``(d,)``."""
        return np.clip(self.centre + 0.5 * self.sides, 0.0, 1.0)

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Draw valid points ``(count, d)``: the centre with some parameters resampled.

        About 20 parameters change at once (Eriksson et al. 2019). Unordered ones are resampled from
        all their values, less often in smaller regions.
        """
        domain = self.domain
        varied = [p for p in domain.parameters.values() if p.width]
        widths = [p.width for p in varied] or [1] * domain.dim
        unordered = [isinstance(p, Choice) and not p.ordered for p in varied]
        ordered = ~np.array(unordered or [False] * domain.dim)
        often = np.where(ordered, 1.0, min(0.5, float(self.sides.mean()))) * min(
            1.0, 20.0 / len(widths)
        )
        # At least one parameter changes; otherwise the candidate would be the centre.
        mask = rng.random((count, len(widths))) < often
        mask[np.arange(count), rng.integers(len(widths), size=count)] = True
        inside = self.lower + rng.random((count, domain.dim)) * (self.upper - self.lower)
        anywhere = to_unit(domain, domain.uniform(rng, count))
        drawn = np.where(np.repeat(ordered, widths), inside, anywhere)
        return from_unit(domain, np.where(np.repeat(mask, widths, axis=1), drawn, self.centre))

    def rank(
        self, scores: Score, candidates: Array, *, refined: int, steps: int = 30
    ) -> list[Array]:
        """Rank points by each of q scores; return q arrays ``(m, d)``, best first.

        Args:
            scores: Scores ``(q, b)`` or, of one function, ``(b,)``, evaluated at valid points.
            candidates: Points, shape ``(b, d)``.
            refined: Number of best candidates per score for gradient ascent inside the region.
            steps: Largest number of gradient steps.
        """
        valid_scores, plain = at_valid(scores, self.domain), differentiable(scores)
        found = np.atleast_2d(evaluate_scores(plain, self.domain, candidates, _CHUNK))
        q = len(found)
        which = np.repeat(np.arange(q), refined)
        best = candidates[np.argsort(-found, axis=1, kind="stable")[:, :refined].ravel()]
        inputs = to_unit(self.domain, best)
        # Starts outside of the region (projected, or resampled values) bound their coordinates.
        low, high = np.minimum(self.lower, inputs), np.maximum(self.upper, inputs)
        # Each start ascends the score of its own function.
        ends = gradient_ascent(valid_scores, self.domain, best, steps, low, high, which)
        own = evaluate_scores(plain, self.domain, ends, _CHUNK).reshape(q, q, refined)
        # Row j, block j: scores of function j at the ends of its own ascents. Ends come first, so
        # that they win ties in the stable sort.
        values = np.concatenate([own[np.arange(q), np.arange(q)], found], 1)
        pools = [np.concatenate([own_ends, candidates]) for own_ends in np.split(ends, q)]
        order = np.argsort(-values, axis=1, kind="stable")
        return [pool[row] for pool, row in zip(pools, order, strict=True)]


def trust_region_sides(domain: Domain, length: float, logs: Array) -> Array:
    """Return sides ``(d,)`` proportional to the lengthscales, with geometric mean ``length``.

    Every side spans three neighbouring values of a discrete parameter.

    Args:
        domain: Search domain.
        length: Length of the region in units of the unit cube.
        logs: Logarithms of the lengthscales of the columns for k outputs, shape ``(k, d)``.
    """
    # Outputs are averaged in logarithms; the sides are relative to their geometric mean.
    unordered = [isinstance(p, Choice) and not p.ordered for p in domain.parameters.values()]
    widths = [p.width for p in domain.parameters.values()]
    columns = np.repeat(unordered, widths).astype(bool)
    if columns.any():
        # Values of a choice are resampled, so their columns need no side of their own.
        logs = np.where(columns, 0.0 if columns.all() else logs[:, ~columns].mean(), logs)
    relative = np.clip(logs.mean(0) - logs.mean(), -_MAX_LOG_ASPECT, _MAX_LOG_ASPECT)
    lengths: Array = length * np.exp(relative - relative.mean())
    least = [3.0 / p.levels for p in domain.parameters.values() for _ in range(p.width)]
    return np.maximum(lengths, np.array(least)) if least else lengths
