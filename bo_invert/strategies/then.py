"""First one strategy, then another: on the same trials and the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import Trial


@dataclass(frozen=True)
class Then(Strategy):
    """One strategy for a share of the budget, another for the rest; both see all trials.

    The second also takes over when the first has nothing more to propose.

    Args:
        first: a strategy, its name or its spec.
        second: likewise.
        share: of the budget that goes to the first, between 0 and 1. Calls are counted with open trials included.
        calls: for the first, when the budget is open-ended; None leaves it to the first to say when it is done.
    """

    name = "then"
    first: Any = "sobol"
    second: Any = "gp"
    share: float = 0.7
    calls: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise InvalidInputError(
                f"strategy 'then': share lies between 0 and 1, got {self.share}"
            )
        if self.calls is not None and self.calls < 0:
            raise InvalidInputError(
                f"strategy 'then': calls is a number of calls or None, got {self.calls}"
            )
        for child in (self.first, self.second):
            from_spec(child)

    def check(self, statement: ProblemStatement) -> None:
        for child in (self.first, self.second):
            from_spec(child).check(statement)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        memo = dict(request.memo or {})
        history = History(trials)
        limit = self.calls if request.budget is None else round(self.share * request.budget)
        room = None if limit is None else limit - history.committed
        if not memo.get("switched", False) and (room is None or room > 0):
            count = request.count if room is None else min(request.count, room)
            child = replace(request, count=count, budget=limit, memo=memo.get("first"))
            proposal = from_spec(self.first).ask(statement, trials, child)
            memo["first"] = proposal.memo
            if proposal.queries or history.pending:
                return Proposal(proposal.queries, memo)
        memo["switched"] = True
        proposal = from_spec(self.second).ask(
            statement, trials, replace(request, memo=memo.get("second"))
        )
        return Proposal(proposal.queries, {**memo, "second": proposal.memo})
