"""What a change amounts to, given the log: the events to append, or a refusal. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError, TellConflictError
from bo_invert.storage.events import Log, event
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial

#: How often a trial is issued again after its worker disappeared.
MAX_ATTEMPTS = 5


def find(log: Log, number: int) -> Trial:
    """One trial.

    Raises:
        InvalidInputError: there is none of this number.
    """
    count = len(log)
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, np.integer))
        or not 0 <= number < count
    ):
        raise InvalidInputError(
            f"there is no trial {number!r}; the study has {count}, numbered from 0"
        )
    return log[number]


@dataclass(frozen=True)
class Assignment:
    """For whom trials are started.

    Args:
        worker: who will evaluate them; None for a person or a foreign program.
        lease: seconds that the worker may be silent; None for any time.
        key: of the request; asked again with the same key, it is answered with the same trials.
    """

    worker: str | None = None
    lease: float | None = None
    key: str | None = None


def start(log: Log, numbers: Sequence[int], assignment: Assignment) -> list[JSON]:
    """New attempts at trials."""
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
    """An ask and the start of its trials, in one piece; None when somebody else took this number first.

    Args:
        log: as it stands.
        ask: number of the ask.
        queries: what the strategy proposed.
        parts: how many of them go to whom, in order; who comes last may get fewer.
        notes: further fields of the event.
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
    """The start of trials that wait: enqueued by the user, lost, given back, or failed and worth another try.

    Args:
        log: as it stands.
        count: at most so many.
        room: calls that are neither answered nor promised to open trials; those that wait are promised theirs.
        retries: how often a failure is tried again.
        assignment: on which they are started.
    """
    waiting = log.within(State.LOST, State.QUEUED)
    left = room + sum(trial.query.cost.calls for trial in waiting)
    again = (trial for trial in log.within(State.FAILED) if 0 < len(trial.attempts) <= retries)
    ready: list[int] = []
    for trial in sorted([*waiting, *again], key=lambda trial: trial.number):
        if len(ready) < count and trial.query.cost.calls <= left:
            ready.append(trial.number)
            left -= trial.query.cost.calls
    return start(log, ready, assignment)


def tell(log: Log, number: int, outcome: Outcome, attempt: int | None) -> list[JSON]:
    """The end of an attempt; nothing where it is known already.

    Raises:
        TellConflictError: the attempt already has another outcome, or (without ``attempt``) the trial was cancelled.
        InvalidInputError: there is no such trial or attempt.
    """
    trial = find(log, number)
    entry = event("finished", trial=trial.number, outcome=outcome.to_json(), attempt=attempt)
    if attempt is not None:
        return _fenced(trial, outcome, attempt, entry)
    if trial.state is State.RUNNING:
        return [entry]
    if _same(trial.outcome, outcome):
        return []
    if trial.state is State.LOST:  # it was billed when it was given up
        return [entry]
    if trial.state is State.QUEUED:
        return [event("started", trial=trial.number, worker=None), entry]
    raise _conflict(trial, trial.state, trial.y, outcome)


def _fenced(trial: Trial, outcome: Outcome, attempt: int, entry: JSON) -> list[JSON]:
    """The events of an outcome of one attempt, whatever became of the trial since."""
    if not 0 <= attempt < len(trial.attempts):
        count = len(trial.attempts)
        raise InvalidInputError(
            f"trial {trial.number} has had {count} attempts, numbered from 0; there is no attempt {attempt}"
        )
    made = trial.attempts[attempt]
    if made.outcome is not None:
        if _same(made.outcome, outcome):
            return []
        raise _conflict(trial, made.fate, made.outcome.y, outcome)
    latest = attempt == len(trial.attempts) - 1
    if latest and trial.state in (State.RUNNING, State.LOST):
        return [entry]
    return [{**entry, "kind": "late"}]


def create(log: Log, entry: JSON, count: int, key: str | None) -> list[JSON]:
    """New trials; nothing where a request of this key has made them."""
    if key is None:
        return [entry]
    return [] if key in log.keys else [entry, _keyed(log, key, range(len(log), len(log) + count))]


def cancel(log: Log, number: int, reason: str) -> list[JSON]:
    """The end of an open trial; a running attempt is billed as lost.

    Raises:
        TellConflictError: it already has an outcome.
        InvalidInputError: there is no such trial.
    """
    trial = find(log, number)
    state = trial.state
    if state is State.CANCELLED and trial.outcome is not None and trial.outcome.reason == reason:
        return []
    if not state.open:
        raise TellConflictError(f"trial {number} is {state} and cannot be cancelled")
    ended = [event("lost", trial=number)] if state is State.RUNNING else []
    return [*ended, event("cancelled", trial=number, reason=reason)]


def release(log: Log, number: int, attempt: int, cost: Cost) -> list[JSON]:
    """An attempt given back; nothing where it has ended already, or was superseded."""
    trial = find(log, number)
    if trial.state is not State.RUNNING or attempt != len(trial.attempts) - 1:
        return []
    return [event("released", trial=number, cost=cost.to_json())]


def expire(log: Log, gone: Callable[[str], bool]) -> list[JSON]:
    """The end of the attempts of workers that disappeared; and of trials that this befell too often."""
    events = []
    for trial in log.within(State.RUNNING):
        worker = trial.attempts[-1].worker
        if worker is not None and gone(worker):
            events.append(event("lost", trial=trial.number))
            if sum(a.fate in (State.LOST, State.RUNNING) for a in trial.attempts) >= MAX_ATTEMPTS:
                reason = f"its worker disappeared {MAX_ATTEMPTS} times"
                events.append(event("cancelled", trial=trial.number, reason=reason))
    return events


def abandon(log: Log, numbers: set[int]) -> list[JSON]:
    """The end of the running attempts at these trials."""
    return [
        event("lost", trial=number)
        for number in sorted(numbers)
        if find(log, number).state is State.RUNNING
    ]


def _keyed(log: Log, key: str, numbers: Sequence[int]) -> JSON:
    return event("keyed", key=key, trials=[*log.keys.get(key, ()), *numbers])


def _conflict(trial: Trial, state: State, y: Any, outcome: Outcome) -> TellConflictError:
    return TellConflictError(
        f"trial {trial.number} is {state} with y = {_shown(y)} and cannot become {outcome.state} with "
        f"y = {_shown(outcome.y)}; study.enqueue() has a point measured again, study.add() takes what is known already"
    )


def _same(one: Outcome | None, other: Outcome) -> bool:
    if one is None or one.state is not other.state:
        return False
    return (
        np.array_equal(one.y, other.y)
        if one.y is not None and other.y is not None
        else one.reason == other.reason
    )


def _shown(y: Any) -> str:
    return "none" if y is None else str(np.round(y, 6).tolist())
