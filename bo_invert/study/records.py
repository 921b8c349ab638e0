"""Records of a study: answers, observations and designs of the user."""

from __future__ import annotations

from collections.abc import Sequence

from bo_invert.errors import EvaluationError
from bo_invert.study.input_validation import check_outputs, observations, own_trial, user_query
from bo_invert.study.results import StudyResults
from bo_invert.types import Cost, Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number


class StudyRecords(StudyResults):
    """Write access to the log of a study."""

    @own_settings()
    def tell(
        self,
        trial: Trial | int,
        answer: object,
        *,
        cost: Cost | None = None,
        attempt: int | None = None,
    ) -> Trial:
        """Record the outcome of a trial. The same call again changes nothing.

        Args:
            trial: Trial from ``ask``, or its number.
            answer: Outputs (a number, a vector ``(m,)``, a dict of names to numbers),
                ``FailedError("why")`` or ``InfeasibleError("why")``. A value that is not finite
                is recorded as a failure.
            cost: Cost of the attempt. Default: the cost of the query.
            attempt: Number of the attempt from 0. Default: the latest.

        Returns:
            The trial in its new state; the argument does not change.

        Raises:
            TellConflictError: The trial has another outcome, or was cancelled.
            InvalidInputError: No such trial, a trial of another study, or outputs of the wrong
                shape; nothing is recorded.
        """
        problem = self._require_problem()
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, problem.output_names.reported(answer))
        known = own_trial("tell", trial, self.journal)
        outcome = problem.outcome(answer, cost or known.query.cost, known.query.point)
        attempt = None if attempt is None else whole_number("tell", "attempt", attempt, least=0)
        return self._with_designs([self.journal.finish(known.number, outcome, attempt)])[0]

    @own_settings()
    def add(
        self,
        X: object = None,
        Y: object = None,
        *,
        points: object = None,
        costs: Sequence[Cost] | None = None,
    ) -> list[Trial]:
        """Add observations from elsewhere. The strategy uses them; they are free by default.

        Args:
            X: n designs, or one dict of parameters.
            Y: n rows of outputs, as in ``tell``; errors are allowed. A single design takes its
                answer alone.
            points: Points ``(n, d)`` instead of designs.
            costs: Cost of each design, billed like calls of this study. These costs count in
                ``spent`` and use the budget of ``run``.

        Raises:
            InvalidInputError: Shapes do not match, a design is outside the space, or the space
                cannot encode designs.
        """
        queries, outcomes = observations(self._require_problem(), X, Y, points, costs)
        return list(self._with_designs(self.journal.add(queries, outcomes)))

    @own_settings()
    def enqueue(self, x: object = None, *, point: object = None) -> Trial:
        """Add a design (or a point ``(d,)``) to evaluate before the proposals of the strategy.

        Raises:
            InvalidInputError: Several designs, a design outside the space, or a space that cannot
                encode designs.
        """
        trial = self.journal.enqueue(user_query(self._require_problem().space, x, point))
        return self._with_designs([trial])[0]

    def cancel(self, trial: Trial | int, reason: str = "cancelled by the user") -> Trial:
        """Cancel an open trial. A running attempt is billed as lost.

        Raises:
            TellConflictError: The trial has an outcome.
        """
        number = own_trial("cancel", trial, self.journal).number
        return self._with_designs([self.journal.cancel(number, reason)])[0]

    def retry(self, trial: Trial | int) -> Trial:
        """Let a lost trial run again after the deaths of too many processes paused the study."""
        number = own_trial("retry", trial, self.journal).number
        return self._with_designs([self.journal.retry(number)])[0]
