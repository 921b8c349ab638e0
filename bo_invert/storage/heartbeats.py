"""Worker liveness from heartbeats: leases, heartbeats, and loss of the trials of dead workers.

The storage counts the heartbeats of each worker. A monitor measures with its own monotonic clock
how long a count stands still, so clocks of different machines are never compared. Time during
which the monitor itself did not run (a suspended laptop) counts as one interval at most. A worker
that was suspended with its monitor therefore has time to resume.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bo_invert.errors import BoInvertError, StorageError
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.worker_id import is_gone, is_unseen

_log = logging.getLogger(__name__)
LEASE = 60.0
"""Default lease in seconds. Engineering choice: above the default ``patience`` of storages, so
that one locked database does not cost a trial.
"""
BEATS_PER_LEASE = 4
"""Number of heartbeats per lease. Engineering choice: three of them can fail before
the lease ends.
"""


class LeaseMonitor:
    """Measurement of the time since the last heartbeat of each worker.

    Args:
        clock: Monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._silence: dict[str, tuple[int, float]] = {}  # heartbeats, seconds since the last one

    def expired(self, beats: Mapping[str, int], leases: Mapping[str, float]) -> set[str]:
        """Return the workers whose lease has ended.

        Args:
            beats: Number of heartbeats of each worker so far.
            leases: Lease of each worker in seconds.
        """
        now = self._clock()
        passed, self._looked = now - self._looked, now
        silence: dict[str, tuple[int, float]] = {}
        for worker, lease in leases.items():
            count = beats.get(worker, 0)
            known, seconds = self._silence.get(worker, (None, 0.0))
            longer = seconds + min(passed, lease / BEATS_PER_LEASE)
            silence[worker] = (count, longer if known == count else 0.0)
        self._silence = silence
        return {worker for worker, (_, seconds) in silence.items() if seconds >= leases[worker]}


def expire_leases(journal: JournalBase, monitor: LeaseMonitor) -> None:
    """End the attempts of workers whose process ended or whose lease ended."""
    leases = journal.leases
    expired = monitor.expired(journal.beats(), leases) if leases else set()
    for worker in expired:
        _log.warning("study %r: the lease of worker %s ended", journal.name, worker)
    journal.expire(lambda worker: worker in expired or is_gone(worker))


def silent_workers(journal: JournalBase, beats: Mapping[str, int]) -> list[str]:
    """Return the other workers with running trials that may have died meanwhile.

    Workers of imported studies never sent a heartbeat to this storage and are left out.

    Args:
        journal: Journal of the study.
        beats: Number of heartbeats of each worker at an earlier time.
    """
    now = journal.beats()
    return [
        worker
        for worker in journal.leases
        if worker != journal.worker
        and is_unseen(worker)
        and now.get(worker) == beats.get(worker, -1)
    ]


@contextmanager
def heartbeat(journal: JournalBase, worker: str, lease: float) -> Iterator[None]:
    """Send the heartbeats of a worker from a thread, which also ends the leases of others.

    Args:
        journal: Journal of the study.
        worker: Name of the worker.
        lease: Lease of the worker in seconds.
    """
    ended = threading.Event()

    def beat() -> None:
        monitor = LeaseMonitor()
        while not ended.wait(lease / BEATS_PER_LEASE):
            try:
                journal.beat(worker)
                expire_leases(journal, monitor)
            except StorageError:
                continue  # the next heartbeat is soon enough
            except BoInvertError:
                return  # the study was deleted; the loop raises the error

    thread = threading.Thread(target=beat, name="bo-invert-heartbeat", daemon=True)
    journal.beat(worker)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
