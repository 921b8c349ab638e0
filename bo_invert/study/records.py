"""Records of a study: answers, observations and designs of the user."""

from __future__ import annotations

from collections.abc import Sequence

from bo_invert.study.amendments import amended_outcome, reported_outcome
from bo_invert.study.input_validation import observations, own_trial, user_query
from bo_invert.study.placement import Outside, conditions
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
        at: object = None,
        extra: object = None,
        outside: Outside = "error",
    ) -> Trial:
        """Record the outcome of a trial. The same call again changes nothing.

        Args:
            trial: Trial from ``ask``, or its number.
            answer: Outputs (a number, a vector ``(m,)``, a dict of names to numbers),
                ``FailedError("why")`` or ``InfeasibleError("why")``. A value that is not finite
                is recorded as a failure.
            cost: Cost of the attempt. Default: the cost of the query.
            attempt: Number of the attempt from 0. Default: the latest.
            at: Conditions under which the trial was run instead of the suggested ones: some or all
                parameters by name, or a design. Point and design of the trial become these;
                ``trial.query`` holds the suggested ones.
            extra: Further measured values by name: texts, numbers, booleans.
            outside: ``"model"`` accepts conditions outside the search domain. Models use them;
                ``best`` and recommendations do not.

        Returns:
            The trial in its new state; the argument does not change.

        Raises:
            TellConflictError: The trial has another outcome, or was cancelled; see ``amend``.
            InvalidInputError: No such trial, a trial of another study, or outputs of the wrong
                shape; nothing is recorded.
        """
        problem = self._require_problem()
        known = own_trial("tell", trial, self.journal)
        outcome = reported_outcome(
            problem, known, answer, cost or known.query.cost, at, extra, outside
        )
        attempt = None if attempt is None else whole_number("tell", "attempt", attempt, least=0)
        return self._with_designs([self.journal.finish(known.number, outcome, attempt)])[0]

    @own_settings()
    def amend(
        self,
        trial: Trial | int,
        answer: object = None,
        *,
        reason: str = "",
        at: object = None,
        extra: object = None,
        outside: Outside = "error",
    ) -> Trial:
        """Correct a recorded outcome. The log and ``trial.amendments`` retain the former one.

        Best trial, ledger and models follow the corrected outcome; costs stay as billed.

        Args:
            trial: Trial with an outcome, or its number. A trial that another worker amended after
                it was read raises a conflict.
            answer: Corrected outputs or error, as in ``tell``. Default: unchanged.
            reason: Reason of the correction.
            at: Corrected conditions, as in ``tell``. Default: unchanged.
            extra: Further measured values, added to the recorded ones.
            outside: As in ``tell``.

        Raises:
            TellConflictError: The trial has no outcome, or was amended meanwhile.
            InvalidInputError: No such trial, or invalid outputs; nothing is recorded.
        """
        problem = self._require_problem()
        known = own_trial("amend", trial, self.journal)
        seen = trial if isinstance(trial, Trial) else known
        where = None if at is None else conditions(problem.space, known, at, outside)
        outcome = amended_outcome(problem, known, answer, where, extra)
        changed = self.journal.amend(known.number, outcome, str(reason), len(seen.amendments))
        return self._with_designs([changed])[0]

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
