"""Pacing of a run: number of trials asked ahead, and time limits of calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any

_NEGLIGIBLE_ASK = 0.02
"""Ratio of the durations of ask and answer below which trials are not asked ahead.

Engineering choice: workers are then idle for 2 % of the time at most.
"""
_POLL = 0.05
"""Seconds between two checks that a call has started.

Engineering choice: this is the error of a time limit.
"""
_SIGNAL_POLL = 0.5
"""Seconds between two checks for signals. Engineering choice: a short wait after Ctrl-C."""


def wait_for_first(futures: Collection[Future[Any]]) -> set[Future[Any]]:
    """Wait until at least one of the futures is done; return the done ones.

    A signal handler runs once the main thread returns from a wait. A signal just before the wait
    does not end it, so an unlimited wait can miss Ctrl-C.
    """
    done = {future for future in futures if future.done()}
    while not done and futures:
        done = wait(futures, _SIGNAL_POLL, return_when=FIRST_COMPLETED).done
    return done


class Pacing:
    """Number of trials to ask for before a worker is free, so that no worker waits for an ask.

    These trials wait in the queue of the executor and count as pending. A single worker gets none:
    its trial is proposed from all observations.

    With ``w`` workers, asks of ``a`` seconds and answers of ``c`` seconds, ``w a / c`` answers
    arrive during an ask, with a standard deviation of about the square root (Poisson). So
    ``w a / c + sqrt(w a / c)`` trials are asked ahead, at most ``w``.

    Args:
        workers: Number of workers that take calls from a queue; 1 if unknown.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ask: float | None = None
        self._answer: float | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Measure the duration of an ask."""
        began = time.perf_counter()
        yield
        self._ask = _mean(self._ask, time.perf_counter() - began)

    def answered(self, seconds: float) -> None:
        """Record the duration of an answer in seconds."""
        self._answer = _mean(self._answer, seconds)

    @property
    def ahead(self) -> int:
        """Number of trials to ask ahead; 0 if asks are fast."""
        if (
            self._workers == 1
            or self._ask is None
            or not self._answer
            or self._ask < _NEGLIGIBLE_ASK * self._answer
        ):
            return 0
        answered = self._workers * self._ask / self._answer
        return min(self._workers, math.ceil(answered + math.sqrt(answered)))


class TimeLimit:
    """Time limit of calls, each from its own start.

    Args:
        timeout: Seconds; None for no limit.
        begun: Function that is True of a future whose call has started.
    """

    def __init__(self, timeout: float | None, begun: Callable[[Future[Any]], bool]) -> None:
        self.timeout = timeout
        self._has_begun = begun
        self._began: dict[Future[Any], float] = {}

    def wait(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """Wait until a call is done or a limit is reached; return the done ones."""
        if self.timeout is None:
            return wait_for_first(futures)
        now = time.monotonic()
        began = {
            future: self._began.get(future, now) for future in futures if self._has_begun(future)
        }
        self._began = began
        pauses = [self.timeout - (now - at) for at in began.values()]
        if len(began) < len(futures):
            pauses.append(_POLL)
        return wait(futures, max(0.0, min(pauses)), return_when=FIRST_COMPLETED).done

    def expired(self, futures: Collection[Future[Any]]) -> list[Future[Any]]:
        """Return the calls that reached the limit and are not done."""
        if self.timeout is None:
            return []
        now = time.monotonic()
        return [
            f for f in futures if not f.done() and now - self._began.get(f, now) >= self.timeout
        ]


def _mean(before: float | None, now: float) -> float:
    """Return the exponential moving average with weight 0.3 of the newest value."""
    return now if before is None else before + 0.3 * (now - before)
