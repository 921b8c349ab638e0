"""Strategies without a model: uniform draws, draws from the latent prior, a Sobol sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Query, Trial


@dataclass(frozen=True)
class Random(Strategy):
    """Random search: uniform draws between the bounds of the domain, the baseline of every search.

    It ignores the latent prior; ``prior`` draws from it.
    """

    name = "random"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.uniform(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))


@dataclass(frozen=True)
class Prior(Strategy):
    """Independent draws from the latent prior (best of N); uniform draws in a box.

    The best of N draws is the baseline that a search in a latent must exceed.
    """

    name = "prior"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.sample(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))


@dataclass(frozen=True)
class Sobol(Strategy):
    """Scrambled Sobol sequence (Sobol 1967; Owen 1995), one sequence per study.

    Its points fill the domain more evenly than random draws. A latent maps it through the inverse
    normal distribution function.
    """

    name = "sobol"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        # Failed and pending queries count as well, so no point of the sequence is repeated.
        done = sum(trial.origin == self.name for trial in trials)
        points = statement.domain.sobol(request.stream(0), request.count, skip=done)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
