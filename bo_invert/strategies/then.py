"""Two strategies in sequence, with shared trials and one budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, from_spec, option
from bo_invert.strategies.phases import TwoPhaseStrategy, ask_with_memo
from bo_invert.strategies.requirements import require_support


@dataclass(frozen=True)
class Then(TwoPhaseStrategy):
    """Sequence of two strategies: one for a share of the budget, the other for the rest.

    Both receive all trials. The second also starts when the first has finished.

    Args:
        first: a strategy, its name or its spec.
        second: a strategy, its name or its spec.
        share: share of the budget for the first, in [0, 1]; pending trials count as spent.
        calls: calls for the first in a study without a budget; None until it has finished.
    """

    name = "then"
    models_outside = True
    multi_objective = True  # the two strategies decide
    first: Any = "sobol"
    second: Any = "gp"
    share: float = option(0.7, ge=0, le=1)
    calls: int | None = option(None, ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for child in (self.first, self.second):
            from_spec(child)

    def check(self, statement: ProblemStatement) -> None:
        for child in (self.first, self.second):
            require_support(from_spec(child), statement)

    def _limit(self, statement: ProblemStatement, budget: int | None) -> int | None:
        return self.calls if budget is None else round(self.share * budget)

    def _first(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        return ask_with_memo("first", self.first, statement, history, request)

    def _second(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        return ask_with_memo("second", self.second, statement, history, request)
