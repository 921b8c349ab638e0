"""Base class of the strategies that begin with an initial design and continue with a surrogate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.initial_design import (
    initial_design,
    initial_design_size,
    needs_initial_design,
)
from bo_invert.models.prediction_intervals import predict_intervals
from bo_invert.objectives import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
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
        size = initial_design_size(statement.domain.dim, request.budget, self.initial)
        if needs_initial_design(history, size):
            return Proposal(self._design(statement, history, request), request.memo)
        with one_thread():
            return self._propose(statement, history, request)

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
