"""A scrambled Sobol sequence: even coverage for few calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Query, Trial


@dataclass(frozen=True)
class Sobol(Strategy):
    """The next points of one scrambled Sobol sequence per study (Sobol 1967, Owen scrambling)."""

    name = "sobol"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        done = sum(trial.origin == self.name for trial in trials)
        points = statement.domain.sobol(request.stream(0), request.count, skip=done)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
