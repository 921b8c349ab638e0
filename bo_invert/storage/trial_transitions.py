"""State transitions of trials, as pure functions from the log to the events to append."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bo_invert.errors import InvalidInputError, StudyPausedError, TellConflictError
from bo_invert.storage.log_replay import Log, event
from bo_invert.types import JSON, Array, Cost, Outcome, Query, State, Trial

ANSWERED = (State.COMPLETED, State.FAILED, State.INFEASIBLE)
"""States of trials with an outcome."""
Purpose = Literal["search", "refine", "all"]
"""Purpose of an ask: proposals of the strategy, refinement of the best point, or all solutions."""
MAX_DEATHS = 5
"""Number of workers that may die without a word during a trial before the study pauses.

Engineering choice: a trial during which five workers died is itself the likely cause.
"""


def find(log: Log, number: int) -> Trial:
    """Return a trial by its number.

    Raises:
        InvalidInputError: There is no such trial.
    """
    count = len(log)
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, np.integer))
        or not 0 <= number < count
    ):
        raise InvalidInputError(
            f"study: the trial must be one of {count}, numbered from 0, got {number!r}"
        )
    return log[number]


@dataclass(frozen=True)
class Assignment:
    """Worker and request for which trials are started.

    Args:
        worker: Name of the worker; None for a person or a foreign program.
        lease: Seconds after which a worker without a heartbeat loses its trials; None for never.
        key: Idempotency key of the request. The same key receives the same trials.
        round_size: Number of queries of an ask that is made only if no trial waits; those that are
            not started wait. The asks of a killed and resumed run are then those of an undisturbed
            one. Default 0: an ask for all missing trials.
        under_way: Numbers of the trials that the worker still evaluates. After the end of their
            lease they are started for other workers only.
        fixed: Names and values of parameters that do not vary in this ask.
        suits: Function that is True of points with the fixed values. Waiting trials at other points
            are not started. None for all points.
        purpose: Purpose of the ask; ``"refine"`` as in ``Study.polish``, ``"all"`` as in
            ``Study.run(find="all")``.
        hope_level: Probability of a hit up to which an ask is spent on the best hope, as with the
            stop rule ``verdict``; None for no such asks.
    """

    worker: str | None = None
    lease: float | None = None
    key: str | None = None
    round_size: int = 0
    under_way: Collection[int] = ()
    fixed: tuple[tuple[str, str | bool | int | float], ...] = ()
    suits: Callable[[Array], bool] | None = None
    purpose: Purpose = "search"
    hope_level: float | None = None


def start(log: Log, numbers: Sequence[int], assignment: Assignment) -> list[JSON]:
    """Return the events of new attempts."""
    events = [
        event("started", trial=number, worker=assignment.worker, lease=assignment.lease)
        for number in numbers
    ]
    return (
        [*events, _keyed(log, assignment.key, numbers)]
        if assignment.key is not None and events
        else events
    )


def ask(
    log: Log,
    ask: int,
    queries: Sequence[Query],
    parts: Sequence[tuple[int, Assignment]],
    notes: JSON,
) -> JSON:
    """Return the events of an ask and of the start of its trials.

    Args:
        log: Current log.
        ask: Number of the ask.
        queries: Proposed queries.
        parts: Number of trials for each assignment, in order; the last ones can get fewer.
        notes: Further fields of the event.

    Returns:
        The events; None if another process recorded an ask of this number first.
    """
    if log.asks != ask:
        return None
    events = [event("asked", ask=ask, queries=[query.to_json() for query in queries], **notes)]
    first, end = len(log), len(log) + len(queries)
    for count, assignment in parts:
        events += start(log, range(first, min(first + count, end)), assignment)
        first = min(first + count, end)
    return events


def resume(log: Log, count: int, room: float, retries: int, assignment: Assignment) -> list[JSON]:
    """Return the events of the start of waiting trials.

    These are enqueued, lost and released trials, and failed ones with retries left.

    Args:
        log: Current log.
        count: Largest number of trials.
        room: Calls of the budget that are neither answered nor committed to open trials. Waiting
            trials are open, so their calls are committed already.
        retries: Number of retries of a failed trial. Attempts without an outcome do not count.
        assignment: Worker and request.

    Raises:
        StudyPausedError: Too many workers died during a waiting trial.
    """
    mine = assignment.under_way
    waiting = [t for t in log.within(State.LOST, State.QUEUED) if t.number not in mine]
    check_deaths(log)
    again = log.within(State.FAILED) if retries else []
    again = [trial for trial in again if 0 < _failures(trial) <= retries]
    if assignment.suits is not None:
        suits = assignment.suits
        waiting, again = ([t for t in some if suits(t.point)] for some in (waiting, again))
    if not waiting and not again:
        return []
    left = room + sum(trial.query.cost.calls for trial in waiting)
    ready: list[int] = []
    for trial in sorted([*waiting, *again], key=lambda trial: trial.number):
        if len(ready) < count and trial.query.cost.calls <= left:
            ready.append(trial.number)
            left -= trial.query.cost.calls
    return start(log, ready, assignment)


def check_deaths(log: Log) -> None:
    """Raise an error if too many workers died during a trial that waits.

    Raises:
        StudyPausedError: The message names the trials and the ways to continue.
    """
    numbers = [
        trial.number
        for trial in log.within(State.LOST)
        if log.deaths.get(trial.number, 0) >= MAX_DEATHS
    ]
    if numbers:
        first, plural = numbers[0], "s" if len(numbers) > 1 else ""
        raise StudyPausedError(
            f"study paused: {MAX_DEATHS} processes died without a word during "
            f"trial{plural} {', '.join(map(str, numbers))} (kill -9, a crash, out of memory, a "
            "power failure). Nothing recorded is lost. Continue with "
            f"study.retry({first}) to evaluate it again (bo-invert run --unpause), "
            f"study.tell({first}, bi.FailedError('why')) to record a failure, or "
            f"study.cancel({first}) to skip it. bi.Isolated(oracle) survives such crashes"
        )


def _failures(trial: Trial) -> int:
    return sum(attempt.fate is State.FAILED for attempt in trial.attempts)


def tell(log: Log, number: int, outcome: Outcome, attempt: int | None) -> list[JSON]:
    """Return the events of an outcome; none if the outcome is known.

    Raises:
        TellConflictError: The attempt has another outcome, or (without ``attempt``) the trial was
            cancelled.
        InvalidInputError: There is no such trial or attempt.
    """
    trial = find(log, number)
    entry = event("finished", trial=trial.number, outcome=outcome.to_json(), attempt=attempt)
    if attempt is not None:
        return _fenced(trial, outcome, attempt, entry)
    if trial.state is State.RUNNING:
        return [entry]
    if any(_same(known, outcome) for known in _versions(trial)):
        return []
    if trial.state is State.LOST:  # billed when it was lost
        return [entry]
    if trial.state is State.QUEUED:
        return [event("started", trial=trial.number, worker=None), entry]
    raise _conflict(trial, trial.state, trial.y, outcome)


def _fenced(trial: Trial, outcome: Outcome, attempt: int, entry: JSON) -> list[JSON]:
    """Return the events of an outcome of one attempt, also of a superseded one."""
    if not 0 <= attempt < len(trial.attempts):
        count = len(trial.attempts)
        raise InvalidInputError(
            f"trial {trial.number}: the attempt must be one of {count}, numbered from 0, "
            f"got {attempt}"
        )
    known = trial.attempts[attempt]
    if known.outcome is not None:
        if _same(known.outcome, outcome):
            return []
        raise _conflict(trial, known.fate, known.outcome.y, outcome)
    latest = attempt == len(trial.attempts) - 1
    if latest and trial.state in (State.RUNNING, State.LOST):
        return [entry]
    return [{**entry, "kind": "late"}]


def amend(
    log: Log, number: int, outcome: Outcome, reason: str, revision: int | None = None
) -> list[JSON]:
    """Return the event of a corrected outcome; none if the trial has it already.

    Args:
        log: Current log.
        number: Number of the trial.
        outcome: Corrected outcome.
        reason: Reason of the user.
        revision: Number of corrections that the user knows of; None for all.

    Raises:
        TellConflictError: The trial has no outcome, or another worker amended it meanwhile.
        InvalidInputError: There is no such trial.
    """
    trial = find(log, number)
    if trial.outcome is None or trial.state not in ANSWERED:
        raise TellConflictError(
            f"trial {number} is {trial.state} and has no outcome to amend. Use study.tell()"
        )
    if outcome.to_json() == trial.outcome.to_json():
        return []
    known = len(trial.amendments)
    if revision is not None and revision != known:
        raise TellConflictError(
            f"trial {number} was amended meanwhile: it is {trial.state} with y = "
            f"{_shown(trial.y)}. Read study.trials[{number}] and amend it again"
        )
    return [
        event(
            "amended", trial=trial.number, outcome=outcome.to_json(), reason=reason, revision=known
        )
    ]


def create(log: Log, entry: JSON, count: int, key: str | None) -> list[JSON]:
    """Return the events of new trials; none if a request with this key created them."""
    if key is None:
        return [entry]
    return [] if key in log.keys else [entry, _keyed(log, key, range(len(log), len(log) + count))]


def cancel(log: Log, number: int, reason: str) -> list[JSON]:
    """Return the events of the end of an open trial; a running attempt is billed as lost.

    Raises:
        TellConflictError: The trial has an outcome.
        InvalidInputError: There is no such trial.
    """
    trial = find(log, number)
    state = trial.state
    if state is State.CANCELLED and trial.outcome is not None and trial.outcome.reason == reason:
        return []
    if not state.open:
        raise TellConflictError(f"trial {number} is {state} and cannot be cancelled")
    ended = [_explained(log, number)] if state is State.RUNNING else []
    return [*ended, event("cancelled", trial=number, reason=reason)]


def release(log: Log, number: int, attempt: int, cost: Cost) -> list[JSON]:
    """Return the events of a returned attempt; none if it has ended or was superseded."""
    trial = find(log, number)
    if trial.state is not State.RUNNING or attempt != len(trial.attempts) - 1:
        return []
    return [event("released", trial=number, cost=cost.to_json())]


def expire(log: Log, gone: Callable[[str], bool]) -> list[JSON]:
    """Return the events of attempts whose workers disappeared, without an explanation.

    Args:
        log: Current log.
        gone: Function that is True of a worker that disappeared.
    """
    return [
        event("lost", trial=trial.number, deaths=log.deaths.get(trial.number, 0) + 1)
        for trial in log.within(State.RUNNING)
        if (worker := trial.attempts[-1].worker) is not None and gone(worker)
    ]


def abandon(log: Log, numbers: set[int]) -> list[JSON]:
    """Return the events of attempts that their worker itself ended, as after Ctrl-C."""
    return [
        _explained(log, number)
        for number in sorted(numbers)
        if find(log, number).state is State.RUNNING
    ]


def retry(log: Log, number: int) -> list[JSON]:
    """Return the event that lets a lost trial run again, however many workers died during it.

    Raises:
        TellConflictError: The trial is not lost.
        InvalidInputError: There is no such trial.
    """
    trial = find(log, number)
    if trial.state is not State.LOST:
        raise TellConflictError(
            f"trial {number} is {trial.state} and cannot be retried; only a lost trial can. "
            "Use study.run(retries=...) for failed trials"
        )
    return [event("lost", trial=trial.number, deaths=0)] if log.deaths.get(trial.number) else []


def _explained(log: Log, number: int) -> JSON:
    """Return the event of an attempt without an outcome that is no sign of a crash."""
    return event("lost", trial=number, deaths=log.deaths.get(number, 0))


def _keyed(log: Log, key: str, numbers: Sequence[int]) -> JSON:
    return event("keyed", key=key, trials=[*log.keys.get(key, ()), *numbers])


def _conflict(trial: Trial, state: State, y: Array | None, outcome: Outcome) -> TellConflictError:
    known = trial.outcome
    if known is not None and _same(
        replace(known, point=outcome.point, extra=outcome.extra), outcome
    ):
        moved = outcome.point is not None and not np.array_equal(trial.point, outcome.point)
        names = [name for name, one in outcome.extra.items() if known.extra.get(name) != one]
        what = "under other conditions" if moved else f"with other values of {', '.join(names)}"
        change = "at=..." if moved else "extra=..."
        return TellConflictError(
            f"trial {trial.number} is {state} with these outputs {what}. Use "
            f"study.amend(trial, {change}) to correct it"
        )
    return TellConflictError(
        f"trial {trial.number} is {state} with y = {_shown(y)} and cannot become {outcome.state} "
        f"with y = {_shown(outcome.y)}. Use study.amend() to correct it, study.enqueue() to "
        "evaluate the point again, or study.add() to record another observation"
    )


def _versions(trial: Trial) -> list[Outcome | None]:
    """Return the outcome of a trial and those before its amendments."""
    return [trial.outcome, *(amendment.before for amendment in trial.amendments)]


def _same(one: Outcome | None, other: Outcome) -> bool:
    """Return True if an outcome adds nothing to a known one."""
    if one is None or one.state is not other.state:
        return False
    if other.point is not None and (
        one.point is None or not np.array_equal(one.point, other.point)
    ):
        return False
    if any(one.extra.get(name) != value for name, value in other.extra.items()):
        return False
    return (
        np.array_equal(one.y, other.y)
        if one.y is not None and other.y is not None
        else one.reason == other.reason
    )


def _shown(y: Array | None) -> str:
    return "none" if y is None else str(np.round(y, 6).tolist())
