"""Dual annealing: simulated annealing with local searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Losses, next_queries, penalised
from bo_invert.types import Array, Trial


@dataclass(frozen=True)
class DualAnnealing(Strategy):
    """``scipy.optimize.dual_annealing`` (Xiang et al. 1997), replayed from the log, begun again when it ends.

    Settings are SciPy's: its local searches are L-BFGS-B, and every finite difference of theirs is a query and is
    billed. It begins at the best trial that a user or another method gave, or else at a draw. Every query waits for
    the one before, so a larger batch does not make it faster. Failed trials get a large loss, those that break
    constraints a smaller one that grows with the violation. Whole numbers and choices are rounded on the way to the
    oracle.
    """

    name = "dual_annealing"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain

        def run(start: int, given: Array | None, losses: Losses) -> None:
            from scipy.optimize import dual_annealing

            lower, upper = domain.bounds
            dual_annealing(
                lambda x: losses([domain.project(x)])[0],
                list(zip(lower, upper, strict=True)),
                x0=None if given is None else given.clip(lower, upper),
                rng=request.stream(start),
            )

        return Proposal(next_queries(self.name, trials, penalised(trials), request.count, run))
