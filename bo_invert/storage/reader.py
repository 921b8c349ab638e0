"""Read access to the log of one study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from bo_invert.errors import StudyDamagedError, StudyNotFoundError
from bo_invert.history import Ledger
from bo_invert.storage import trial_transitions as transitions
from bo_invert.storage.base import Store, damaged_study
from bo_invert.storage.event_validation import EventRules, check_header
from bo_invert.storage.log_replay import Log
from bo_invert.storage.log_summary import LogSummary
from bo_invert.types import JSON, State, Trial

Reader = TypeVar("Reader", bound="JournalReader")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def locked(
    method: Callable[Concatenate[Reader, Arguments], Result],
) -> Callable[Concatenate[Reader, Arguments], Result]:
    """Decorate a method so that it holds the lock of its reader."""

    @wraps(method)
    def call(reader: Reader, /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with reader.lock:
            return method(reader, *arguments, **options)

    return call


INVALID = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors of a log that receives an invalid event."""


class JournalView(NamedTuple):
    """Snapshot of a log at one moment.

    Args:
        trials: All trials in order.
        asks: Number of asks.
        seq: Position of the last event.
        memo: Memo of the last ask.
        room: Calls that can still be committed.
    """

    trials: tuple[Trial, ...]
    asks: int
    seq: int
    memo: JSON
    room: float


class JournalReader:
    """Log of a study, read from a storage on demand. Thread-safe.

    Args:
        store: Storage of the log.
        name: Name of the study.

    Raises:
        StudyNotFoundError: There is no such study.
        StudyDamagedError: The stored header is invalid. Reading the log raises it, too.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.header: JSON = store.header(name)
        try:
            check_header(self.header)
        except ValueError as error:
            raise damaged_study(store, name, None, f"is invalid: {error}") from error
        self._rules = EventRules(self.header, strict=False)
        self._store = store
        self._log = Log()
        self.lock = threading.RLock()

    @property
    def size(self) -> int:
        """Number of trials when the log was last read."""
        return len(self._log)

    @locked
    def read(self) -> Log:
        """Read the new events and return the log. The caller must not change or retain it."""
        events = self._store.events(self.name, self._log.seq)
        for position, event in enumerate(events, self._log.seq + 1):
            try:
                self._rules.check(self._log, event)
                self._apply([event])
            except INVALID as error:
                self._log = Log()  # the event may be half applied
                why = f"is invalid: {type(error).__name__}: {error}"
                raise damaged_study(self._store, self.name, position, why) from error
        return self._log

    def _apply(self, events: Sequence[JSON]) -> None:
        """Apply new events; an interrupted fold starts again from the first event."""
        try:
            self._log.apply(events)
        except BaseException:
            self._log = Log()
            raise

    @locked
    def view(self, budget: int | None) -> JournalView:
        """Return a snapshot of everything that an ask depends on."""
        log = self.read()
        return JournalView(log.trials, log.asks, log.seq, log.memo, room(log, budget))

    @property
    @locked
    def summary(self) -> LogSummary:
        """Summary of the log."""
        return LogSummary.of(self.read())

    @property
    @locked
    def trials(self) -> tuple[Trial, ...]:
        """All trials in order."""
        return self.read().trials

    @property
    @locked
    def best(self) -> Trial | None:
        """Feasible trial of lowest loss; None without one."""
        return self.read().best

    @locked
    def is_over(self, budget: int) -> bool:
        """Return True if a budget is spent and no running trial can be lost."""
        log = self.read()
        return log.calls >= budget and log.committed == log.calls

    @property
    @locked
    def ended(self) -> str:
        """Reason for which a stop rule ended the last run; empty after new trials."""
        return self.read().ended

    @property
    def idle(self) -> bool:
        """True if no trial was running when the log was last read."""
        return not self._log.counts[State.RUNNING]

    @property
    @locked
    def ledger(self) -> Ledger:
        """Costs so far."""
        return self.read().ledger

    @property
    @locked
    def ask_seconds(self) -> list[float]:
        """Duration of each ask in seconds, in order."""
        return list(self.read().ask_seconds)

    def cached_trial(self, number: int) -> Trial | None:
        """Return a trial as of the last read, without a read; None if it is newer."""
        return self._log[number] if 0 <= number < len(self._log) else None

    @property
    @locked
    def running(self) -> list[Trial]:
        """Running trials in order."""
        return self.read().within(State.RUNNING)

    @locked
    def changed(self, since: int, after: int = 0) -> tuple[list[Trial], int]:
        """Return trials that changed, and the position of the last event.

        Args:
            since: Position of the log; trials with a later event are returned.
            after: Smallest number of a trial.
        """
        log = self.read()
        return log.changed(since, after), log.seq

    @locked
    def trial(self, number: int) -> Trial:
        """Return a trial by its number.

        Raises:
            InvalidInputError: There is no such trial.
        """
        return transitions.find(self.read(), number)


def room(log: Log, budget: int | None) -> float:
    """Return the calls of a budget that are neither answered nor committed to open trials."""
    return float("inf") if budget is None else budget - log.committed


def readers(store: Store) -> Iterator[tuple[str, JournalReader | StudyDamagedError]]:
    """Read all studies of a storage; yield each name with its reader, or with its damage."""
    for name in store.names():
        try:
            reader = JournalReader(store, name)
            reader.read()
            yield name, reader
        except StudyDamagedError as error:
            yield name, error
        except StudyNotFoundError:
            if name in store.names():  # else it was deleted meanwhile
                yield name, damaged_study(store, name, None, "cannot be found by its name")
