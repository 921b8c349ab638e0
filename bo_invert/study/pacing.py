"""Time in the loop: how long asking takes beside answering, and how long a call may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any

_FREE = 0.02
"""Asking that takes less than this part of an answer's time leaves workers idle for no longer than that."""
_WEIGHT = 0.3
"""Of the newest duration in a running mean."""
_LOOK = 0.05
"""Seconds between two looks at whether a call has begun."""


class Pacing:
    """How many trials are asked for before anybody is free for them, so that no worker waits for a strategy.

    They wait in the executor's queue, and count as pending for whoever is asked meanwhile. One worker alone gets none:
    it is asked for in the light of all answers.

    Args:
        workers: that take from a queue; 1 where that is not known.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ask: float | None = None
        self._answer: float | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around an ask."""
        began = time.perf_counter()
        yield
        self._ask = _mean(self._ask, time.perf_counter() - began)

    def answered(self, seconds: float) -> None:
        """An answer took so long."""
        self._answer = _mean(self._answer, seconds)

    @property
    def ahead(self) -> int:
        """As many as will be answered while the strategy is asked, and some more, because answers come unevenly (as
        counts do, by their square root); none where asking takes no time.
        """
        if (
            self._workers == 1
            or self._ask is None
            or not self._answer
            or self._ask < _FREE * self._answer
        ):
            return 0
        answered = self._workers * self._ask / self._answer
        return min(self._workers, math.ceil(answered + math.sqrt(answered)))


class TimeLimit:
    """A time limit of calls, each from the moment it begins.

    Args:
        timeout: seconds; None for any time.
        begun: whether a call has begun.
    """

    def __init__(self, timeout: float | None, begun: Callable[[Future[Any]], bool]) -> None:
        self.timeout = timeout
        self._has_begun = begun
        self._began: dict[Future[Any], float] = {}

    def wait(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """Those that are done, as soon as there is one or a limit is reached."""
        if self.timeout is None:
            return wait(futures, return_when=FIRST_COMPLETED).done
        now = time.monotonic()
        began = {
            future: self._began.get(future, now) for future in futures if self._has_begun(future)
        }
        self._began = began
        pauses = [self.timeout - (now - at) for at in began.values()]
        if len(began) < len(futures):
            pauses.append(_LOOK)
        return wait(futures, max(0.0, min(pauses)), return_when=FIRST_COMPLETED).done

    def expired(self, futures: Collection[Future[Any]]) -> list[Future[Any]]:
        """Those that have had their time, and are not done."""
        if self.timeout is None:
            return []
        now = time.monotonic()
        return [
            f for f in futures if not f.done() and now - self._began.get(f, now) >= self.timeout
        ]


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)
