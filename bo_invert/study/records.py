"""Records of a study: answers, observations and designs of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bo_invert.errors import EvaluationError, InvalidInputError, require
from bo_invert.study.amendments import amended_outcome, completed
from bo_invert.study.cell_numbers import NumberReader
from bo_invert.study.csv_table import has_other_columns, read_table, require_rows
from bo_invert.study.input_validation import check_outputs, observations, own_trial, user_query
from bo_invert.study.pending import TRIAL
from bo_invert.study.placement import Outside, conditions, outside_observations
from bo_invert.study.retargeting import StudyRetargeting
from bo_invert.study.table_records import (
    AddedTrials,
    Blank,
    Errors,
    Repeats,
    TableOptions,
    add_table,
    failures,
    renamed,
    tell_table,
)
from bo_invert.types import Cost, Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number
from bo_invert.user_tables import read_once


class StudyRecords(StudyRetargeting):
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
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, problem.output_names.reported(answer))
        known = own_trial("tell", trial, self.journal)
        where = None if at is None else conditions(problem.space, known, at, outside)
        point = known.query.point if where is None else where.point
        outcome = problem.outcome(answer, cost or known.query.cost, point)
        outcome = completed(problem, outcome, where, extra)
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
            at: Corrected conditions: some or all parameters by name, the others stay; or a design.
            extra: Further measured values, added to the recorded ones.
            outside: As in ``tell``.

        Raises:
            TellConflictError: The trial has no outcome, or was amended meanwhile.
            InvalidInputError: No such trial, or invalid outputs; nothing is recorded.
        """
        problem = self._require_problem()
        known = own_trial("amend", trial, self.journal)
        seen, space = trial if isinstance(trial, Trial) else known, problem.space
        where = None if at is None else conditions(space, known, at, outside, recorded=True)
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
        columns: Mapping[str, str] | None = None,
        outside: Outside = "error",
        blank: Blank = "pending",
        repeats: Repeats = "skip",
        errors: Errors = "warn",
        decimal: str | None = None,
        thousands: str | None = None,
    ) -> AddedTrials:
        """Add observations from elsewhere. The strategy uses them; they are free by default.

        ``add(table)`` takes inputs and outputs in one table: a data frame, the path of a CSV file
        (delimiter and decimal comma are detected), or dicts. Columns match by name. Further columns
        are recorded as ``Trial.extra``. An output cell may be ``failed: reason`` or
        ``infeasible: reason``. A row at the design of an open trial without a named worker is the
        result of that trial.

        Args:
            X: The table; or n designs, or one dict of parameters, with ``Y``.
            Y: n rows of outputs, as in ``tell``; errors are allowed. A single design takes its
                answer alone.
            points: Points ``(n, d)`` instead of designs.
            costs: Cost of each design, billed like calls of this study. These costs count in
                ``spent`` and use the budget of ``run``.
            columns: Name of the parameter or output of each column that has another name.
            outside: Designs outside the search domain: ``"error"`` reports them, ``"model"``
                records them for the models only (``best`` is never among them), ``"skip"`` leaves
                those of a table out.
            blank: Rows of a table without outputs: ``"pending"`` queues their designs, ``"failed"``
                records failures, ``"skip"`` leaves them out. A row with some outputs is invalid,
                or a failure with ``"failed"``. Rows of open trials stay open, except with
                ``"failed-open"``.
            repeats: Rows of a table that are recorded already, with equal design, outputs and
                further values: ``"skip"`` leaves them out, ``"add"`` adds them again. A table with
                two equal rows stands for two measurements.
            errors: Invalid rows of a table: ``"warn"`` lists them in a warning, ``"raise"`` raises
                an error before anything is recorded, ``"ignore"`` only lists them in the result.
            decimal: Decimal sign of numbers in text, ``"."`` or ``","``. Default: the numbers of
                the table decide; a row with ``1,234``, where they do not, is invalid.
            thousands: Separator of groups in text: ``","``, ``"."``, ``" "``, ``"'"``, or ``""``
                for none. Default: the numbers decide.

        Returns:
            The new trials; its ``rejected``, ``repeated``, ``skipped``, ``failed`` and ``waiting``
            list rows, and ``summary`` describes all.

        Raises:
            InvalidInputError: Shapes do not match, a column is missing, a design (not a row of a
                table) is outside the space, or the space cannot encode designs.
        """
        problem = self._require_problem()
        X = read_once(X)
        axes = problem.space.domain.parameters or problem.space.domain.axes
        if Y is None and points is None and has_other_columns(X, axes):
            names = [*axes, *problem.output_names.oracle]
            table = read_table(
                X, names, renamed(columns), NumberReader(decimal, thousands), problem.units
            )
            options = TableOptions(outside, blank, repeats, errors)
            return self._recorded(add_table(problem, self.journal, table, options, costs))
        if Y is None and points is None and X is not None:
            require_rows(X)
            raise InvalidInputError(
                f"add: the outputs {list(problem.output_names.oracle)} are missing. Add their "
                "columns to the table, pass Y, or queue designs with enqueue"
            )
        given = (columns, blank, repeats, errors, decimal, thousands)
        defaults = given == (None, "pending", "skip", "warn", None, None)
        require(
            defaults and outside != "skip",
            "add: columns, blank, repeats, errors, decimal, thousands and outside='skip' need one "
            "table with inputs and outputs. Leave out Y",
        )
        found = outside_observations if outside == "model" else observations
        queries, outcomes = found(problem, X, Y, points, costs)
        added = AddedTrials(self.journal.add(queries, outcomes))
        added.failed = tuple(failures([f"item {i}" for i in range(len(outcomes))], outcomes))
        return self._recorded(added)

    @own_settings()
    def tell_table(
        self,
        table: object,
        *,
        columns: Mapping[str, str] | None = None,
        outside: Literal["error", "model"] = "error",
        errors: Errors = "warn",
        decimal: str | None = None,
        thousands: str | None = None,
    ) -> AddedTrials:
        """Record results of trials from a table with a column ``trial`` and the outputs.

        ``bo-invert ask --out`` writes such a table. Rows without outputs are skipped, so a table
        can be recorded again when more rows are complete. Parameters that differ from the suggested
        ones are the conditions of the run, as ``tell(at=)``. Further columns are recorded as
        ``Trial.extra``.

        Args:
            table: Data frame, path of a CSV file, or list of dicts.
            columns: Name of the parameter or output of each column that has another name.
            outside: ``"model"`` accepts conditions outside the search domain.
            errors: As in ``add``.
            decimal: As in ``add``.
            thousands: As in ``add``.

        Returns:
            The completed trials, with the rows that are not recorded; see ``add``.
        """
        problem = self._require_problem()
        names = [TRIAL, *problem.space.domain.parameters, *problem.output_names.oracle]
        found = read_table(
            table, names, renamed(columns), NumberReader(decimal, thousands), problem.units
        )
        options = TableOptions(outside=outside, errors=errors)
        return self._recorded(tell_table(problem, self.journal, found, options))

    def _recorded(self, found: AddedTrials) -> AddedTrials:
        found[:] = self._with_designs(found)
        return found

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
