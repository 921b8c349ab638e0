"""Lock that threads get in the order in which they asked for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class FairLock:
    """Mutual exclusion in order of arrival.

    SQLite grants its lock to any process that polls at the right moment, so a writer can wait for
    seconds while others write again and again. The writers of one process queue here first.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Run a block in turn, or out of turn after ``patience`` seconds."""
        mine = self._acquire(patience)
        try:
            yield
        finally:
            if mine:
                self._release()

    def _acquire(self, patience: float) -> bool:
        with self._mutex:
            if not self._held:
                self._held = True
                return True
            signal = threading.Lock()
            signal.acquire()
            self._waiting.append(signal)
        try:
            if signal.acquire(timeout=patience):
                return True
        except BaseException:  # Ctrl-C
            if not self._leave(signal):
                self._release()
            raise
        return not self._leave(signal)

    def _leave(self, signal: threading.Lock) -> bool:
        """Leave the queue; return False if the lock was handed over meanwhile."""
        with self._mutex:
            if signal in self._waiting:
                self._waiting.remove(signal)
                return True
            return False

    def _release(self) -> None:
        """Hand the lock to the thread that has waited longest."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False
