"""Two strategies in sequence, with shared trials and one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bo_invert.history import History
from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec, option
from bo_invert.types import Trial


@dataclass(frozen=True)
class Then(Strategy):
    """Sequence of two strategies: one for a share of the budget, the other for the rest.

    Both receive all trials. The second also starts when the first has finished.

    Args:
        first: a strategy, its name or its spec.
        second: a strategy, its name or its spec.
        share: share of the budget for the first, in [0, 1]; pending trials count as spent.
        calls: calls for the first in a study without a budget; None until it has finished.
    """

    name = "then"
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
            # An empty proposal without pending trials means that the first strategy has finished.
            if proposal.queries or history.pending:
                return Proposal(proposal.queries, memo)
        # The memo records the switch, because a cancelled trial returns calls to the first share.
        memo["switched"] = True
        proposal = from_spec(self.second).ask(
            statement, trials, replace(request, memo=memo.get("second"))
        )
        return Proposal(proposal.queries, {**memo, "second": proposal.memo})
