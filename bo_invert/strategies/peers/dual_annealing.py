"""Dual annealing, from SciPy: simulated annealing with local searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Losses, next_queries, penalised
from bo_invert.types import Array, Trial


@dataclass(frozen=True)
class DualAnnealing(Strategy):
    """``scipy.optimize.dual_annealing`` (Xiang et al. 1997), replayed from the log.

    It restarts at its end. Settings are the defaults of SciPy: local searches are L-BFGS-B, and
    each of their finite differences is a query. It begins at the best observation of the user or
    another strategy, else at a draw. Queries are sequential, so larger batches are no faster.
    Failed trials receive a large loss, infeasible ones a smaller loss that grows with the
    violation. Integers and choices are rounded before evaluation.
    """

    name = "dual_annealing"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain

        def run(start: int, given: Array | None, losses: Losses) -> None:
            from scipy.optimize import dual_annealing

            lower, upper = domain.bounds
            # A replay needs a search that is deterministic given the losses: seeded by run.
            dual_annealing(
                lambda x: losses([domain.project(x)])[0],
                list(zip(lower, upper, strict=True)),
                x0=None if given is None else given.clip(lower, upper),
                rng=request.stream(start),
            )

        return Proposal(next_queries(self.name, trials, penalised(trials), request.count, run))
