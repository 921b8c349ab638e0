"""Draws from the reference measure (best of N), the baseline of every latent search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Query, Trial


@dataclass(frozen=True)
class Prior(Strategy):
    """Independent draws from the latent prior; uniform draws in a box.

    The best of N draws is the baseline that a search in a latent must exceed.
    """

    name = "prior"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        points = statement.domain.sample(request.rng(), request.count)
        return Proposal(tuple(Query(point, origin=self.name) for point in points))
