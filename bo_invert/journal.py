"""A log in a store, kept in step with other writers: every change of a trial's state is appended here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bo_invert import decisions
from bo_invert.decisions import Terms
from bo_invert.errors import StorageConflict, StudyNotFound
from bo_invert.ledger import Ledger
from bo_invert.log import Log, event
from bo_invert.stores.base import Store
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial
from bo_invert.workers import new_worker


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


@dataclass(frozen=True)
class Answer:
    """What a strategy answered.

    Args:
        queries: at most as many as were wanted.
        memo: for the next ask.
        ask: number of the ask that it answers.
        seen: position of the last event that the strategy knew of.
    """

    queries: tuple[Query, ...]
    memo: JSON
    ask: int
    seen: int


Propose = Callable[[View, int], Answer]
"""Asks a strategy for so many queries."""


class Journal:
    """The events of one study, read as trials.

    A change is decided in the light of the newest log. When somebody else appends in between, it is decided again.
    Any number of threads may use one journal.

    Attributes:
        worker: name of those who evaluate trials through this journal.
        under_way: numbers of the trials that they evaluate now.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.header: JSON = store.header(name)
        self.worker = new_worker()
        self.under_way: set[int] = set()
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
            return View(log.trials, log.asks, log.seq, log.memo, _room(log, budget))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order."""
        with self._lock:
            return self.read().trials

    @property
    def best(self) -> Trial | None:
        """The feasible trial of lowest loss; None when there is none yet."""
        with self._lock:
            return self.read().best

    @property
    def calls(self) -> int:
        """Calls answered so far; see ``History.calls``."""
        with self._lock:
            return self.read().calls

    def is_over(self, budget: int) -> bool:
        """Whether a budget is spent, and nothing is under way that could still be lost."""
        with self._lock:
            log = self.read()
            return log.calls >= budget and log.committed == log.calls

    @property
    def ledger(self) -> Ledger:
        """What was spent."""
        with self._lock:
            return self.read().ledger

    @property
    def ask_seconds(self) -> list[float]:
        """Wall-clock seconds of each ask, in order."""
        with self._lock:
            return list(self.read().ask_seconds)

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            InvalidInput: there is none of this number.
        """
        with self._lock:
            return decisions.find(self.read(), number)

    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        """Start up to ``count`` trials: what their worker left unfinished, what waits, then newly asked ones.

        Args:
            propose: asks the strategy.
            count: how many, at least 1.
            budget: calls the whole study may spend.
            retries: how often a failed trial is tried again.
            terms: for whom.
            known: numbers of running trials that the worker knows to be its own; others of its own are given to it
                again. None if it knows them all.
        """
        given = self.answered(terms)
        if given is not None:
            return given
        trials = self.waiting(count, budget, retries, terms, known)
        while len(trials) < count:
            view = self.view(budget)
            if view.room <= 0:
                break
            began = time.perf_counter()
            answer = propose(view, int(min(count - len(trials), view.room)))
            seconds = time.perf_counter() - began
            begun = self.asked(answer, budget, seconds, [(count - len(trials), terms)])
            if begun is not None:
                return [*trials, *begun]
        return trials

    def answered(self, terms: Terms) -> list[Trial] | None:
        """What a request of this key was given; None if there was none."""
        if terms.key is None:
            return None
        with self._lock:
            numbers = self.read().keys.get(terms.key)
            return None if numbers is None else [self._log[number] for number in numbers]

    def waiting(
        self, count: int, budget: int | None, retries: int, terms: Terms, known: Collection[int] | None = None
    ) -> list[Trial]:
        """The part of ``take`` that needs no strategy."""
        with self._lock:
            trials = [] if known is None or terms.worker is None else self._held(terms.worker, known)[:count]
            if len(trials) < count:
                wanted = count - len(trials)
                trials += self._begun(
                    self._commit(lambda log: decisions.resumed(log, wanted, _room(log, budget), retries, terms))
                )
            return trials

    def asked(
        self, answer: Answer, budget: int | None, seconds: float, parts: Sequence[tuple[int, Terms]]
    ) -> list[Trial] | None:
        """Note what a strategy answered, and start the trials, in one piece.

        Args:
            answer: of the strategy; queries that do not fit into the budget any more are left out.
            budget: calls the whole study may spend.
            seconds: that it took.
            parts: how many of them go to whom, in order.

        Returns:
            The trials, none if there were no queries; None when another process took this number first, and nothing
            was noted.
        """
        notes = {"seen": answer.seen, "budget": budget, "seconds": seconds, "memo": answer.memo}

        def decide(log: Log) -> JSON:
            queries = _fitting(answer.queries, _room(log, budget))
            return decisions.asked(log, answer.ask, queries, parts, notes) if queries else []

        with self._lock:
            events = self._commit(decide)
            return None if events is None else self._begun(events)

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
        with self._lock:
            events = self._commit(lambda log: decisions.told(log, number, outcome, attempt))
            late = any(entry["kind"] == "late" for entry in events or ())
            return self._log[len(self._log) - 1 if late else number]

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
        self._commit(lambda log: decisions.cancelled(log, number, reason))
        return self.trial(number)

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        """Give an attempt back that will not be finished; the trial waits for somebody else.

        An attempt that has ended already, or was superseded, is left as it is.

        Args:
            number: of the trial.
            attempt: which one, from 0.
            cost: what it has cost; nothing if the oracle was not called.
        """
        self._commit(lambda log: decisions.released(log, number, attempt, cost))
        return self.trial(number)

    def lose(self, gone: Callable[[str], bool]) -> None:
        """Bill the attempts of workers that disappeared; their trials wait to be issued again, or are given up."""
        self._commit(lambda log: decisions.lost(log, gone))

    def abandon(self, numbers: set[int]) -> None:
        """Bill the running attempts at these trials as lost; the trials wait to be issued again."""
        self._commit(lambda log: decisions.abandoned(log, numbers))

    def reclaim(self) -> None:
        """Bill as lost what was begun through this journal and could not be given back when that failed."""
        self.abandon({trial.number for trial in self._held(self.worker, frozenset(self.under_way))})

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

    def _held(self, worker: str, known: Collection[int]) -> list[Trial]:
        """Trials that a worker has under way, without those that it knows of."""
        with self._lock:
            running = self.read().within(State.RUNNING)
            return [trial for trial in running if trial.attempts[-1].worker == worker and trial.number not in known]

    def _begun(self, events: Sequence[JSON] | None) -> list[Trial]:
        with self._lock:
            return [self._log[entry["trial"]] for entry in events or () if entry["kind"] == "started"]

    def _made(self, entry: JSON, count: int, key: str | None) -> list[Trial]:
        with self._lock:
            if self._commit(lambda log: decisions.made(log, entry, count, key)):
                return [self._log[len(self._log) - count + i] for i in range(count)]
            return self.answered(Terms(key=key)) or []

    def _commit(self, decide: Callable[[Log], list[JSON] | None]) -> list[JSON] | None:
        """Append the events that ``decide`` wants, and say which they were."""
        with self._lock:
            while True:
                log = self.read()
                events = decide(log)
                if not events:
                    return events
                try:
                    self._store.append(self.name, events, log.seq)
                except StorageConflict:
                    before = log.seq
                    if self.read().seq == before:
                        raise self._replaced() from None
                    continue
                log.apply(events)
                return events

    def _replaced(self) -> StudyNotFound:
        """Why a log refuses what is appended to it and has not grown."""
        if self._store.header(self.name).get("id") != self.header.get("id"):
            return StudyNotFound(f"study {self.name!r} was deleted, and another one of this name begun; open it again")
        return StudyNotFound(f"study {self.name!r} has lost events: an older copy of it was put back; open it again")


def _room(log: Log, budget: int | None) -> float:
    return float("inf") if budget is None else budget - log.committed


def _fitting(queries: Sequence[Query], room: float) -> list[Query]:
    """The queries that fit into the remaining calls; the last descent is shortened to what is left."""
    fitting: list[Query] = []
    for query in queries:
        cost = query.cost.calls
        if cost > room:
            if query.descent is None or room < 2:
                break
            query = replace(query, descent=replace(query.descent, steps=int(room // 2)))
            cost = query.cost.calls
        fitting.append(query)
        room -= cost
    return fitting
