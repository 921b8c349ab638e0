"""Random search: uniform draws between the bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Query, Trial


@dataclass(frozen=True)
class Random(Strategy):
    """Uniform draws between the bounds of the domain, the baseline of every search.

    It ignores the latent prior; ``prior`` draws from it.
    """

    name = "random"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.uniform(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
