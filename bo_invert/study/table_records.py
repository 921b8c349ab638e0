"""Records of the rows of a table: observations, results of trials, and designs to evaluate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bo_invert.errors import BoInvertError, InvalidInputError, TellConflictError, require, warn_user
from bo_invert.problems.problem import Problem
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.trial_transitions import ANSWERED
from bo_invert.study.amendments import completed
from bo_invert.study.csv_table import Table
from bo_invert.study.input_validation import MAX_ROUNDING
from bo_invert.study.placement import Outside, Place, conditions
from bo_invert.study.table_rows import Observation, RejectedRow, RowReader
from bo_invert.types import Cost, Outcome, Query, State, Trial

Blank = Literal["pending", "failed", "skip"]
"""Treatment of rows without outputs: designs to evaluate, failures, or left out."""
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
    """

    rejected: tuple[RejectedRow, ...] = ()
    repeated: tuple[tuple[str, int], ...] = ()
    skipped: tuple[RejectedRow, ...] = ()

    @property
    def summary(self) -> str:
        """Numbers of rows in each group, and the reason for each rejected row."""
        pending = sum(trial.state.open for trial in self)
        done = len(self) - pending
        parts = [f"{done} observation{'' if done == 1 else 's'} recorded"]
        parts += [f"{pending} without outputs queued"] if pending else []
        for rows, what in (
            (self.repeated, "recorded before"),
            (self.skipped, "skipped"),
            (self.rejected, "invalid"),
        ):
            parts += [f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} {what}"] if rows else []
        return "\n".join([", ".join(parts), *map(str, self.rejected)])


@dataclass(frozen=True)
class TableOptions:
    """Options of ``Study.add`` and ``Study.tell_table``, which describe them."""

    outside: Outside = "error"
    blank: Blank = "pending"
    repeats: Repeats = "skip"
    errors: Errors = "warn"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("outside", ("error", "model", "skip")), ("blank", ("pending", "failed", "skip")),
            ("repeats", ("skip", "add")), ("errors", ("warn", "raise", "ignore")),
        ):  # fmt: skip
            given = getattr(self, name)
            require(given in allowed, f"add: {name} must be one of {allowed}, got {given!r:.80}")


class _Known:
    """Trials of a log by point, each of which stands for one row."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._at: dict[bytes, list[Trial]] = defaultdict(list)
        self._count = Counter(_key(trial.point) for trial in trials)
        self._rows = Counter[tuple[object, ...]]()
        for trial in trials:
            if trial.state is not State.CANCELLED:
                self._at[_key(trial.point)].append(trial)

    def recorded(self, point: np.ndarray, outcome: Outcome) -> Trial | None:
        """Return a trial with this outcome, now or before an amendment."""
        for trial in self._at[_key(point)]:
            versions = [trial.outcome, *(one.before for one in trial.amendments)]
            agrees = all(trial.extra.get(k, v) == v for k, v in outcome.extra.items())
            if agrees and any(_equal(one, outcome) for one in versions):
                return self._use(trial, point)
        return None

    def waiting(self, point: np.ndarray) -> Trial | None:
        """Return an open trial that no named worker evaluates."""
        for trial in self._at[_key(point)]:
            if trial.state.open and not (trial.attempts and trial.attempts[-1].worker):
                return self._use(trial, point)
        return None

    def number(self, point: np.ndarray, outcome: Outcome | None) -> int:
        """Count the rows of this content so far, or the trials of a design without outputs.

        Equal rows of one table have different numbers, and so does a row after its former trial
        was cancelled.
        """
        y = None if outcome is None or outcome.y is None else outcome.y.tobytes()
        content = (_key(point), outcome is not None and outcome.state, y)
        self._rows[content] += 1
        return self._rows[content] + (self._count[_key(point)] if outcome is None else 0)

    def any(self, point: np.ndarray) -> Trial | None:
        """Return a trial in any state."""
        found = self._at[_key(point)]
        return self._use(found[0], point) if found else None

    def _use(self, trial: Trial, point: np.ndarray) -> Trial:
        self._at[_key(point)].remove(trial)
        return trial


def _key(point: np.ndarray) -> bytes:
    """Return a name that points have in common if they differ by rounding only."""
    return (np.round(point, 8) + 0.0).tobytes()


def _equal(known: Outcome | None, other: Outcome) -> bool:
    if known is None or known.state is not other.state:
        return False
    if known.y is None or other.y is None:
        return known.y is other.y
    return np.array_equal(known.y, other.y)


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
        problem, table, outside=options.outside, incomplete_fails=options.blank == "failed"
    )
    rows, rejected, skipped = reader.read()
    require(
        costs is None or len(costs) == len(table.rows),
        f"add: costs must have an entry for each of {len(table.rows)} rows",
    )
    once = options.repeats == "skip"
    known = _Known(journal.trials if once else ())
    queries: list[Query] = []
    outcomes: list[Outcome] = []
    fresh, finished = list[int](), list[tuple[int, Outcome]]()
    queued = list[tuple[int, Query, int]]()
    repeated: list[tuple[str, int]] = []
    numbers = list[int]()
    slots: dict[int, int] = {}
    for row in rows:
        assert row.place is not None
        where = row.place
        query = Query(where.point, origin="data", design=where.design)
        if row.answer is None:
            seen = known.any(where.point)
            if seen is not None:
                repeated.append((row.row, seen.number))
            elif options.blank == "skip":
                skipped.append(RejectedRow(row.row, "no outputs"))
            elif where.outside:
                rejected.append(RejectedRow(row.row, "no outputs, and outside the search domain"))
            else:
                queued.append((row.position, query, known.number(where.point, None)))
            continue
        cost = Cost() if costs is None else costs[row.position]
        outcome = completed(
            problem, problem.outcome(row.answer, cost, where.point), None, row.extra
        )
        outcome = replace(outcome, outside=where.outside)
        number = known.number(where.point, outcome)
        seen = known.recorded(where.point, outcome)
        waiting = known.waiting(where.point) if seen is None else None
        if seen is not None:
            repeated.append((row.row, seen.number))
        elif waiting is not None:
            outcome = replace(outcome, cost=waiting.query.cost if costs is None else cost)
            slots[row.position] = waiting.number
            finished.append((waiting.number, outcome))
        else:
            fresh.append(row.position)
            numbers.append(number)
            queries.append(query)
            outcomes.append(outcome)
    _complain(options, "add", len(table.rows), rejected)
    trials: dict[int, Trial] = {}
    if queries:
        key = _request_key(queries, outcomes, numbers) if once else None
        added = journal.add(queries, outcomes, key)
        trials |= dict(zip(fresh, added, strict=True))
    done = {number: journal.finish(number, outcome) for number, outcome in finished}
    trials |= {position: done[number] for position, number in slots.items()}
    for position, query, number in queued:
        key = _request_key([query], [], [number]) if once else None
        trials[position] = journal.enqueue(query, key)
    return _result([trials[i] for i in sorted(trials)], rejected, repeated, skipped)


def tell_table(
    problem: Problem, journal: JournalBase, table: Table, options: TableOptions
) -> AddedTrials:
    """Record the results of trials in a table; see ``Study.tell_table``."""
    rows, rejected, skipped = RowReader(
        problem, table, results=True, incomplete_fails=options.blank == "failed"
    ).read()
    trials = journal.trials
    planned: list[tuple[Observation, Outcome]] = []
    repeated: list[tuple[str, int]] = []
    seen: set[int] = set()
    for row in rows:
        assert row.trial is not None
        try:
            require(row.trial not in seen, f"trial {row.trial} is in another row, too")
            require(row.trial < len(trials), f"the study has no trial {row.trial}")
            if row.answer is None:
                skipped.append(RejectedRow(row.row, "no outputs"))
                continue
            seen.add(row.trial)
            planned.append((row, _result_of(problem, trials[row.trial], row, options.outside)))
        except InvalidInputError as error:
            rejected.append(RejectedRow(row.row, str(error)))
    recorded: list[Trial] = []
    conflicts = [
        (row, outcome) for row, outcome in planned if trials[row.trial or 0].state in ANSWERED
    ]
    for row, outcome in conflicts:
        planned.remove((row, outcome))
        try:
            journal.finish(row.trial or 0, outcome)
            repeated.append((row.row, row.trial or 0))
        except TellConflictError as error:
            rejected.append(RejectedRow(row.row, str(error)))
    _complain(options, "tell_table", len(table.rows), rejected)
    for row, outcome in planned:
        try:
            recorded.append(journal.finish(row.trial or 0, outcome))
        except BoInvertError as error:  # another worker was first
            if not isinstance(error, TellConflictError):
                raise
            rejected.append(RejectedRow(row.row, str(error)))
    return _result(recorded, rejected, repeated, skipped)


def _result_of(problem: Problem, trial: Trial, row: Observation, outside: Outside) -> Outcome:
    """Return the outcome of a trial in a row, at other conditions if its parameters differ."""
    where: Place | None = None
    if row.given:
        found = conditions(problem.space, trial, row.given, "model")
        gap = float(np.abs(found.point - trial.query.point).max())
        if gap > MAX_ROUNDING:
            where = conditions(
                problem.space, trial, row.given, "model" if outside == "model" else "error"
            )
    point = trial.query.point if where is None else where.point
    outcome = problem.outcome(row.answer, trial.query.cost, point)
    return completed(problem, outcome, where, row.extra)


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


def _result(
    trials: Sequence[Trial],
    rejected: Sequence[RejectedRow],
    repeated: Sequence[tuple[str, int]],
    skipped: Sequence[RejectedRow],
) -> AddedTrials:
    result = AddedTrials(trials)
    result.rejected, result.repeated = tuple(rejected), tuple(repeated)
    result.skipped = tuple(skipped)
    return result


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
