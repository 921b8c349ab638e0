"""What can be done with a study, wherever its log is written: here, or by a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bo_invert.storage.base import Store
from bo_invert.storage.reader import JournalReader, JournalView
from bo_invert.storage.transitions import Assignment
from bo_invert.storage.worker_id import new_worker
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial


@dataclass(frozen=True)
class LoggedProposal:
    """What a strategy answered.

    Args:
        queries: at most as many as were wanted.
        memo: for the next ask.
        ask: number of the ask that it answers.
        seen: position of the last event that the strategy knew of.
        seconds: duration of the ask.
    """

    queries: tuple[Query, ...]
    memo: JSON
    ask: int
    seen: int
    seconds: float


Propose = Callable[[JournalView, int], LoggedProposal | None]
"""Function that asks a strategy for a number of queries; None if the budget is spent."""


@dataclass(frozen=True)
class TakeRequest:
    """Request for trials; see ``JournalBase.take``."""

    count: int
    retries: int = 0
    assignment: Assignment = Assignment()  # noqa: RUF009  (frozen)
    known: Collection[int] | None = None


class JournalBase(JournalReader, ABC):
    """A study that can be asked and told.

    Attributes:
        worker: name of those who evaluate trials through this object.
        under_way: numbers of the trials that they evaluate now.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        self.worker = new_worker()
        self.under_way: set[int] = set()

    @abstractmethod
    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        """Start up to ``count`` trials: what their worker left unfinished, what waits, then newly asked ones.

        Args:
            propose: asks the strategy, where that is done here.
            count: how many, at least 1.
            budget: calls the whole study may spend.
            retries: how often a failed trial is tried again.
            assignment: for whom.
            known: numbers of running trials that the worker knows to be its own; others of its own are given to it
                again. None if it knows them all.
        """

    @abstractmethod
    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        """JournalReader an outcome; the same one again changes nothing.

        What a superseded worker found is kept as a trial of its own (origin ``"late"``) and billed no further. Of a
        lost trial that nobody has begun again it is the outcome.

        Args:
            number: of the trial.
            outcome: what came of it.
            attempt: which attempt it is the outcome of, from 0: the fencing token of a worker. None for the latest.

        Returns:
            The trial, or the one that holds the late outcome.

        Raises:
            TellConflictError: the attempt already has another outcome, or (without ``attempt``) the trial was cancelled.
            InvalidInputError: there is no such trial or attempt.
        """

    @abstractmethod
    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        """Trials with outcomes known from elsewhere."""

    @abstractmethod
    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        """A trial proposed by the user."""

    @abstractmethod
    def cancel(self, number: int, reason: str) -> Trial:
        """Give up an open trial; a running attempt is billed as lost.

        Raises:
            TellConflictError: it already has an outcome.
        """

    @abstractmethod
    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        """Give an attempt back that will not be finished; the trial waits for somebody else.

        An attempt that has ended already, or was superseded, is left as it is.

        Args:
            number: of the trial.
            attempt: which one, from 0.
            cost: what it has cost; nothing if the oracle was not called.
        """

    @abstractmethod
    def expire(self, gone: Callable[[str], bool]) -> None:
        """Bill the attempts of workers that disappeared; their trials wait to be issued again, or are given up."""

    @abstractmethod
    def abandon(self, numbers: set[int]) -> None:
        """Bill the running attempts at these trials as lost; the trials wait to be issued again."""

    @abstractmethod
    def beat(self, worker: str) -> None:
        """Show that a worker is still there."""

    @abstractmethod
    def beats(self) -> dict[str, int]:
        """How often each worker has shown itself; none where somebody else watches."""

    @property
    @abstractmethod
    def leases(self) -> dict[str, float]:
        """Seconds that each worker with running trials may be silent; none where somebody else watches."""

    def shorten_timeouts(self) -> None:
        """From now on, do not wait long for a storage or a server that does not answer."""
        hurry = getattr(self._store, "shorten_timeouts", None)
        if hurry is not None:
            hurry()

    def reclaim(self) -> None:
        """Bill as lost what was begun through this object and could not be given back when that failed."""
        self.abandon(
            {trial.number for trial in self.running_of(self.worker, frozenset(self.under_way))}
        )

    def running_of(self, worker: str, known: Collection[int]) -> list[Trial]:
        """Trials that a worker has under way, without those that it knows of."""
        with self._lock:
            running = self.read().within(State.RUNNING)
            return [
                trial
                for trial in running
                if trial.attempts[-1].worker == worker and trial.number not in known
            ]
