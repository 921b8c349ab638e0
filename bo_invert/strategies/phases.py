"""Base classes of strategies with two phases.

A ``SurrogateStrategy`` begins with an initial design and continues with a surrogate. A
``TwoPhaseStrategy`` begins with another strategy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.initial_design import (
    initial_design,
    initial_design_size,
    needs_initial_design,
)
from bo_invert.models.prediction_intervals import predict_intervals
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.fitted_model import FittedModel


class SurrogateStrategy(Strategy):
    """Strategy with an initial design, after which a surrogate proposes the queries.

    A subclass has the option ``initial``, the size of the initial design or None for a default.
    """

    initial: int | None

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history = History(trials)
        domain = statement.domain
        if needs_initial_design(history, self._design_size(domain, request.budget)):
            return Proposal(self._design(statement, history, request), request.memo)
        with one_thread():
            return self._propose(statement, history, request)

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        """Return the number of points of the initial design."""
        return initial_design_size(
            domain.parameter_count, budget, self.initial, self._needs_large_design(domain)
        )

    def _needs_large_design(self, domain: Domain) -> bool:
        """Return True if the surrogate predicts little after few points."""
        # Data of one value of a choice say little about the others.
        return domain.has_unordered

    def _design(
        self, statement: ProblemStatement, history: History, request: Request
    ) -> tuple[Query, ...]:
        """Return the next queries of the initial design."""
        return initial_design(
            self.name,
            statement.domain,
            history,
            request.count,
            request.stream(0),
            request.rng(),
        )

    @abstractmethod
    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        """Propose queries from the observations, of which there are at least two."""

    def _queries(
        self,
        statement: ProblemStatement,
        history: History,
        model: FittedModel,
        points: Array,
        **meta: JSON,
    ) -> tuple[Query, ...]:
        """Return queries at points ``(k, d)`` with prediction intervals of their outputs."""
        inputs = to_unit(statement.domain, points)
        intervals = predict_intervals(
            model.surrogate, model.outputs, statement, history.trials, inputs
        )
        return tuple(
            Query(x, origin=self.name, meta={**meta, **interval})
            for x, interval in zip(points, intervals, strict=True)
        )


class TwoPhaseStrategy(Strategy):
    """Strategy that hands over to a second phase once a number of calls is spent.

    The second phase also starts when the first strategy has finished.
    """

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        memo = dict(request.memo or {})
        history = History(trials)
        limit = self._limit(statement, request.budget)
        room = None if limit is None else limit - history.committed
        if not memo.get("switched", False) and (room is None or room > 0):
            count = request.count if room is None else min(request.count, room)
            first = replace(request, count=count, budget=limit, memo=memo)
            proposal = self._first(statement, history, first)
            # An empty proposal without pending trials means that the first strategy has finished.
            if proposal.queries or history.pending:
                return proposal
            memo = proposal.memo
        # The memo records the switch, because a cancelled trial returns calls to the first phase.
        return self._second(statement, history, replace(request, memo={**memo, "switched": True}))

    @abstractmethod
    def _limit(self, statement: ProblemStatement, budget: int | None) -> int | None:
        """Return the calls for the first phase; None until the first strategy has finished."""

    @abstractmethod
    def _first(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        """Propose queries of the first phase."""

    @abstractmethod
    def _second(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        """Propose queries of the second phase."""


def ask_with_memo(
    key: str, spec: object, statement: ProblemStatement, history: History, request: Request
) -> Proposal:
    """Ask a strategy whose memo is the entry ``key`` of ``request.memo``, which it updates."""
    child = replace(request, memo=request.memo.get(key))
    proposal = from_spec(spec).ask(statement, history.trials, child)
    return Proposal(proposal.queries, {**request.memo, key: proposal.memo})


def with_hits(queries: Sequence[Query], hits: Array) -> tuple[Query, ...]:
    """Add the probability that each query meets the target."""
    return tuple(
        replace(query, meta={**query.meta, "hit": round(float(hit), 4)})
        for query, hit in zip(queries, hits, strict=True)
    )
