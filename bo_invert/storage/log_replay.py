"""Events of a study and their meaning. Trials, ledger and memo are folds over the events.

Events are JSON objects with a ``kind`` and a time ``at`` (seconds since the epoch):

========== ================================ ====================================================
kind       further keys                     effect
========== ================================ ====================================================
asked      ask, seen, budget, seconds,      new trials from the strategy, QUEUED
           memo, queries
enqueued   queries                          new trials from the user, QUEUED
added      queries, outcomes                new trials with known outcomes, billed at their cost
started    trial, worker, lease             a new attempt, RUNNING
finished   trial, outcome, attempt          outcome of an attempt, billed
amended    trial, outcome, reason,          correction of an outcome by the user; its costs stay.
           revision                         ``revision`` counts earlier corrections of the trial
late       trial, outcome, attempt          outcome of a superseded attempt: a new trial, not
                                            billed again
released   trial, cost                      an attempt returned without an outcome, billed at
                                            its cost
lost       trial, deaths                    an attempt without an outcome, billed; ``deaths``
                                            counts the unexplained ends of its workers so far
cancelled  trial, reason                    end of a trial without an outcome
keyed      key, trials                      trials that a request with this key received
ended      reason                           a stop rule ended a run; trials do not change
========== ================================ ====================================================

Older logs lack ``lease`` (no lease) and ``attempt`` (the latest attempt). Without ``deaths`` an
end is unexplained and counts one. An outcome has ``extra`` (further measured values), ``design``
and ``outside`` only if they are set. With ``point`` and without a descent, the user ran the trial
under these conditions instead of the suggested ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from bo_invert.history import Ledger
from bo_invert.types import JSON, Amendment, Attempt, Cost, Outcome, Query, State, Trial

LATE = "late"
"""Origin of a trial that holds the outcome of a superseded attempt."""


class Log:
    """State of a study after the events read so far.

    The cost of an event does not depend on the length of the log, except for amendments.

    Attributes:
        seq: Position of the last event.
        asks: Number of asks.
        memo: Memo of the last ask.
        ask_seconds: Duration of each ask.
        budget: Budget of the last ask in calls; None for no limit.
        committed: Answered calls plus the largest possible number of calls of open trials. A
            budget limits this number.
        calls: Answered calls. Lost attempts are billed, but not counted here; see
            ``History.calls``.
        ended: Reason for which a stop rule ended the last run; empty after new trials.
        keys: Numbers of the trials that each keyed request received.
        deaths: Number of workers that died without a word during each trial.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.asks = 0
        self.memo: JSON = None
        self.ask_seconds: list[float] = []
        self.budget: int | None = None
        self.committed = 0
        self.calls = 0
        self.ended = ""
        self.keys: dict[str, tuple[int, ...]] = {}
        self.deaths: dict[int, int] = {}
        self._best: int | None = None
        self._trials: list[Trial] = []
        self._touched: list[int] = []
        self._frozen: tuple[Trial, ...] | None = None
        self._numbers: dict[State, set[int]] = {state: set() for state in State}
        self._costs: dict[str, float] = dict.fromkeys(Ledger.counted(), 0)
        self._ledger: Ledger | None = None

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials in the order of their numbers."""
        if self._frozen is None:
            self._frozen = tuple(self._trials)
        return self._frozen

    def within(self, *states: State) -> list[Trial]:
        """Return the trials in one of these states, in the order of their numbers."""
        numbers = sorted(number for state in states for number in self._numbers[state])
        return [self._trials[number] for number in numbers]

    def changed(self, since: int, after: int = 0) -> list[Trial]:
        """Return the trials from number ``after`` on with an event after position ``since``."""
        return [
            self._trials[number]
            for number in range(after, len(self))
            if self._touched[number] > since
        ]

    @property
    def counts(self) -> dict[State, int]:
        """Number of trials in each state."""
        return {state: len(numbers) for state, numbers in self._numbers.items()}

    def apply(self, events: Iterable[JSON]) -> None:
        """Apply the next events in order."""
        for event in events:
            self.seq += 1
            _EFFECTS[event["kind"]](self, event)
            self._frozen = self._ledger = None

    @property
    def best(self) -> Trial | None:
        """Feasible trial of lowest loss, the earliest of equal ones; None without one."""
        return None if self._best is None else self._trials[self._best]

    @property
    def ledger(self) -> Ledger:
        """Costs so far."""
        if self._ledger is None:
            costs: dict[str, Any] = self._costs
            self._ledger = Ledger(running=len(self._numbers[State.RUNNING]), **costs)
        return self._ledger

    def _asked(self, event: JSON) -> None:
        self.asks = event["ask"] + 1
        self.memo = event["memo"]
        self.budget = event.get("budget")
        self.ask_seconds.append(event["seconds"])
        self._costs["asks"] = self.asks
        self._costs["asking"] += event["seconds"]
        self._queue(event["queries"], event["ask"])

    def _enqueued(self, event: JSON) -> None:
        self._queue(event["queries"], None)

    def _queue(self, queries: Sequence[JSON], ask: int | None) -> None:
        for query in queries:
            trial = self._new(Query.from_json(query), State.QUEUED, ask=ask)
            self.committed += trial.query.cost.calls

    def _added(self, event: JSON) -> None:
        for query, known in zip(event["queries"], event["outcomes"], strict=True):
            outcome = Outcome.from_json(known)
            attempts: tuple[Attempt, ...] = ()
            if outcome.cost.calls:
                at = event["at"]
                attempts = (Attempt(None, at, at, outcome.cost, outcome.state, position=self.seq),)
                self.committed += outcome.cost.calls
                self.calls += outcome.cost.calls
                self._bill(outcome.state, outcome.cost, 1)
            self._new(
                Query.from_json(query), outcome.state, attempts=attempts, outcome=outcome,
                position=self.seq,
            )  # fmt: skip

    def _started(self, event: JSON) -> None:
        trial = self._trials[event["trial"]]
        attempt = Attempt(event["worker"], event["at"], lease=event.get("lease"))
        if not trial.state.open:  # retry of a failed trial
            self.committed += trial.query.cost.calls
        self._put(trial, state=State.RUNNING, attempts=(*trial.attempts, attempt))

    def _finished(self, event: JSON) -> None:
        outcome = Outcome.from_json(event["outcome"])
        trial = self._trials[event["trial"]]
        self.committed += outcome.cost.calls - trial.query.cost.calls
        self.calls += outcome.cost.calls
        self._end(event, outcome.state, outcome.cost, outcome)

    def _amended(self, event: JSON) -> None:
        """Replace the outcome; the attempt is billed as before, with the new state as its fate."""
        trial, outcome = self._trials[event["trial"]], Outcome.from_json(event["outcome"])
        assert trial.outcome is not None
        attempts = trial.attempts
        if attempts:
            last = attempts[-1]
            if trial.origin != LATE:  # billed as lost
                self._bill(last.fate, last.cost, -1)
                self._bill(outcome.state, last.cost, 1)
            attempts = (*attempts[:-1], replace(last, fate=outcome.state))
        amendment = Amendment(trial.outcome, event["reason"], event["at"])
        self._put(
            trial, state=outcome.state, outcome=outcome, attempts=attempts,
            amendments=(*trial.amendments, amendment),
        )  # fmt: skip
        self._best = min(
            (number for number in self._numbers[State.COMPLETED] if self._trials[number].feasible),
            key=lambda number: (self._trials[number].loss, number),
            default=None,
        )

    def _late(self, event: JSON) -> None:
        outcome, trial = Outcome.from_json(event["outcome"]), self._trials[event["trial"]]
        superseded = trial.attempts[event["attempt"]]
        attempts = (*trial.attempts[: event["attempt"]], replace(superseded, outcome=outcome))
        self._put(trial, attempts=(*attempts, *trial.attempts[event["attempt"] + 1 :]))
        meta = {"trial": trial.number, "attempt": event["attempt"]}
        seen = Attempt(
            superseded.worker,
            superseded.started,
            event["at"],
            Cost(),
            outcome.state,
            outcome=outcome,
            position=self.seq,
        )
        self._new(
            replace(trial.query, origin=LATE, meta=meta),
            outcome.state,
            attempts=(seen,),
            outcome=outcome,
            position=self.seq,
        )

    def _released(self, event: JSON) -> None:
        cost = Cost.from_json(event["cost"])
        self.committed += cost.calls
        self.calls += cost.calls
        trial = self._end(event, State.CANCELLED, cost)
        self._put(trial, state=State.QUEUED)

    def _lost(self, event: JSON) -> None:
        number = event["trial"]
        self.deaths[number] = event.get("deaths", self.deaths.get(number, 0) + 1)
        self._end(event, State.LOST, self._trials[number].query.cost)

    def _end(self, event: JSON, state: State, cost: Cost, outcome: Outcome | None = None) -> Trial:
        """End the latest attempt of a trial.

        An attempt that was lost and answers after all is billed once.
        """
        trial = self._trials[event["trial"]]
        last = trial.attempts[-1]
        if last.ended is not None:
            self._bill(last.fate, last.cost, -1)
        self._bill(state, cost, 1)
        attempt = Attempt(
            last.worker, last.started, event["at"], cost, state, last.lease, outcome, self.seq
        )
        changes: dict[str, Any] = {"position": self.seq}
        changes |= {} if outcome is None else {"outcome": outcome}
        return self._put(trial, state=state, attempts=(*trial.attempts[:-1], attempt), **changes)

    def _bill(self, fate: State, cost: Cost, sign: int) -> None:
        costs = self._costs
        costs["values"] += sign * cost.values
        costs["gradients"] += sign * cost.gradients
        costs["seconds"] += sign * cost.seconds
        costs["attempts"] += sign
        if fate in (State.FAILED, State.INFEASIBLE, State.LOST):
            costs[fate] += sign
        if not cost.calls and fate in (State.COMPLETED, State.INFEASIBLE):
            costs["reused"] += sign

    def _cancelled(self, event: JSON) -> None:
        trial = self._trials[event["trial"]]
        self.committed -= trial.query.cost.calls
        self._put(
            trial, state=State.CANCELLED, outcome=Outcome(State.CANCELLED, reason=event["reason"])
        )

    def _keyed(self, event: JSON) -> None:
        self.keys[event["key"]] = tuple(event["trials"])

    def _ended(self, event: JSON) -> None:
        self.ended = event["reason"]

    def _new(self, query: Query, state: State, **fields: Any) -> Trial:
        self.ended = ""
        self._trials.append(Trial(len(self._trials), query, state, **fields))
        self._touched.append(self.seq)
        self._numbers[state].add(len(self._trials) - 1)
        return self._update_best(self._trials[-1])

    def _put(self, trial: Trial, **changes: Any) -> Trial:
        changed = trial.evolved(**changes)
        self._numbers[trial.state].remove(trial.number)
        self._numbers[changed.state].add(trial.number)
        self._trials[trial.number] = changed
        self._touched[trial.number] = self.seq
        return self._update_best(changed)

    def _update_best(self, trial: Trial) -> Trial:
        loss = trial.loss
        if loss is not None and trial.feasible:
            best = self.best
            known = None if best is None else best.loss
            if best is None or known is None or (loss, trial.number) < (known, best.number):
                self._best = trial.number
        return trial


_EFFECTS: dict[str, Callable[[Log, JSON], None]] = {
    "asked": Log._asked,
    "enqueued": Log._enqueued,
    "added": Log._added,
    "started": Log._started,
    "finished": Log._finished,
    "amended": Log._amended,
    "late": Log._late,
    "released": Log._released,
    "lost": Log._lost,
    "cancelled": Log._cancelled,
    "keyed": Log._keyed,
    "ended": Log._ended,
}


def event(kind: str, **fields: JSON) -> JSON:
    """Return an event with the current time."""
    return {"kind": kind, "at": time.time(), **fields}
