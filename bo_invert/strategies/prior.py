"""Best of N draws from the reference measure: what any latent search has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Query, Trial


@dataclass(frozen=True)
class Prior(Strategy):
    """Draws from the measured reference measure of the domain; uniform in a box."""

    name = "prior"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.sample(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
