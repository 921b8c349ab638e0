"""Records of the rows of a table: observations, results of trials, and designs to evaluate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bo_invert.errors import InvalidInputError, TellConflictError, require, warn_user
from bo_invert.problems.problem import Problem
from bo_invert.storage.journal_base import JournalBase
from bo_invert.study.amendments import completed
from bo_invert.study.csv_table import Table
from bo_invert.study.placement import Outside, Place, conditions
from bo_invert.study.recorded_rows import RecordedRows
from bo_invert.study.table_rows import Observation, RejectedRow, RowReader
from bo_invert.types import Cost, Outcome, Query, State, Trial

Blank = Literal["pending", "failed", "failed-open", "skip"]
"""Treatment of rows without outputs: designs to evaluate, failures (of open trials only with
``"failed-open"``), or left out."""
Repeats = Literal["skip", "add"]
"""Treatment of rows that are recorded already."""
Errors = Literal["warn", "raise", "ignore"]
"""Treatment of invalid rows: a warning that lists them, an error before anything is recorded, or
only a list in the result."""


class AddedTrials(list[Trial]):
    """Trials that a table added, completed or queued, in the order of its rows.

    Attributes:
        rejected: Invalid rows with the reasons; they are not recorded.
        repeated: Rows that were recorded before, each with the number of its trial.
        skipped: Rows that were left out as requested.
        failed: Rows that are recorded as failures or infeasible, with the reasons.
        waiting: Rows without outputs of open trials, which stay open, each with its trial.
    """

    rejected: tuple[RejectedRow, ...] = ()
    repeated: tuple[tuple[str, int], ...] = ()
    skipped: tuple[RejectedRow, ...] = ()
    failed: tuple[RejectedRow, ...] = ()
    waiting: tuple[tuple[str, int], ...] = ()

    @property
    def summary(self) -> str:
        """Numbers of rows in each group, and each invalid, failed and waiting row."""
        pending = sum(trial.state.open for trial in self)
        done = len(self) - pending - len(self.failed)
        parts = [f"{done} observation{'' if done == 1 else 's'} recorded"]
        parts += [f"{pending} without outputs queued"] if pending else []
        for rows, what in (
            (self.failed, "recorded as failed"),
            (self.waiting, "of open trials left open"),
            (self.repeated, "recorded before"),
            (self.skipped, "skipped"),
            (self.rejected, "invalid"),
        ):
            parts += [f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} {what}"] if rows else []
        lines = [f"{one.row}: failed, {one.reason}" for one in self.failed]
        lines += [
            f"{row}: no outputs, trial {number} stays open; blank='failed-open' records a failure"
            for row, number in self.waiting
        ]
        return "\n".join([", ".join(parts), *lines, *map(str, self.rejected)])


@dataclass(frozen=True)
class TableOptions:
    """Options of ``Study.add`` and ``Study.tell_table``, which describe them."""

    outside: Outside = "error"
    blank: Blank = "pending"
    repeats: Repeats = "skip"
    errors: Errors = "warn"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("outside", ("error", "model", "skip")),
            ("blank", ("pending", "failed", "failed-open", "skip")),
            ("repeats", ("skip", "add")), ("errors", ("warn", "raise", "ignore")),
        ):  # fmt: skip
            given = getattr(self, name)
            require(given in allowed, f"add: {name} must be one of {allowed}, got {given!r:.80}")


@dataclass
class _Plan:
    """Records to make for the rows of a table; positions are those of the rows.

    Args:
        fresh: Position, number of its content (see ``RecordedRows.number``), query and outcome of
            each new observation.
        finished: Position, trial and outcome of each result of an open trial.
        queued: Position, number and query of each design to evaluate.
        repeated: Rows that are recorded already, with their trials.
        rejected: Invalid rows.
        skipped: Rows that are left out as requested.
        failed: Rows that are recorded as failures.
        waiting: Such rows of open trials that stay open, with the trials.
    """

    fresh: list[tuple[int, int, Query, Outcome]] = field(default_factory=list)
    finished: list[tuple[int, int, Outcome]] = field(default_factory=list)
    queued: list[tuple[int, int, Query]] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    skipped: list[RejectedRow] = field(default_factory=list)
    failed: list[RejectedRow] = field(default_factory=list)
    waiting: list[tuple[str, int]] = field(default_factory=list)

    def record(self, journal: JournalBase, once: bool) -> AddedTrials:
        """Write the records.

        Args:
            journal: Log of the study.
            once: Another process that makes the same records at once makes no second ones.
        """
        trials: dict[int, Trial] = {}
        if self.fresh:
            self.fresh.sort(key=lambda one: one[0])
            positions, numbers, queries, outcomes = zip(*self.fresh, strict=True)
            key = _request_key(queries, outcomes, numbers) if once else None
            trials |= zip(positions, journal.add(queries, outcomes, key), strict=True)
        for position, number, outcome in self.finished:
            trials[position] = journal.finish(number, outcome)
        for position, number, query in self.queued:
            key = _request_key([query], [], [number]) if once else None
            trials[position] = journal.enqueue(query, key)
        return self.result([trials[position] for position in sorted(trials)])

    def result(self, trials: Sequence[Trial]) -> AddedTrials:
        """Return the recorded trials with the other rows."""
        found = AddedTrials(trials)
        found.rejected, found.skipped = tuple(self.rejected), tuple(self.skipped)
        found.repeated, found.failed = tuple(self.repeated), tuple(self.failed)
        found.waiting = tuple(self.waiting)
        return found


def add_table(
    problem: Problem,
    journal: JournalBase,
    table: Table,
    options: TableOptions,
    costs: Sequence[Cost] | None = None,
) -> AddedTrials:
    """Record the rows of a table with inputs and outputs; see ``Study.add``.

    Args:
        problem: Problem of the study.
        journal: Its log.
        table: Table of the user.
        options: Treatment of special rows.
        costs: Cost of each row; default: none.
    """
    reader = RowReader(
        problem, table, outside=options.outside, incomplete_fails=options.blank.startswith("failed")
    )
    rows, rejected, skipped = reader.read()
    require(
        costs is None or len(costs) == len(table.rows),
        f"add: costs must have an entry for each of {len(table.rows)} rows",
    )
    once = options.repeats == "skip"
    known = RecordedRows(journal.trials if once else ())
    plan = _Plan(rejected=rejected, skipped=skipped)
    # Rows with outputs come first, so that a planned repetition does not stand for their trials.
    for row in sorted(rows, key=lambda one: one.incomplete):
        trial = known.open(row.placed.point) if row.incomplete else None
        if trial is not None and options.blank != "failed-open":
            plan.waiting.append((row.row, trial.number))
        elif row.answer is not None:
            _plan_observation(problem, plan, known, row, costs)
    for row in rows:
        if row.answer is None:
            _plan_design(plan, known, row, options.blank)
    _complain(options, "add", len(table.rows), plan.rejected)
    return plan.record(journal, once)


def _plan_observation(
    problem: Problem,
    plan: _Plan,
    known: RecordedRows,
    row: Observation,
    costs: Sequence[Cost] | None,
) -> None:
    """Plan the record of a row with outputs."""
    where = row.placed
    cost = Cost() if costs is None else costs[row.position]
    outcome = completed(problem, problem.outcome(row.answer, cost, where.point), None, row.extra)
    outcome = replace(outcome, outside=where.outside)
    number = known.number(where.point, outcome)
    seen = known.recorded(where.point, outcome)
    if seen is not None:
        plan.repeated.append((row.row, seen.number))
        return
    plan.failed += failures([row.row], [outcome])
    waiting = known.waiting(where.point)
    if waiting is not None:
        billed = waiting.query.cost if costs is None else cost
        plan.finished.append((row.position, waiting.number, replace(outcome, cost=billed)))
        return
    query = Query(where.point, origin="data", design=where.design)
    plan.fresh.append((row.position, number, query, outcome))


def _plan_design(plan: _Plan, known: RecordedRows, row: Observation, blank: Blank) -> None:
    """Plan the record of a row without outputs."""
    where = row.placed
    seen = known.any(where.point)
    if seen is not None:
        plan.repeated.append((row.row, seen.number))
    elif blank == "skip":
        plan.skipped.append(RejectedRow(row.row, "no outputs"))
    elif where.outside:
        plan.rejected.append(RejectedRow(row.row, "no outputs, and outside the search domain"))
    else:
        query = Query(where.point, origin="data", design=where.design)
        plan.queued.append((row.position, known.number(where.point, None), query))


def tell_table(
    problem: Problem, journal: JournalBase, table: Table, options: TableOptions
) -> AddedTrials:
    """Record the results of trials in a table; see ``Study.tell_table``."""
    rows, rejected, skipped = RowReader(
        problem, table, results=True, incomplete_fails=options.blank == "failed"
    ).read()
    plan, trials = _Plan(rejected=rejected, skipped=skipped), journal.trials
    open_rows: list[tuple[Observation, int, Outcome]] = []
    seen: set[int] = set()
    for row in rows:
        number = row.trial
        assert number is not None
        try:
            require(number not in seen, f"trial {number} is in another row, too")
            require(number < len(trials), f"the study has no trial {number}")
            if row.answer is None:
                plan.skipped.append(RejectedRow(row.row, "no outputs"))
                continue
            seen.add(number)
            outcome = _result_of(problem, trials[number], row, options.outside)
            if trials[number].state.open:
                open_rows.append((row, number, outcome))
            else:
                journal.finish(number, outcome)  # changes nothing, or is a conflict
                plan.repeated.append((row.row, number))
        except (InvalidInputError, TellConflictError) as error:
            plan.rejected.append(RejectedRow(row.row, str(error)))
    _complain(options, "tell_table", len(table.rows), plan.rejected)
    recorded: list[Trial] = []
    for row, number, outcome in open_rows:
        try:
            recorded.append(journal.finish(number, outcome))
            plan.failed += failures([row.row], [outcome])
        except TellConflictError as error:  # another worker was first
            plan.rejected.append(RejectedRow(row.row, str(error)))
    return plan.result(recorded)


def _result_of(problem: Problem, trial: Trial, row: Observation, outside: Outside) -> Outcome:
    """Return the outcome of a trial in a row, at other conditions if its parameters differ."""
    where: Place | None = None
    # The suggested design is accepted even if it lies outside the search domain.
    if row.given and not conditions(problem.space, trial, row.given, "model").suggested:
        accepted: Outside = "model" if outside == "model" else "error"
        where = conditions(problem.space, trial, row.given, accepted)
    point = trial.query.point if where is None else where.point
    outcome = problem.outcome(row.answer, trial.query.cost, point)
    return completed(problem, outcome, where, row.extra)


def failures(rows: Iterable[str], outcomes: Iterable[Outcome]) -> list[RejectedRow]:
    """Return the rows whose outcome is a failure, with the reasons."""
    return [
        RejectedRow(
            row, f"infeasible: {one.reason}" if one.state == State.INFEASIBLE else one.reason
        )
        for row, one in zip(rows, outcomes, strict=True)
        if one.state in (State.FAILED, State.INFEASIBLE)
    ]


def _request_key(
    queries: Sequence[Query], outcomes: Sequence[Outcome], numbers: Sequence[int]
) -> str:
    """Return a key of rows, so that two processes that add a table at once record it once."""
    content = [[q.to_json() for q in queries], [o.to_json() for o in outcomes], list(numbers)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _complain(
    options: TableOptions, where: str, count: int, rejected: Sequence[RejectedRow]
) -> None:
    """Report invalid rows as the options say."""
    if not rejected or options.errors == "ignore":
        return
    listed = [f"  {row}" for row in rejected[:20]]
    more = [f"  and {len(rejected) - 20} more, see .rejected"] if len(rejected) > 20 else []
    text = "\n".join(
        [f"{where}: {len(rejected)} of {count} rows are invalid and not recorded:", *listed, *more]
    )
    if options.errors == "raise":
        raise InvalidInputError(f"{text}\nNothing is recorded")
    warn_user(text)


def renamed(columns: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return new names of columns, checked.

    Raises:
        InvalidInputError: It is no mapping of texts.
    """
    found = dict(columns or {})
    require(
        all(isinstance(k, str) and isinstance(v, str) for k, v in found.items()),
        f"columns: must map names in the table to names of the study, got {columns!r:.200}",
    )
    return found
