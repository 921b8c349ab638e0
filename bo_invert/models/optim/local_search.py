"""A box around a centre: what is looked at inside it, and where a score, or each of many, is highest there."""

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
from bo_invert.models.optim.optimize_acquisition import to_evaluable
from bo_invert.parameters import Choice, Int
from bo_invert.search_domain import Domain
from bo_invert.types import Array

Scores = Callable[[Tensor], Tensor]
"""Unit inputs ``(b, d)`` to the scores of q functions ``(q, b)``, higher is better."""

_CHUNK = 512
_MAX_LOG_ASPECT = math.log(4.0)
"""No side is longer or shorter than the mean one by more than this factor: early lengthscales are rumours."""


@dataclass(frozen=True, eq=False)
class TrustRegion:
    """A trust region (Eriksson et al., NeurIPS 2019).

    Args:
        domain: where it lies.
        centre: unit input, shape ``(d,)``.
        sides: lengths in units of the unit cube, shape ``(d,)``.
    """

    domain: Domain
    centre: Array
    sides: Array

    @property
    def lower(self) -> Array:
        return np.clip(self.centre - 0.5 * self.sides, 0.0, 1.0)

    @property
    def upper(self) -> Array:
        return np.clip(self.centre + 0.5 * self.sides, 0.0, 1.0)

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Points ``(count, d)`` that can be evaluated: the centre with some coordinates drawn anew in the region.

        About 20 parameters change at once, at most. One without an order is drawn anew all over its values, the
        more rarely the smaller the region.
        """
        domain = self.domain
        widths = [p.width for p in domain.parameters.values()] or [1] * domain.dim
        often = np.where(_ordered(domain), 1.0, min(0.5, float(self.sides.mean()))) * min(
            1.0, 20.0 / len(widths)
        )
        mask = rng.random((count, len(widths))) < often
        mask[np.arange(count), rng.integers(len(widths), size=count)] = True
        inside = self.lower + rng.random((count, domain.dim)) * (self.upper - self.lower)
        anywhere = to_unit(domain, domain.uniform(rng, count))
        drawn = np.where(np.repeat(_ordered(domain), widths), inside, anywhere)
        return from_unit(domain, np.where(np.repeat(mask, widths, axis=1), drawn, self.centre))

    def rank(
        self, scores: Scores, candidates: Array, *, refined: int = 0, steps: int = 30
    ) -> list[Array]:
        """For each of the q functions, points ``(m, d)`` in the order of its scores, highest first.

        Args:
            scores: of the functions; taken at points that can be evaluated.
            looks: points, shape ``(b, d)``.
            follow: so many of the best looks of each function are followed by gradients inside the region.
            steps: of gradients, at most.
        """
        at = to_evaluable(self.domain)
        found = self._scores(scores, candidates)
        order = np.argsort(-found, axis=1, kind="stable")
        if not refined:
            return [candidates[row] for row in order]
        q = len(order)
        which = torch.arange(q).repeat_interleave(refined)
        starts = torch.tensor(to_unit(self.domain, candidates[order[:, :refined].ravel()]))
        # A look may lie outside, where it was pulled inside a radius or is of another kind: there it stays.
        lower = torch.minimum(torch.tensor(self.lower), starts)
        upper = torch.maximum(torch.tensor(self.upper), starts)

        def function(inputs: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                inputs = inputs.detach().requires_grad_()
                values = -scores(at(inputs))[which[number], torch.arange(len(inputs))]
                (gradient,) = torch.autograd.grad(values.sum(), inputs)
            return values.detach(), gradient

        arrived, _ = minimise_batched(function, starts, lower, upper, steps=steps, tolerance=1e-6)
        ends = from_unit(self.domain, arrived.numpy()).reshape(q, refined, -1)
        ends = np.where(
            np.isfinite(ends).all(-1, keepdims=True), ends, candidates[order[:, :refined]]
        )
        ranked = []
        own = self._scores(scores, ends.reshape(q * refined, -1)).reshape(q, q, refined)
        for j in range(q):
            points, values = (
                np.concatenate([ends[j], candidates]),
                np.concatenate([own[j, j], found[j]]),
            )
            ranked.append(points[np.argsort(-values, kind="stable")])
        return ranked

    def _scores(self, scores: Scores, points: Array) -> Array:
        with torch.no_grad():
            inputs = torch.tensor(to_unit(self.domain, points))
            values = torch.cat([scores(chunk) for chunk in torch.split(inputs, _CHUNK)], 1)
        return np.asarray(np.nan_to_num(values.numpy(), nan=-1e300, posinf=1e300, neginf=-1e300))


def trust_region_sides(domain: Domain, length: float, logs: Tensor) -> Array:
    """Sides ``(d,)`` of a region, longer where a model varies slowly.

    A whole number keeps a neighbour on either side, however small the region.

    Args:
        domain: where it lies.
        length: geometric mean of the sides.
        logs: logarithms of the lengthscales of k outputs, shape ``(k, d)``.
    """
    relative = (logs.mean(0) - logs.mean()).clamp(-_MAX_LOG_ASPECT, _MAX_LOG_ASPECT)
    lengths = length * (relative - relative.mean()).exp().cpu().numpy()
    least = [3.0 / len(p.values) if isinstance(p, Choice) else 3.0 / (p.high - p.low + 1) if isinstance(p, Int) else 0.0
             for p in domain.parameters.values() for _ in range(p.width)]  # fmt: skip
    return np.maximum(lengths, np.array(least)) if least else lengths


def _ordered(domain: Domain) -> NDArray[np.bool_]:
    """Which parameters have an order, shape ``(parameters,)``; all coordinates where they have no names."""
    kinds = [p.ordered if isinstance(p, Choice) else True for p in domain.parameters.values()]
    return np.array(kinds or [True] * domain.dim, dtype=bool)
