"""The log of one study in a store, read as trials."""

from __future__ import annotations

import threading
from typing import NamedTuple

from bo_invert.storage import transitions
from bo_invert.storage.base import Store
from bo_invert.storage.events import Log
from bo_invert.types import JSON, Ledger, State, Trial


class JournalView(NamedTuple):
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


class JournalReader:
    """What is written of a study, as it stands now. Any number of threads may read one.

    Args:
        store: where it is written.
        name: of the study.

    Raises:
        StudyNotFoundError: there is no such study.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.header: JSON = store.header(name)
        self._store = store
        self._log = Log()
        self._lock = threading.RLock()

    @property
    def size(self) -> int:
        """How many trials there were when the log was last read; nobody is waited for."""
        return len(self._log)

    def read(self) -> Log:
        """The log as it stands now; not to be changed, and not to be kept."""
        with self._lock:
            self._log.apply(self._store.events(self.name, self._log.seq))
            return self._log

    def view(self, budget: int | None) -> JournalView:
        """All that an ask depends on, at one moment."""
        with self._lock:
            log = self.read()
            return JournalView(log.trials, log.asks, log.seq, log.memo, room(log, budget))

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
    def idle(self) -> bool:
        """Whether nothing was under way when the log was last read; nobody is waited for."""
        return not self._log.counts[State.RUNNING]

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

    def cached_trial(self, number: int) -> Trial | None:
        """One trial as it was when the log was last read, without waiting for anybody; None if it was not there."""
        return self._log[number] if 0 <= number < len(self._log) else None

    @property
    def running(self) -> list[Trial]:
        """Trials that somebody has under way, in order."""
        with self._lock:
            return self.read().within(State.RUNNING)

    def changed(self, since: int) -> tuple[list[Trial], int]:
        """The trials that an event behind position ``since`` was about, and the position of the last event."""
        with self._lock:
            log = self.read()
            return log.changed(since), log.seq

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            InvalidInputError: there is none of this number.
        """
        with self._lock:
            return transitions.find(self.read(), number)


def room(log: Log, budget: int | None) -> float:
    """Calls of a budget that are neither answered nor promised to open trials."""
    return float("inf") if budget is None else budget - log.committed
