"""Trust region around a centre: its candidates, and their ranking by many scores at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.models.optim.optimize_acquisition import evaluate_scores, to_valid
from bo_invert.parameters import Choice, Int
from bo_invert.search_domain import Domain
from bo_invert.types import Array

Scores = Callable[[Tensor], Tensor]
"""Function from unit inputs ``(b, d)`` to scores of q functions ``(q, b)``; higher is better."""

_CHUNK = 512
"""Points per evaluation of the scores. Engineering choice: bounds the memory."""
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
        widths = [p.width for p in domain.parameters.values()] or [1] * domain.dim
        ordered = _ordered(domain)
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
        self, scores: Scores, candidates: Array, *, refined: int = 0, steps: int = 30
    ) -> list[Array]:
        """Rank points by each of q scores; return q arrays ``(m, d)``, best first.

        Args:
            scores: Scores, evaluated at valid points.
            candidates: Points, shape ``(b, d)``.
            refined: Number of best candidates per score for gradient ascent inside the region.
            steps: Largest number of gradient steps.
        """
        valid = to_valid(self.domain)
        found = evaluate_scores(scores, self.domain, candidates, _CHUNK)
        order = np.argsort(-found, axis=1, kind="stable")
        if not refined:
            return [candidates[row] for row in order]
        q = len(order)
        which = torch.arange(q).repeat_interleave(refined)
        best = candidates[order[:, :refined]]
        starts = torch.tensor(to_unit(self.domain, best.reshape(q * refined, -1)))
        # Starts outside of the region (projected, or resampled values) bound their coordinates.
        lower = torch.minimum(torch.tensor(self.lower), starts)
        upper = torch.maximum(torch.tensor(self.upper), starts)

        def function(inputs: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                inputs = inputs.detach().requires_grad_()
                values = -scores(valid(inputs))[which[number], torch.arange(len(inputs))]
                (gradient,) = torch.autograd.grad(values.sum(), inputs)
            return values.detach(), gradient

        arrived, _ = minimise_batched(function, starts, lower, upper, steps=steps, tolerance=1e-6)
        ends = from_unit(self.domain, arrived.numpy()).reshape(q, refined, -1)
        ends = np.where(np.isfinite(ends).all(-1, keepdims=True), ends, best)
        own = evaluate_scores(scores, self.domain, ends.reshape(q * refined, -1), _CHUNK)
        # Row j, block j: scores of function j at the ends of its own ascents.
        own = own.reshape(q, q, refined)
        ranked = []
        for j in range(q):
            points = np.concatenate([ends[j], candidates])
            # Ends come first, so that they win ties in the stable sort.
            values = np.concatenate([own[j, j], found[j]])
            ranked.append(points[np.argsort(-values, kind="stable")])
        return ranked


def trust_region_sides(domain: Domain, length: float, logs: Tensor) -> Array:
    """Return sides ``(d,)`` proportional to the lengthscales, with geometric mean ``length``.

    Every side reaches the neighbouring values of an integer.

    Args:
        domain: Search domain.
        length: Length of the region in units of the unit cube.
        logs: Logarithms of the lengthscales of k outputs, shape ``(k, d)``.
    """
    # Outputs are averaged in logarithms; the sides are relative to their geometric mean.
    relative = (logs.mean(0) - logs.mean()).clamp(-_MAX_LOG_ASPECT, _MAX_LOG_ASPECT)
    lengths = length * (relative - relative.mean()).exp().cpu().numpy()
    least = [_least_side(p) for p in domain.parameters.values() for _ in range(p.width)]
    return np.maximum(lengths, np.array(least)) if least else lengths


def _least_side(parameter: object) -> float:
    """Return the side that spans three neighbouring values; 0 for real parameters."""
    if isinstance(parameter, Choice):
        return 3.0 / len(parameter.values)
    return 3.0 / (parameter.high - parameter.low + 1) if isinstance(parameter, Int) else 0.0


def _ordered(domain: Domain) -> NDArray[np.bool_]:
    """Return the mask of ordered parameters; of coordinates if parameters have no names."""
    kinds = [p.ordered if isinstance(p, Choice) else True for p in domain.parameters.values()]
    return np.array(kinds or [True] * domain.dim, dtype=bool)
