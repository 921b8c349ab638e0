"""Read access to the log of one study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from bo_invert.history import Ledger
from bo_invert.storage import trial_transitions as transitions
from bo_invert.storage.base import Store
from bo_invert.storage.log_replay import Log
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
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.header: JSON = store.header(name)
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
        self._apply(self._store.events(self.name, self._log.seq))
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
