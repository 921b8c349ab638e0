"""Expected improvement of a known change under an unknown target, and its maximisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.change import Change
from bo_invert.domains.constrained_box import fix_values, read_fixed
from bo_invert.domains.parameters import Choice
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.models.array_module import as_array
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.models.inverse.step_cells import StepCells
from bo_invert.models.optim.optimize_acquisition import optimize_acquisition
from bo_invert.models.optim.score import TorchScore
from bo_invert.types import Array

_SMOOTH = 1e-3
"""Width of the smoothed positive part, as a share of the best hit's change. Engineering choice:
the size of the improvements that end a search."""
_STEEP = -30.0
"""Argument below which log softplus(x) is x, dimensionless. Engineering choice: to 1e-13."""
_SEGMENT = 24
"""Number of points between x0 and a hit. Engineering choice."""
_SHRUNK = 300
"""Number of hits with changes of different shares. Engineering choice."""
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.0, 1.0)
"""Shares of the change of a parameter, of equal probability. Engineering choice: a third stays."""
_SUBSETS, _DRAWS, _REFINED = 80, 48, 4
"""Numbers of subsets of parameters that change, of draws of each, and of refined subsets.
Engineering choice: they bound the time of an ask to about a second."""


@dataclass(frozen=True, eq=False)
class LeastChange:
    """Search for the least change among the points that meet a target.

    With the probability a(x) that the target and the constraints are met, the known change L(x) and
    the change L* of the best hit, the constrained expected improvement (Gardner et al. 2014) is

        ``EI(x) = a(x) max(L* - L(x), 0)``.

    Its logarithm is maximised, with a smooth positive part. Outputs with steps are constant in the
    cells of the observations.

    Args:
        model: Model of the target.
        change: Measure of the change.
        best: Change L* of the best hit; the largest change of the domain without one.
        cells: Cells of the observations.
    """

    model: TargetModel
    change: Change
    best: float
    cells: StepCells

    def score(self, inputs: Tensor) -> Tensor:
        """Return log EI ``(b,)`` at unit inputs ``(b, d)``."""
        domain, change = self.model.domain, self.change
        points = inputs
        if domain.latent:
            lower, upper = (inputs.new_tensor(end) for end in domain.bounds)
            points = lower + inputs * (upper - lower)
        factors, summands, count = map(inputs.new_tensor, change.terms(as_array(points)))
        squared = (factors * (points - inputs.new_tensor(change.origin)).square()).sum(1)
        distance = (squared + summands + 1e-24).sqrt()
        loss = count + distance / (1.0 + distance) if change.few else distance
        gain = (self.best - loss) / (_SMOOTH * self.best)
        log = torch.nn.functional.softplus(gain.clamp(min=_STEEP)).log()
        log = log + (gain - _STEEP).clamp(max=0.0)
        return self._log_acceptance(inputs.to(self.model.surrogate.offset)).to(log) + log

    @torch.no_grad()
    def gain(self, points: Array) -> Array:
        """Return the expected improvement ``(n,)`` of points as a share of L*."""
        ahead = np.maximum(self.best - self.change(points), 0.0) / self.best
        log = self._log_acceptance(self.model.unit(points))
        return np.asarray(np.exp(log.cpu().numpy()) * ahead)

    def _log_acceptance(self, inputs: Tensor) -> Tensor:
        return self.cells.log_mixture(inputs, self.model.log_acceptance_of(inputs))

    def candidates(self, hits: Array, known: Array, rng: np.random.Generator) -> Array:
        """Return points ``(c, d)``, those with the largest expected improvement first.

        Args:
            hits: Verified points and other good ones, best first, shape ``(k, d)``.
            known: Observed and pending points, shape ``(n, d)``.
            rng: Random generator.
        """
        domain, origin = self.model.domain, self.change.origin
        starts = np.concatenate([hits[:4], domain.project(origin[None])])
        found = [self._maximum(domain, starts, known, rng)]
        found += list(self._between(hits[:3]))
        if domain.parameters and domain.parameter_count > 1:
            found += list(self._reverted(hits[:3]))
            found += list(self._shrunk(hits[:3], rng))
            if self.change.few:
                found += list(self._subsets(known, rng))
        points = np.concatenate(found)
        values = as_array(self.score(self.model.unit(points)).detach())
        return points[np.argsort(-values, kind="stable")]

    def _maximum(
        self, domain: Domain, starts: Array, known: Array, rng: np.random.Generator
    ) -> Array:
        score = TorchScore(self.score)
        point, ends = optimize_acquisition(score, domain, starts, known, rng)
        return np.concatenate([point[None], ends])

    def _between(self, hits: Array) -> Iterator[Array]:
        """Yield points between x0 and each hit."""
        shares = np.linspace(0.0, 1.0, _SEGMENT + 1)[:-1, None]
        for hit in hits:
            yield self.model.domain.project(self.change.origin * (1.0 - shares) + hit * shares)

    def _reverted(self, hits: Array) -> Iterator[Array]:
        """Yield hits with one changed parameter, or two, at its value in x0."""
        for hit in hits:
            others = [j for j, other in enumerate(self.change.changed(hit[None])[0]) if other]
            groups = [*combinations(others, 1), *combinations(others, 2)]
            points = np.repeat(hit[None], len(groups), axis=0)
            for point, group in zip(points, groups, strict=True):
                self._restore(point, group)
            if groups:
                yield self.model.domain.project(points)

    def _shrunk(self, hits: Array, rng: np.random.Generator) -> Iterator[Array]:
        """Yield hits whose parameters are moved towards x0 by different shares of their changes.

        A choice moves completely or not at all.
        """
        domain, origin = self.model.domain, self.change.origin
        kinds = list(domain.parameters.values())
        for hit in hits:
            shares = rng.choice(_SHARES, size=(_SHRUNK, len(self.change.columns)))
            points = np.repeat(hit[None], _SHRUNK, axis=0)
            for share, own, kind in zip(
                shares.T[:, :, None], self.change.columns, kinds, strict=True
            ):
                moved = np.round(share) if isinstance(kind, Choice) else share
                points[:, own] = origin[own] + moved * (hit[own] - origin[own])
            yield domain.project(points)

    def _restore(self, point: Array, group: tuple[int, ...]) -> None:
        for j in group:
            own = self.change.columns[j]
            point[own] = self.change.origin[own]

    def _subsets(self, known: Array, rng: np.random.Generator) -> Iterator[Array]:
        """Yield points that change few parameters, refined for the most promising subsets."""
        domain, varied = self.model.domain, []
        for j, own in enumerate(self.change.columns):
            if own.stop > own.start and self.change.weights[j] > 0.0:
                varied.append(j)
        most = int(min(len(varied), max(1.0, np.floor(self.best)), 4))
        subsets = [one for size in range(1, most + 1) for one in combinations(varied, size)]
        if len(subsets) > _SUBSETS:
            singles = len(varied)
            chosen = rng.permutation(len(subsets) - singles)[: _SUBSETS - singles] + singles
            subsets = [*subsets[:singles], *(subsets[i] for i in sorted(chosen))]
        ranked: list[tuple[float, tuple[int, ...], Array]] = []
        for subset in subsets:
            points = domain.sample(rng, _DRAWS)
            fixed = tuple(j for j in range(len(self.change.columns)) if j not in subset)
            for point in points:
                self._restore(point, fixed)
            points = domain.project(points)
            values = as_array(self.score(self.model.unit(points)).detach())
            ranked.append((float(values.max()), subset, points[np.argsort(-values)[:3]]))
        ranked.sort(key=lambda one: -one[0])
        yield from (points for _, _, points in ranked)
        names, values_before = list(domain.parameters), domain.named(self.change.origin)
        for _, subset, points in ranked[:_REFINED]:
            rest = [n for j, n in enumerate(names) if j not in subset and n in values_before]
            with suppress(InvalidInputError):  # no point with these values meets the constraints
                held = read_fixed(domain, {name: values_before[name] for name in rest})
                yield self._maximum(fix_values(domain, held), points, known, rng)
