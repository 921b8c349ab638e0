"""Operations on a study, for a local log and for a server."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bo_invert.storage.base import Store
from bo_invert.storage.reader import JournalReader, JournalView
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.storage.worker_id import new_worker
from bo_invert.types import JSON, Cost, Outcome, Query, Trial


@dataclass(frozen=True)
class LoggedProposal:
    """Proposal of a strategy and the state of the log that it was computed from.

    Args:
        queries: Proposed queries, at most the requested number.
        memo: Memo for the next ask.
        ask: Number of the ask.
        seen: Position of the last event that the strategy knew.
        seconds: Duration of the ask.
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
    """Log of a study with the operations that change it.

    Attributes:
        under_way: Numbers of the trials that its worker evaluates now.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        self._worker = (os.getpid(), new_worker())
        self.under_way: set[int] = set()

    @property
    def worker(self) -> str:
        """Name of the worker that evaluates trials through this object; another one after a fork.

        A forked process must not end the attempts of its parent.
        """
        if self._worker[0] != os.getpid():
            self._worker = (os.getpid(), new_worker())
        return self._worker[1]

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
        """Start trials: those of the worker that it lost, waiting ones, then proposed ones.

        Args:
            propose: Function that asks the strategy, for a log that is written here.
            count: Number of trials, at least 1.
            budget: Calls that the whole study may spend.
            retries: Number of retries of a failed trial.
            assignment: Worker and request.
            known: Numbers of the running trials that the worker knows. It receives its other
                running trials again. None if it knows them all.

        Returns:
            At most ``count`` trials.

        Raises:
            StudyPausedError: Too many workers died during a waiting trial.
        """

    @abstractmethod
    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        """Record an outcome. Recording it again changes nothing.

        The outcome of a superseded attempt becomes a trial of its own (origin ``"late"``) that is
        not billed again. A lost trial that was not restarted gets the outcome itself.

        Args:
            number: Number of the trial.
            outcome: Its outcome.
            attempt: Number of the attempt from 0, the fencing token of a worker. Default: the
                latest attempt.

        Returns:
            The trial, or the one with the late outcome.

        Raises:
            TellConflictError: The attempt has another outcome, or (without ``attempt``) the trial
                was cancelled.
            InvalidInputError: There is no such trial or attempt.
        """

    @abstractmethod
    def amend(
        self, number: int, outcome: Outcome, reason: str, revision: int | None = None
    ) -> Trial:
        """Replace the outcome of a trial; the log retains the former one.

        Args:
            number: Number of the trial.
            outcome: Corrected outcome, with the cost of the former one.
            reason: Reason of the user.
            revision: Number of corrections that the user knows of; None for all.

        Raises:
            TellConflictError: The trial has no outcome, or another worker amended it meanwhile.
            InvalidInputError: There is no such trial.
        """

    @abstractmethod
    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        """Add trials with known outcomes and return them."""

    @abstractmethod
    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        """Add a query of the user and return its trial."""

    @abstractmethod
    def cancel(self, number: int, reason: str) -> Trial:
        """Cancel an open trial; a running attempt is billed as lost.

        Raises:
            TellConflictError: The trial has an outcome.
        """

    @abstractmethod
    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        """Return an attempt without an outcome; the trial waits for another worker.

        An attempt that has ended or was superseded does not change.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt from 0.
            cost: Cost so far; zero if the oracle was not called.
        """

    @abstractmethod
    def expire(self, gone: Callable[[str], bool]) -> None:
        """End the attempts of workers that disappeared, and bill them as lost.

        The trials wait to be started again. After too many such losses the study pauses.

        Args:
            gone: Function that is True of a worker that disappeared.
        """

    @abstractmethod
    def abandon(self, numbers: set[int]) -> None:
        """End the running attempts at these trials, and bill them as lost.

        The worker itself ends them, so they do not count as deaths.
        """

    @abstractmethod
    def retry(self, number: int) -> Trial:
        """Let a lost trial run again after the deaths of too many workers.

        Raises:
            TellConflictError: The trial is not lost.
        """

    @abstractmethod
    def end(self, reason: str) -> None:
        """Record why a stop rule ended a run. The same reason again changes nothing."""

    def predict(self, request: JSON) -> JSON:
        """Return predictions of the server that holds the log; None for a local log."""
        return None

    def beat(self, worker: str) -> None:
        """Record a heartbeat of a worker."""
        self._store.beat(self.name, worker)

    def beats(self) -> dict[str, int]:
        """Return the number of heartbeats of each worker; empty if a server monitors them."""
        return self._store.beats(self.name)

    @property
    @abstractmethod
    def leases(self) -> dict[str, float]:
        """Lease in seconds of each worker with running trials; empty if a server monitors them."""

    def shorten_timeouts(self) -> None:
        """Wait only briefly for a server from now on."""

    def reclaim(self) -> None:
        """End the attempts of this worker that a failed run could not return."""
        self.abandon(
            {trial.number for trial in self.running_of(self.worker, frozenset(self.under_way))}
        )

    def running_of(self, worker: str, known: Collection[int]) -> list[Trial]:
        """Return the running trials of a worker.

        Args:
            worker: Name of the worker.
            known: Numbers of trials to leave out.
        """
        return [
            trial
            for trial in self.running
            if trial.attempts[-1].worker == worker and trial.number not in known
        ]
