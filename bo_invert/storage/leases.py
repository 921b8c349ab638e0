"""Which workers fell silent. No clock is compared with another one, so none can be wrong.

A worker shows itself now and then: its count in the store grows. Whoever watches remembers what the count was, and for
how long, by its own steady clock, it has seen it stand still. Time in which nobody looked (a suspended laptop, a
stopped process) counts as one step at most: a worker that was stopped together with its watcher is given time to wake.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from bo_invert.errors import BoInvertError, StorageError
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.worker_id import is_gone

LEASE = 60.0
"""Seconds that a worker may be silent, as long as nobody says otherwise."""
BEATS_PER_LEASE = 4
"""So many looks, or signs of life, fall into one lease."""


class LeaseMonitor:
    """For how long each worker has been seen to stand still.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._counts: dict[str, int] = {}
        self._silence: dict[str, float] = {}

    def silent(self, beats: Mapping[str, int], leases: Mapping[str, float]) -> set[str]:
        """The workers whose lease is over.

        Args:
            beats: signs of life so far, of each worker that gave any.
            leases: seconds that each worker may be silent.
        """
        now = self._clock()
        passed, self._looked = now - self._looked, now
        silence: dict[str, float] = {}
        for worker, lease in leases.items():
            count = beats.get(worker, 0)
            known = self._counts.get(worker) == count and worker in self._silence
            silence[worker] = (
                self._silence[worker] + min(passed, lease / BEATS_PER_LEASE) if known else 0.0
            )
        self._counts = {worker: beats.get(worker, 0) for worker in leases}
        self._silence = silence
        return {worker for worker, seconds in silence.items() if seconds >= leases[worker]}


def expire_leases(journal: JournalBase, watch: LeaseMonitor) -> None:
    """Give up the attempts of workers that certainly ended, or whose lease is over."""
    leases = journal.leases
    silent = watch.silent(journal.beats(), leases) if leases else set()
    journal.expire(lambda worker: worker in silent or is_gone(worker))


class Heartbeat:
    """Shows, from a thread of its own, that a worker is there; and gives up the work of those that are not.

    Args:
        journal: of the study that is worked on.
        worker: who shows itself.
        lease: seconds that it may be silent.
    """

    def __init__(self, journal: JournalBase, worker: str, lease: float) -> None:
        self._journal = journal
        self._worker = worker
        self._pause = lease / BEATS_PER_LEASE
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="bo-invert-heart", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._journal.beat(self._worker)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        watch = LeaseMonitor()
        while not self._ended.wait(self._pause):
            try:
                self._journal.beat(self._worker)
                expire_leases(self._journal, watch)
            except StorageError:
                continue  # a storage that is busy now may answer the next time; a lease has several
            except BoInvertError:
                return  # the study was deleted: the loop will say so
