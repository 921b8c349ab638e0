"""Journal of a study in a storage: it appends events, and resolves conflicts with other writers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice

from bo_invert.errors import BoInvertError, StorageConflictError, StorageError, StudyNotFoundError
from bo_invert.storage import trial_transitions as transitions
from bo_invert.storage.base import Store
from bo_invert.storage.journal_base import JournalBase, LoggedProposal, Propose, TakeRequest
from bo_invert.storage.log_replay import Log, event
from bo_invert.storage.log_summary import HoldsSummaries, LogSummary
from bo_invert.storage.reader import locked, room
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.types import JSON, Cost, Outcome, Query, Trial

_log = logging.getLogger(__name__)
_SHORT = 0.05
"""Seconds of an ask during which the log may stay locked. Engineering choice: other writers
hardly notice a wait of this length.
"""
Decide = Callable[[Log], list[JSON] | None]
"""Function from the log to the events to append; see ``transitions``."""


class Journal(JournalBase):
    """Log of one study, written to a storage. Thread-safe.

    Each change is decided from the newest log. If another process appends in between, the change is
    decided again.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        self._summarised = store if isinstance(store, HoldsSummaries) else None
        self._crowded = False  # another process wrote recently, so changes take turns
        self._has_turn = False
        self._asking = math.inf  # seconds of the last ask

    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        if self.under_way:
            assignment = replace(assignment, under_way=frozenset(self.under_way))
        request = TakeRequest(count, retries, assignment, known)
        trials, complete = self.take_ready(request, budget)
        requests = [(request, trials)]
        return (
            trials if complete else self.take_asked(propose, budget, requests, take_turns=True)[0]
        )

    @locked
    def take_ready(self, request: TakeRequest, budget: int | None) -> tuple[list[Trial], bool]:
        """Start the trials of a request that need no ask.

        Returns:
            The trials, and whether the request is complete. It is complete if it was answered
            before (same key), if there are enough trials, or if a round is not over.
        """
        assignment, known, worker = request.assignment, request.known, request.assignment.worker
        answered = None if assignment.key is None else self._answered(assignment.key)
        if answered is not None:
            return answered, True
        running = [] if known is None or worker is None else self.running_of(worker, known)
        trials = running[: request.count]
        wanted = request.count - len(trials)
        started = self._start(
            lambda log: transitions.resume(
                log, wanted, room(log, budget), request.retries, assignment
            )
        )
        trials += started or []
        return trials, len(trials) == request.count or bool(trials and assignment.round_size)

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
        round_size = max(assignment.round_size for _, assignment in parts)
        started: list[Trial] | None = None
        while started is None:
            # Of several processes that ask at once, one is first and the others ask again. Where an
            # ask is fast, they take turns instead.
            fast = take_turns and self._asking < _SHORT
            with self._turn() if self._crowded and fast else nullcontext():
                view = self.view(budget)
                missing = max(sum(count for count, _ in parts), round_size)
                wanted = int(min(missing, view.room))
                answer = propose(view, wanted) if wanted > 0 else None
                if answer is not None:
                    self._asking = answer.seconds
                started = [] if answer is None else self._record_ask(answer, budget, parts)
        rest = iter(started)
        return [
            [*trials, *islice(rest, count)]
            for (_, trials), (count, _) in zip(requests, parts, strict=True)
        ]

    @locked
    def _answered(self, key: str) -> list[Trial] | None:
        """Return the trials of an earlier request with this key; None if there was none."""
        numbers = self.read().keys.get(key)
        return None if numbers is None else [self._log[number] for number in numbers]

    def _record_ask(
        self, answer: LoggedProposal, budget: int | None, parts: Sequence[tuple[int, Assignment]]
    ) -> list[Trial] | None:
        """Append an ask and the start of its trials, all or nothing.

        Queries beyond the budget are left out.

        Returns:
            The started trials; None if another process recorded an ask of this number first.
        """
        fixed = dict(parts[0][1].fixed)
        notes = {
            "seen": answer.seen,
            "budget": budget,
            "seconds": answer.seconds,
            "memo": answer.memo,
            **({"fixed": fixed} if fixed else {}),
        }

        def decide(log: Log) -> JSON:
            queries = _fitting(answer.queries, room(log, budget))
            return transitions.ask(log, answer.ask, queries, parts, notes) if queries else []

        return self._start(decide)

    @locked
    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        events = self._commit(lambda log: transitions.tell(log, number, outcome, attempt))
        late = any(entry["kind"] == "late" for entry in events or ())
        if late:
            _log.info("study %r: late outcome of trial %d", self.name, number)
        return self._log[-1 if late else number]

    def amend(
        self, number: int, outcome: Outcome, reason: str, revision: int | None = None
    ) -> Trial:
        self._commit(lambda log: transitions.amend(log, number, outcome, reason, revision))
        return self.trial(number)

    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        entry = event(
            "added",
            queries=[query.to_json() for query in queries],
            outcomes=[outcome.to_json() for outcome in outcomes],
        )
        return self._create(entry, len(queries), key)

    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        return self._create(event("enqueued", queries=[query.to_json()]), 1, key)[0]

    def cancel(self, number: int, reason: str) -> Trial:
        self._commit(lambda log: transitions.cancel(log, number, reason))
        return self.trial(number)

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        self._commit(lambda log: transitions.release(log, number, attempt, cost))
        return self.trial(number)

    def expire(self, gone: Callable[[str], bool]) -> None:
        for entry in self._commit(lambda log: transitions.expire(log, gone)) or ():
            if entry["kind"] == "lost":
                _log.warning("study %r: trial %d lost its worker", self.name, entry["trial"])

    def abandon(self, numbers: set[int]) -> None:
        self._commit(lambda log: transitions.abandon(log, numbers))

    def retry(self, number: int) -> Trial:
        self._commit(lambda log: transitions.retry(log, number))
        return self.trial(number)

    def end(self, reason: str) -> None:
        self._commit(lambda log: [] if log.ended == reason else [event("ended", reason=reason)])

    @property
    def leases(self) -> dict[str, float]:
        attempts = [trial.attempts[-1] for trial in self.running]
        leases = [(last.lease, last.worker) for last in attempts if last.lease and last.worker]
        # The shortest lease of a worker is the last one here, so it counts.
        return {worker: lease for lease, worker in sorted(leases, reverse=True)}

    @locked
    def _start(self, decide: Decide) -> list[Trial] | None:
        """Append events and return the trials that they start; None if ``decide`` returns None."""
        events = self._commit(decide)
        return events and [
            self._log[entry["trial"]] for entry in events if entry["kind"] == "started"
        ]

    @locked
    def _create(self, entry: JSON, count: int, key: str | None) -> list[Trial]:
        if self._commit(lambda log: transitions.create(log, entry, count, key)):
            return [self._log[i] for i in range(-count, 0)]
        return (key is not None and self._answered(key)) or []

    @locked
    def _commit(self, decide: Decide) -> list[JSON] | None:
        """Append the events that ``decide`` returns, and return them."""
        while True:
            if self._crowded and not self._has_turn:
                events = decide(self.read())
                if not events:
                    return events  # nothing to write, no lock needed
            with self._turn() if self._crowded else nullcontext():
                try:
                    return self._commit_once(decide)
                except StorageConflictError:
                    before = self._log.seq
                    if self.read().seq == before:
                        raise self._replaced() from None
                    self._crowded = True
                    _log.debug("study %r: conflict at event %d, retry", self.name, before)

    def _commit_once(self, decide: Decide) -> list[JSON] | None:
        """Append the events that ``decide`` returns for the log, without a retry.

        The log of the last read is tried first: if it is still the newest, the storage accepts the
        events without a read. An error of ``decide`` counts only after a read.
        """
        known: int | None = self._log.seq
        try:
            events = decide(self._log)
        except BoInvertError:
            events = known = None
        if not events and self.read().seq != known:
            events = decide(self._log)
        if events:
            self._append(events)
        return events

    def _append(self, events: list[JSON]) -> None:
        """Append events, with a summary of the log after them if the storage holds summaries."""
        before = self._log.seq
        if self._summarised is None:
            self._store.append(self.name, events, before)
            self._apply(events)
            return

        def summary() -> LogSummary:
            self._apply(events)
            return LogSummary.of(self._log)

        try:
            self._summarised.append(self.name, events, before, summary)
        except BaseException:
            if self._log.seq != before:
                self._log = Log()  # its last events are not stored
            raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Lock the log for writing if the storage supports it."""
        turn = getattr(self._store, "turn", None)
        if turn is None or self._has_turn:
            yield
            return
        with self.lock:
            try:
                with turn(self.name):
                    before, self._has_turn = self._log.seq, True
                    self._crowded = self.read().seq > before
                    yield
            except BaseException as error:
                if isinstance(error, StorageError) or not isinstance(error, BoInvertError):
                    self._log = Log()  # its last events may not be stored
                raise
            finally:
                self._has_turn = False

    def _replaced(self) -> StudyNotFoundError:
        """Return the error for a log that refuses events but has not grown."""
        if self._store.header(self.name).get("id") != self.header.get("id"):
            return StudyNotFoundError(
                f"study {self.name!r} was deleted, and another one of this name created; "
                "open it again"
            )
        return StudyNotFoundError(
            f"study {self.name!r} has lost events: an older copy of it was put back; open it again"
        )


def _fitting(queries: Sequence[Query], left: float) -> list[Query]:
    """Return the queries that fit into the remaining calls.

    A descent at the end is shortened to the calls that are left.
    """
    fitting: list[Query] = []
    for query in queries:
        if query.cost.calls > left:
            if query.descent is None or left < 2:
                break
            query = replace(query, descent=replace(query.descent, steps=int(left // 2)))
        fitting.append(query)
        left -= query.cost.calls
    return fitting
