"""Strategies without a model: uniform draws, draws from the latent prior, a Sobol sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from bo_invert.history import History
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, option
from bo_invert.types import Array, Query, Trial


@dataclass(frozen=True)
class Random(Strategy):
    """Random search: uniform draws between the bounds of the domain, the baseline of every search.

    It ignores the latent prior; ``prior`` draws from it.
    """

    name = "random"
    multi_objective = True

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.uniform(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))


@dataclass(frozen=True)
class Prior(Strategy):
    """Independent draws from the latent prior or the data of a box (best of N), or uniform draws.

    The best of N draws is the baseline that a search in a latent, or near data, must exceed. Draws
    near data are rows and a smoothed bootstrap of them.

    Args:
        candidates: draws per point, of which the one farthest from all known points is proposed
            (best-candidate sampling, Mitchell 1991); 1 for independent draws.
    """

    name = "prior"
    multi_objective = True
    candidates: int = option(1, ge=1)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain, known = statement.domain, History(trials).all_points
        count = request.count * self.candidates
        if domain.latent or domain.reference is None:
            points = domain.sample(request.rng(), count)
        else:  # Rows of data are drawn without replacement.
            pool = domain.sample(request.rng(), count + len(known))
            points = DuplicateFilter(domain).select_new(pool, known, count)
        if self.candidates > 1:
            points = self._farthest(points, known)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))

    def _farthest(self, points: Array, known: Array) -> Array:
        """Choose one point of each block of candidates ``(count * candidates, d)``."""
        chosen = np.empty((0, points.shape[1]))
        for block in np.split(points, len(points) // self.candidates):
            distances = cdist(block, np.concatenate([known, chosen])).min(1, initial=np.inf)
            chosen = np.concatenate([chosen, block[[distances.argmax()]]])
        return chosen


@dataclass(frozen=True)
class Sobol(Strategy):
    """Scrambled Sobol sequence (Sobol 1967; Owen 1995), one sequence per study.

    Its points fill the domain more evenly than random draws. A latent maps it through the inverse
    normal distribution function.
    """

    name = "sobol"
    multi_objective = True

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        # Failed and pending queries count as well, so no point of the sequence is repeated.
        done = sum(trial.origin == self.name for trial in trials)
        points = statement.domain.sobol(request.stream(0), request.count, skip=done)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
