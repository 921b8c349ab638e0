"""A log in a store, kept in step with other writers: every change of a trial's state is appended here."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice

from bo_invert.errors import BoInvertError, StorageConflictError, StorageError, StudyNotFoundError
from bo_invert.storage import transitions
from bo_invert.storage.base import Store
from bo_invert.storage.events import Log, event
from bo_invert.storage.journal_base import JournalBase, LoggedProposal, Propose, TakeRequest
from bo_invert.storage.reader import room
from bo_invert.storage.transitions import Assignment
from bo_invert.types import JSON, Cost, Outcome, Query, Trial

_SHORT = 0.05
"""Seconds of an ask for which others may be kept waiting."""


class Journal(JournalBase):
    """The events of one study, written here.

    A change is decided in the light of the newest log. When somebody else appends in between, it is decided again.
    Any number of threads may use one journal.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        self._crowded = False
        """Whether others wrote just now: then a change waits for its turn rather than to be refused."""
        self._has_turn = False
        self._asking = math.inf
        """Seconds of the last ask."""

    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        request = TakeRequest(count, retries, assignment, known)
        trials, complete = self.take_ready(request, budget)
        if complete:
            return trials
        return self.take_asked(propose, budget, [(request, trials)], take_turns=True)[0]

    def take_ready(self, request: TakeRequest, budget: int | None) -> tuple[list[Trial], bool]:
        """Start the trials of a request that need no ask.

        Returns:
            The trials, and whether the request is complete. It is complete if it was answered
            before (same key) or if there are enough trials.
        """
        answered = self._answered(request.assignment)
        if answered is not None:
            return answered, True
        assignment, count = request.assignment, request.count
        with self._lock:
            trials: list[Trial] = []
            if request.known is not None and assignment.worker is not None:
                trials = self.running_of(assignment.worker, request.known)[:count]
            wanted = count - len(trials)
            if wanted:
                trials += self._begun(
                    self._commit(
                        lambda log: transitions.resume(
                            log, wanted, room(log, budget), request.retries, assignment
                        )
                    )
                )
        return trials, len(trials) == count

    def take_asked(
        self,
        propose: Propose,
        budget: int | None,
        requests: Sequence[tuple[TakeRequest, list[Trial]]],
        *,
        take_turns: bool = False,
    ) -> list[list[Trial]]:
        """Complete requests with one ask of the strategy.

        Args:
            propose: Function that asks the strategy. It is called again when another process
                recorded the same ask first.
            budget: Calls that the whole study may spend.
            requests: Each request and the trials that it has already.
            take_turns: Lock the log during a fast ask if other processes write to it. Leave it
                False if ``propose`` can wait for something else.

        Returns:
            The trials of each request. The last requests get fewer if the strategy proposes fewer.
        """
        parts = [(request.count - len(trials), request.assignment) for request, trials in requests]
        begun: list[Trial] | None = None
        while begun is None:
            # Of several processes that ask at once, one is first and the others ask again. Where an
            # ask is fast, they take turns instead.
            fast = take_turns and self._asking < _SHORT
            with self._turn() if self._crowded and fast else nullcontext():
                view = self.view(budget)
                wanted = int(min(sum(count for count, _ in parts), view.room))
                answer = propose(view, wanted) if wanted > 0 else None
                if answer is not None:
                    self._asking = answer.seconds
                begun = [] if answer is None else self._record_ask(answer, budget, parts)
        rest = iter(begun)
        return [
            [*trials, *islice(rest, count)]
            for (_, trials), (count, _) in zip(requests, parts, strict=True)
        ]

    def _answered(self, assignment: Assignment) -> list[Trial] | None:
        """Return the trials of an earlier request with the same key; None if there was none."""
        if assignment.key is None:
            return None
        with self._lock:
            numbers = self.read().keys.get(assignment.key)
            return None if numbers is None else [self._log[number] for number in numbers]

    def _record_ask(
        self, answer: LoggedProposal, budget: int | None, parts: Sequence[tuple[int, Assignment]]
    ) -> list[Trial] | None:
        """Append an ask and the start of its trials, all or nothing.

        Queries beyond the budget are left out.

        Returns:
            The started trials; None if another process recorded an ask of this number first.
        """
        notes = {
            "seen": answer.seen,
            "budget": budget,
            "seconds": answer.seconds,
            "memo": answer.memo,
        }

        def decide(log: Log) -> JSON:
            queries = _fitting(answer.queries, room(log, budget))
            return transitions.ask(log, answer.ask, queries, parts, notes) if queries else []

        with self._lock:
            events = self._commit(decide)
            return None if events is None else self._begun(events)

    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        with self._lock:
            events = self._commit(lambda log: transitions.tell(log, number, outcome, attempt))
            late = any(entry["kind"] == "late" for entry in events or ())
            return self._log[len(self._log) - 1 if late else number]

    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        known = {
            "queries": [q.to_json() for q in queries],
            "outcomes": [o.to_json() for o in outcomes],
        }
        return self._made(event("added", **known), len(queries), key)

    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        return self._made(event("enqueued", queries=[query.to_json()]), 1, key)[0]

    def cancel(self, number: int, reason: str) -> Trial:
        self._commit(lambda log: transitions.cancel(log, number, reason))
        return self.trial(number)

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        self._commit(lambda log: transitions.release(log, number, attempt, cost))
        return self.trial(number)

    def expire(self, gone: Callable[[str], bool]) -> None:
        self._commit(lambda log: transitions.expire(log, gone))

    def abandon(self, numbers: set[int]) -> None:
        self._commit(lambda log: transitions.abandon(log, numbers))

    def beat(self, worker: str) -> None:
        self._store.beat(self.name, worker)

    def beats(self) -> dict[str, int]:
        return self._store.beats(self.name)

    @property
    def leases(self) -> dict[str, float]:
        found: dict[str, float] = {}
        with self._lock:
            running = self.running
        for trial in running:
            last = trial.attempts[-1]
            if last.worker is not None and last.lease is not None:
                found[last.worker] = min(last.lease, found.get(last.worker, last.lease))
        return found

    def _begun(self, events: Sequence[JSON] | None) -> list[Trial]:
        with self._lock:
            return [
                self._log[entry["trial"]] for entry in events or () if entry["kind"] == "started"
            ]

    def _made(self, entry: JSON, count: int, key: str | None) -> list[Trial]:
        with self._lock:
            if self._commit(lambda log: transitions.create(log, entry, count, key)):
                return [self._log[len(self._log) - count + i] for i in range(count)]
            return self._answered(Assignment(key=key)) or []

    def _commit(self, decide: Callable[[Log], list[JSON] | None]) -> list[JSON] | None:
        """Append the events that ``decide`` wants, and say which they were."""
        with self._lock:
            while True:
                if self._crowded and not self._has_turn:
                    events = decide(self.read())
                    if not events:
                        return events  # for which no turn is needed
                with self._turn() if self._crowded else nullcontext():
                    try:
                        return self._tried(decide)
                    except StorageConflictError:
                        before = self._log.seq
                        if self.read().seq == before:
                            raise self._replaced() from None
                        self._crowded = True

    def _tried(self, decide: Callable[[Log], list[JSON] | None]) -> list[JSON] | None:
        """What is remembered of the log is looked at first: if it is the newest, the store takes the events without
        having been read. A refusal of ``decide`` is believed only once it has been.
        """
        try:
            events = decide(self._log)
        except BoInvertError:
            events = None
        if not events:
            events = decide(self.read())
        if events:
            self._store.append(self.name, events, self._log.seq)
            self._log.apply(events)
        return events

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Nobody else writes to this log meanwhile, where the store can see to that."""
        turn = getattr(self._store, "turn", None)
        if turn is None or self._has_turn:
            yield
            return
        with self._lock:
            try:
                with turn(self.name):
                    before, self._has_turn = self._log.seq, True
                    self._crowded = self.read().seq > before
                    yield
            except BaseException as error:
                if isinstance(error, StorageError) or not isinstance(error, BoInvertError):
                    self._log = Log()  # what it remembers may not have been written
                raise
            finally:
                self._has_turn = False

    def _replaced(self) -> StudyNotFoundError:
        """Why a log refuses what is appended to it and has not grown."""
        if self._store.header(self.name).get("id") != self.header.get("id"):
            return StudyNotFoundError(
                f"study {self.name!r} was deleted, and another one of this name begun; open it again"
            )
        return StudyNotFoundError(
            f"study {self.name!r} has lost events: an older copy of it was put back; open it again"
        )


def _fitting(queries: Sequence[Query], left: float) -> list[Query]:
    """The queries that fit into the remaining calls; the last descent is shortened to what is left."""
    fitting: list[Query] = []
    for query in queries:
        cost = query.cost.calls
        if cost > left:
            if query.descent is None or left < 2:
                break
            query = replace(query, descent=replace(query.descent, steps=int(left // 2)))
            cost = query.cost.calls
        fitting.append(query)
        left -= cost
    return fitting
