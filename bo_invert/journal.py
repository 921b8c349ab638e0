"""A log in a store, kept in step with other writers: every change of a trial's state is decided and appended here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInput, StorageConflict, TellConflict
from bo_invert.ledger import Ledger
from bo_invert.log import Log, event
from bo_invert.stores.base import Store
from bo_invert.types import JSON, Outcome, Query, State, Trial

#: How often a trial is issued again after its worker disappeared.
MAX_ATTEMPTS = 5


class Journal:
    """The events of one study, read as trials.

    A change is decided in the light of the newest log. When somebody else appends in between, it is decided again.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.header: JSON = store.header(name)
        self._store = store
        self._log = Log()
        self._lock = threading.RLock()

    def read(self) -> Log:
        """The log as it stands now; not to be changed, and not to be kept."""
        with self._lock:
            self._log.apply(self._store.events(self.name, self._log.seq))
            return self._log

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order."""
        return self.read().trials

    @property
    def ledger(self) -> Ledger:
        """What was spent."""
        return self.read().ledger

    @property
    def ask_seconds(self) -> list[float]:
        """Wall-clock seconds of each ask, in order."""
        return list(self.read().ask_seconds)

    def trial(self, number: int) -> Trial:
        """One trial, as last read.

        Raises:
            InvalidInput: there is none of this number.
        """
        trials = self._log.trials
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < len(trials):
            raise InvalidInput(f"study {self.name!r} has no trial {number!r}; it has {len(trials)}, numbered from 0")
        return trials[number]

    def room(self, budget: int | None) -> float:
        """Calls that can still be committed, as last read."""
        return float("inf") if budget is None else budget - self._log.committed

    def asked(self, ask: int, queries: Sequence[Query], worker: str | None, **notes: Any) -> list[Trial] | None:
        """Ask number ``ask`` and the start of its trials, in one piece.

        Returns:
            The trials; None when another process took this number first, and nothing was appended.
        """
        first = 0

        def decide() -> list[JSON] | None:
            nonlocal first
            if self._log.asks != ask:
                return None
            first = len(self._log.trials)
            head = event("asked", ask=ask, queries=[query.to_json() for query in queries], **notes)
            numbers = range(first, first + len(queries))
            return [head, *(event("started", trial=number, worker=worker) for number in numbers)]

        return list(self._log.trials[first : first + len(queries)]) if self._commit(decide) else None

    def start_waiting(self, count: int, budget: int | None, worker: str | None, retries: int) -> list[Trial]:
        """Start up to ``count`` trials that wait: enqueued by the user, lost, or failed and worth another try."""
        chosen: list[int] = []

        def decide() -> list[JSON]:
            room = self.room(budget)
            ready = [
                trial.number
                for trial in self._log.trials
                if trial.state is State.LOST
                or (trial.state is State.QUEUED)
                or (trial.state is State.FAILED and 0 < len(trial.attempts) <= retries and room > 0)
            ]
            chosen[:] = ready[:count]
            return [event("started", trial=number, worker=worker) for number in chosen]

        self._commit(decide)
        return [self.trial(number) for number in chosen]

    def finish(self, number: int, outcome: Outcome) -> Trial:
        """Record an outcome; the same one again changes nothing.

        Raises:
            TellConflict: the trial already has another outcome, or was cancelled.
        """

        def decide() -> list[JSON]:
            trial = self.trial(number)
            told = event("finished", trial=trial.number, outcome=outcome.to_json())
            if trial.state is State.RUNNING:
                return [told]
            if _same(trial.outcome, outcome):
                return []
            if trial.state in (State.QUEUED, State.FAILED, State.LOST):
                return [event("started", trial=trial.number, worker=None), told]
            raise TellConflict(
                f"trial {number} is {trial.state} with y = {_shown(trial.y)} and cannot become {outcome.state} with "
                f"y = {_shown(outcome.y)}; study.add() takes further observations"
            )

        self._commit(decide)
        return self.trial(number)

    def add(self, queries: Sequence[Query], outcomes: Sequence[Outcome]) -> list[Trial]:
        """Trials with outcomes known from elsewhere."""
        known = {"queries": [q.to_json() for q in queries], "outcomes": [o.to_json() for o in outcomes]}
        return self._new(event("added", **known), len(queries))

    def enqueue(self, query: Query) -> Trial:
        """A trial proposed by the user."""
        return self._new(event("enqueued", queries=[query.to_json()]), 1)[0]

    def cancel(self, number: int, reason: str) -> Trial:
        """Give up an open trial; a running attempt is billed as lost.

        Raises:
            TellConflict: it already has an outcome.
        """

        def decide() -> list[JSON]:
            state = self.trial(number).state
            if not state.open:
                raise TellConflict(f"trial {number} is {state} and cannot be cancelled")
            ended = [event("lost", trial=number)] if state is State.RUNNING else []
            return [*ended, event("cancelled", trial=number, reason=reason)]

        self._commit(decide)
        return self.trial(number)

    def lose(self, gone: Callable[[str], bool]) -> None:
        """Bill the attempts of workers that disappeared; their trials wait to be issued again, or are given up."""

        def decide() -> list[JSON]:
            events = []
            for trial in self._log.trials:
                worker = trial.attempts[-1].worker if trial.attempts else None
                if trial.state is State.RUNNING and worker is not None and gone(worker):
                    events.append(event("lost", trial=trial.number))
                    if sum(a.fate in (State.LOST, State.RUNNING) for a in trial.attempts) >= MAX_ATTEMPTS:
                        reason = f"its worker disappeared {MAX_ATTEMPTS} times"
                        events.append(event("cancelled", trial=trial.number, reason=reason))
            return events

        self._commit(decide)

    def abandon(self, numbers: set[int]) -> None:
        """Bill the running attempts at these trials as lost; the trials wait to be issued again."""

        def decide() -> list[JSON]:
            running = [n for n in sorted(numbers) if self.trial(n).state is State.RUNNING]
            return [event("lost", trial=number) for number in running]

        self._commit(decide)

    def _new(self, entry: JSON, count: int) -> list[Trial]:
        with self._lock:
            self._commit(lambda: [entry])
            return list(self._log.trials[-count:]) if count else []

    def _commit(self, decide: Callable[[], list[JSON] | None]) -> bool:
        """Append what ``decide`` wants; False if it returned None."""
        with self._lock:
            while True:
                self.read()
                events = decide()
                if events is None:
                    return False
                try:
                    if events:
                        self._store.append(self.name, events, self._log.seq)
                        self._log.apply(events)
                    return True
                except StorageConflict:
                    continue


def _same(one: Outcome | None, other: Outcome) -> bool:
    if one is None or one.state is not other.state:
        return False
    return np.array_equal(one.y, other.y) if one.y is not None and other.y is not None else one.reason == other.reason


def _shown(y: Any) -> str:
    return "none" if y is None else str(np.round(y, 6).tolist())
