"""The trial log: what its events mean. Trials, bill and memo are folds over events, computed nowhere else.

Events are JSON objects with a ``kind`` and a time ``at`` (seconds since the epoch):

========== ============================================================ =====================================
kind       further keys                                                 effect
========== ============================================================ =====================================
asked      ask, seen, budget, seconds, memo, queries                    new trials, QUEUED
enqueued   queries                                                      new trials, QUEUED, proposed by the user
added      queries, outcomes                                            new trials with known outcomes, no bill
started    trial, worker                                                a new attempt, RUNNING
finished   trial, outcome                                               the attempt's outcome; billed
lost       trial                                                        the attempt's worker is gone; billed
cancelled  trial, reason                                                nobody will evaluate it
========== ============================================================ =====================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from bo_invert.ledger import Ledger
from bo_invert.types import JSON, Attempt, Cost, Outcome, Query, State, Trial


class Log:
    """The state that the events read so far amount to."""

    def __init__(self) -> None:
        self.seq = 0
        self.asks = 0
        self.memo: JSON = None
        self.ask_seconds: list[float] = []
        self.committed = 0
        """Calls answered, plus the most that open trials can still cost: what a budget is compared with."""
        self._trials: list[Trial] = []
        self._frozen: tuple[Trial, ...] | None = None

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials in the order of their numbers."""
        if self._frozen is None:
            self._frozen = tuple(self._trials)
        return self._frozen

    def apply(self, events: Iterable[JSON]) -> None:
        """Take in the next events, in order."""
        for event in events:
            _EFFECTS[event["kind"]](self, event)
            self.seq += 1
            self._frozen = None

    @property
    def ledger(self) -> Ledger:
        """The bill so far."""
        attempts = [attempt for trial in self._trials for attempt in trial.attempts]
        ended = [attempt for attempt in attempts if attempt.ended is not None]
        cost = sum((attempt.cost for attempt in ended), Cost())
        fates = [attempt.fate for attempt in ended]
        return Ledger(
            values=cost.values,
            gradients=cost.gradients,
            attempts=len(ended),
            failed=fates.count(State.FAILED),
            infeasible=fates.count(State.INFEASIBLE),
            lost=fates.count(State.LOST),
            running=len(attempts) - len(ended),
            seconds=cost.seconds,
            asking=sum(self.ask_seconds),
            asks=self.asks,
        )

    def _asked(self, event: JSON) -> None:
        self.asks = event["ask"] + 1
        self.memo = event["memo"]
        self.ask_seconds.append(event["seconds"])
        self._queue(event["queries"], event["ask"])

    def _enqueued(self, event: JSON) -> None:
        self._queue(event["queries"], None)

    def _queue(self, queries: Sequence[JSON], ask: int | None) -> None:
        for query in queries:
            self._trials.append(Trial(len(self._trials), Query.from_json(query), State.QUEUED, ask))
            self.committed += self._trials[-1].query.cost.calls

    def _added(self, event: JSON) -> None:
        for query, known in zip(event["queries"], event["outcomes"], strict=True):
            outcome = Outcome.from_json(known)
            number = len(self._trials)
            self._trials.append(Trial(number, Query.from_json(query), outcome.state, outcome=outcome))

    def _started(self, event: JSON) -> None:
        trial = self._trials[event["trial"]]
        attempt = Attempt(event["worker"], event["at"])
        if not trial.state.open:  # a failure is tried again
            self.committed += trial.query.cost.calls
        self._put(trial, state=State.RUNNING, attempts=(*trial.attempts, attempt))

    def _finished(self, event: JSON) -> None:
        outcome = Outcome.from_json(event["outcome"])
        self.committed += outcome.cost.calls - self._trials[event["trial"]].query.cost.calls
        self._end(event, outcome.state, outcome.cost, outcome=outcome)

    def _lost(self, event: JSON) -> None:
        self._end(event, State.LOST, self._trials[event["trial"]].query.cost)

    def _end(self, event: JSON, state: State, cost: Cost, **changes: Any) -> None:
        trial = self._trials[event["trial"]]
        last = replace(trial.attempts[-1], ended=event["at"], cost=cost, fate=state)
        self._put(trial, state=state, attempts=(*trial.attempts[:-1], last), **changes)

    def _cancelled(self, event: JSON) -> None:
        trial = self._trials[event["trial"]]
        self.committed -= trial.query.cost.calls
        self._put(trial, state=State.CANCELLED, outcome=Outcome(State.CANCELLED, reason=event["reason"]))

    def _put(self, trial: Trial, **changes: Any) -> None:
        self._trials[trial.number] = replace(trial, **changes)


_EFFECTS: dict[str, Callable[[Log, JSON], None]] = {
    "asked": Log._asked,
    "enqueued": Log._enqueued,
    "added": Log._added,
    "started": Log._started,
    "finished": Log._finished,
    "lost": Log._lost,
    "cancelled": Log._cancelled,
}


def event(kind: str, **fields: JSON) -> JSON:
    """An event that happens now."""
    return {"kind": kind, "at": time.time(), **fields}
