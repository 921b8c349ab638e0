"""A log in a store, kept in step with other writers: every change of a trial's state is decided and appended here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from bo_invert.errors import InvalidInput, StorageConflict, TellConflict
from bo_invert.ledger import Ledger
from bo_invert.log import Log, event
from bo_invert.stores.base import Store
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial

#: How often a trial is issued again after its worker disappeared.
MAX_ATTEMPTS = 5


class View(NamedTuple):
    """What a log amounts to at one moment.

    Args:
        trials: all of them, in order.
        asks: how often the strategy was asked.
        seq: position of the last event.
        memo: that the last ask left for the next one.
        room: calls that can still be committed.
    """

    trials: tuple[Trial, ...]
    asks: int
    seq: int
    memo: JSON
    room: float


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

    def view(self, budget: int | None) -> View:
        """All that an ask depends on, at one moment."""
        with self._lock:
            log = self.read()
            return View(log.trials, log.asks, log.seq, log.memo, self.room(budget))

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
        count = len(self._log)
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < count:
            raise InvalidInput(f"study {self.name!r} has no trial {number!r}; it has {count}, numbered from 0")
        return self._log[number]

    def room(self, budget: int | None) -> float:
        """Calls that can still be committed, as last read."""
        return float("inf") if budget is None else budget - self._log.committed

    def asked(
        self,
        ask: int,
        queries: Sequence[Query],
        worker: str | None,
        *,
        lease: float | None = None,
        key: str | None = None,
        **notes: Any,
    ) -> list[Trial] | None:
        """Ask number ``ask`` and the start of its trials, in one piece.

        Args:
            ask: its number.
            queries: what the strategy proposed.
            worker: who will evaluate them.
            lease: seconds that the worker may be silent; None for any time.
            key: of the request; the same key again gets the same trials, see ``answered``.
            notes: further fields of the event.

        Returns:
            The trials; None when another process took this number first, and nothing was appended.
        """
        first = 0

        def decide() -> list[JSON] | None:
            nonlocal first
            if self._log.asks != ask:
                return None
            first = len(self._log)
            head = event("asked", ask=ask, queries=[query.to_json() for query in queries], **notes)
            return [head, *self._starts(range(first, first + len(queries)), worker, lease, key)]

        return [self._log[first + i] for i in range(len(queries))] if self._commit(decide) else None

    def held(self, worker: str, known: Collection[int]) -> list[Trial]:
        """Trials that a worker has under way, without those that it knows of."""
        with self._lock:
            running = self.read().within(State.RUNNING)
            return [trial for trial in running if trial.attempts[-1].worker == worker and trial.number not in known]

    def answered(self, key: str) -> list[Trial] | None:
        """What a request of this key was given; None if there was none."""
        with self._lock:
            numbers = self.read().keys.get(key)
            return None if numbers is None else [self._log[number] for number in numbers]

    def start_waiting(
        self,
        count: int,
        budget: int | None,
        worker: str | None,
        retries: int,
        *,
        lease: float | None = None,
        key: str | None = None,
    ) -> list[Trial]:
        """Start up to ``count`` trials that wait: enqueued by the user, lost, given back, or failed and worth a try."""
        chosen: list[int] = []

        def decide() -> list[JSON]:
            ready = [trial.number for trial in self._log.within(State.LOST, State.QUEUED)]
            if retries > 0 and self.room(budget) > 0:
                again = (trial for trial in self._log.within(State.FAILED) if 0 < len(trial.attempts) <= retries)
                ready = sorted([*ready, *(trial.number for trial in again)])
            chosen[:] = ready[:count]
            return self._starts(chosen, worker, lease, key)

        self._commit(decide)
        return [self.trial(number) for number in chosen]

    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        """Record an outcome; the same one again changes nothing.

        What a superseded worker found is kept as a trial of its own (origin ``"late"``) and billed no further. Of a
        lost trial that nobody has begun again it is the outcome.

        Args:
            number: of the trial.
            outcome: what came of it.
            attempt: which attempt it is the outcome of, from 0: the fencing token of a worker. None for the latest.

        Returns:
            The trial, or the one that holds the late outcome.

        Raises:
            TellConflict: the attempt already has another outcome, or (without ``attempt``) the trial was cancelled.
            InvalidInput: there is no such trial or attempt.
        """

        late = False

        def decide() -> list[JSON]:
            nonlocal late
            trial = self.trial(number)
            told = event("finished", trial=trial.number, outcome=outcome.to_json(), attempt=attempt)
            if attempt is not None:
                events = self._fenced(trial, outcome, attempt, told)
                late = any(entry["kind"] == "late" for entry in events)
                return events
            if trial.state is State.RUNNING:
                return [told]
            if _same(trial.outcome, outcome):
                return []
            if trial.state is State.LOST:  # it was billed when it was given up
                return [told]
            if trial.state in (State.QUEUED, State.FAILED):
                return [event("started", trial=trial.number, worker=None), told]
            raise self._conflict(trial, trial.state, trial.y, outcome)

        with self._lock:
            self._commit(decide)
            return self._log[len(self._log) - 1] if late else self.trial(number)

    def _fenced(self, trial: Trial, outcome: Outcome, attempt: int, told: JSON) -> list[JSON]:
        """The events of an outcome of one attempt, whatever became of the trial since."""
        if not 0 <= attempt < len(trial.attempts):
            raise InvalidInput(
                f"trial {trial.number} of study {self.name!r} has had {len(trial.attempts)} attempts, numbered from 0; "
                f"there is no attempt {attempt}"
            )
        made = trial.attempts[attempt]
        if made.outcome is not None:
            if _same(made.outcome, outcome):
                return []
            raise self._conflict(trial, made.fate, made.outcome.y, outcome)
        latest = attempt == len(trial.attempts) - 1
        if latest and trial.state in (State.RUNNING, State.LOST):
            return [told]
        return [{**told, "kind": "late"}]

    def _conflict(self, trial: Trial, state: State, y: Any, outcome: Outcome) -> TellConflict:
        return TellConflict(
            f"trial {trial.number} is {state} with y = {_shown(y)} and cannot become {outcome.state} with "
            f"y = {_shown(outcome.y)}; study.add() takes further observations"
        )

    def add(self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None) -> list[Trial]:
        """Trials with outcomes known from elsewhere."""
        known = {"queries": [q.to_json() for q in queries], "outcomes": [o.to_json() for o in outcomes]}
        return self._made(event("added", **known), len(queries), key)

    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        """A trial proposed by the user."""
        return self._made(event("enqueued", queries=[query.to_json()]), 1, key)[0]

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

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        """Give an attempt back that will not be finished; the trial waits for somebody else.

        An attempt that has ended already, or was superseded, is left as it is.

        Args:
            number: of the trial.
            attempt: which one, from 0.
            cost: what it has cost; nothing if the oracle was not called.
        """

        def decide() -> list[JSON]:
            trial = self.trial(number)
            if trial.state is not State.RUNNING or attempt != len(trial.attempts) - 1:
                return []
            return [event("released", trial=number, cost=cost.to_json())]

        self._commit(decide)
        return self.trial(number)

    def lose(self, gone: Callable[[str], bool]) -> None:
        """Bill the attempts of workers that disappeared; their trials wait to be issued again, or are given up."""

        def decide() -> list[JSON]:
            events = []
            for trial in self._log.within(State.RUNNING):
                worker = trial.attempts[-1].worker
                if worker is not None and gone(worker):
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

    def beat(self, worker: str) -> None:
        """Show that a worker is still there."""
        self._store.beat(self.name, worker)

    def beats(self) -> dict[str, int]:
        """How often each worker has shown itself."""
        return self._store.beats(self.name)

    @property
    def leases(self) -> dict[str, float]:
        """Seconds that each worker with running trials may be silent; the shortest of its leases."""
        found: dict[str, float] = {}
        with self._lock:
            running = self.read().within(State.RUNNING)
        for trial in running:
            last = trial.attempts[-1]
            if last.worker is not None and last.lease is not None:
                found[last.worker] = min(last.lease, found.get(last.worker, last.lease))
        return found

    def _starts(self, numbers: Sequence[int], worker: str | None, lease: float | None, key: str | None) -> list[JSON]:
        begun = [event("started", trial=number, worker=worker, lease=lease) for number in numbers]
        return begun if key is None or not begun else [*begun, self._keyed(key, numbers)]

    def _keyed(self, key: str, numbers: Sequence[int]) -> JSON:
        return event("keyed", key=key, trials=[*self._log.keys.get(key, ()), *numbers])

    def _made(self, entry: JSON, count: int, key: str | None) -> list[Trial]:
        """New trials, unless a request of this key has made them."""
        numbers: Sequence[int] = ()

        def decide() -> list[JSON]:
            nonlocal numbers
            if key is not None and key in self._log.keys:
                numbers = self._log.keys[key]
                return []
            numbers = range(len(self._log), len(self._log) + count)
            return [entry] if key is None else [entry, self._keyed(key, numbers)]

        with self._lock:
            self._commit(decide)
            return [self._log[number] for number in numbers]

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
