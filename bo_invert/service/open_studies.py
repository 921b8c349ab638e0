"""Open studies of a server: their journals, ask queues and watchers."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from bo_invert import registry
from bo_invert.domains.constrained_box import stored_domain
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import BoInvertError, StudyNotFoundError
from bo_invert.problems.problem import Problem
from bo_invert.service.ask_queue import AskProcesses, AskQueue
from bo_invert.service.lru_cache import LRUCache, journal_bytes
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.service.remote_requests import RequestPool
from bo_invert.storage.heartbeats import BEATS_PER_LEASE, LeaseMonitor, expire_leases
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.sql import SqlStore
from bo_invert.study.header import no_strategy
from bo_invert.study.retargeting import StudyRetargeting
from bo_invert.types import JSON, Query, Trial

Result = TypeVar("Result")
_HEADER = 5
"""Multiple of its text that a header takes in bytes of memory. Engineering choice: measured with
``sys.getsizeof`` for lists of numbers."""
_TRIAL, _NUMBER = 500, 22
"""Bytes of a trial without its coordinates in a response, and of a number. JSON of a double has at
most 22 characters and a comma."""


@dataclass
class OpenStudy:
    """A stored study in memory.

    Args:
        journal: journal of the study.
        queue: queue of its asks.
        domain: domain of named parameters; None for a latent.
        registered: registered problems of the server.
        watch: liveness of its workers.
        beats: time of the last recorded heartbeat of each worker, in seconds of a monotonic clock.
    """

    journal: Journal
    queue: AskQueue
    domain: Domain | None
    registered: RegisteredProblems
    watch: LeaseMonitor = field(default_factory=LeaseMonitor)
    beats: dict[str, float] = field(default_factory=dict)

    @cached_property
    def why_not(self) -> str:
        """Reason why the study is read-only here; empty if it can continue."""
        return why_not(self.journal.name, self.journal.header, self.registered)

    @cached_property
    def no_problem(self) -> str:
        """Reason why its problem is unknown here; empty if it is known."""
        return self.registered.why_not(self.journal.header, self.journal.name)

    @property
    def bytes(self) -> int:
        """Memory of the study, estimated."""
        return self.header_bytes + journal_bytes(self.journal)

    @cached_property
    def header_bytes(self) -> int:
        """Memory of its header, estimated from its text."""
        return _HEADER * len(json.dumps(self.journal.header))

    @cached_property
    def trial_bytes(self) -> int:
        """Size of a trial in a response, estimated: point, query and named parameters.

        Raises:
            InvalidInputError: the problem cannot be rebuilt.
        """
        domain = self.problem.space.domain
        named = [
            len(name)
            + max((len(str(value)) for value in one.to_json().get("values", ())), default=0)
            for name, one in domain.parameters.items()
        ]
        return _TRIAL + 2 * _NUMBER * domain.dim + sum(named) + _NUMBER * len(named)

    @cached_property
    def problem(self) -> Problem:
        """Problem of the study.

        Raises:
            InvalidInputError: the problem cannot be rebuilt.
        """
        return self.registered.problem_of(self.journal.header, self.journal.name)

    @cached_property
    def results(self) -> StudyRetargeting:
        """Read access with plots, models and inversion.

        Fitted models serve until the log grows. The problem is the registered or declared one;
        without it there are no models.
        """
        problem = None if self.no_problem else self.problem
        return StudyRetargeting(self.journal.name, self.journal, problem)

    def trial(self, number: int) -> Trial:
        """Read a trial from the storage.

        Raises:
            StudyNotFoundError: the study has no trial of this number.
        """
        log = self.journal.read()
        if not 0 <= number < len(log):
            raise StudyNotFoundError(
                f"study {self.journal.name!r} has no trial {number}; it has {len(log)}, from 0"
            )
        return log[number]

    def query(self, number: int) -> Query:
        """Return the query of a trial; reads the storage for unknown trials only.

        Raises:
            StudyNotFoundError: the study has no trial of this number.
        """
        return (self.journal.cached_trial(number) or self.trial(number)).query


class OpenStudies:
    """Studies that the routes share; all methods run on the event loop.

    Functions that read or write the storage run in threads.

    Args:
        store: storage of the studies.
        url: URL or path of the storage, for the ask processes.
        registered: registered problems.
        asking: number of ask processes; 0 for a read-only server.
    """

    def __init__(
        self, store: SqlStore, url: str | Path, registered: RegisteredProblems, asking: int = 1
    ) -> None:
        self.store = store
        self.registered = registered
        self.processes = AskProcesses(url, registered, asking)
        self.reads: RequestPool | None = None
        """Processes that answer GET requests; None to answer them here."""
        self._opened = LRUCache[str, OpenStudy](
            lambda study: study.bytes, lambda study: not study.queue.empty
        )
        self.closing = False
        """True once the server shuts down; ends the live streams."""
        self._threads = anyio.CapacityLimiter(16)

    async def thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a blocking function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._threads)

    def start(self) -> None:
        """Start the processes."""
        self.processes.start()
        if self.reads is not None:
            self.reads.start(self.reads.most)

    def stop(self) -> None:
        """End all processes and cancel waiting asks."""
        for study in self._opened.values():
            study.queue.close()
        self.processes.stop()
        if self.reads is not None:
            self.reads.stop()

    async def open(self, name: str) -> OpenStudy:
        """Return a study, read from the storage if it is not open.

        Raises:
            StudyNotFoundError: no study has this name.
        """
        study = self._opened.use(name)
        if study is None:  # another request may open it at the same time
            study = self._opened.store(name, await self.thread(self._read, name))
        return study

    def forget(self, name: str) -> None:
        """Close a deleted study."""
        self._opened.pop(name, None)

    async def beat(self, study: OpenStudy, worker: str, lease: float, limit: int = 4096) -> None:
        """Record a heartbeat, a few times per lease; remember at most ``limit`` workers."""
        now = time.monotonic()
        if now - study.beats.get(worker, -math.inf) >= lease / BEATS_PER_LEASE:
            if len(study.beats) >= limit:
                study.beats.clear()
            study.beats[worker] = now
            await self.thread(study.journal.beat, worker)

    async def expire_leases(self, interval: float = 1.0) -> None:
        """End the attempts of lost workers in the open studies, every ``interval`` seconds."""
        while self.processes.count:
            await asyncio.sleep(interval)
            for study in [one for one in self._opened.values() if not one.journal.idle]:
                with suppress(BoInvertError):
                    await self.thread(expire_leases, study.journal, study.watch)

    def _read(self, name: str) -> OpenStudy:
        journal = Journal(self.store, name)
        journal.read()
        if self.reads is not None:
            gc.freeze()  # the garbage collector would stop all threads to scan the trials
        queue = AskQueue(journal, self.processes, self.thread)
        domain = stored_domain(journal.header["problem"])
        return OpenStudy(journal, queue, domain, self.registered)


def why_not(name: str, header: JSON, registered: RegisteredProblems) -> str:
    """Return the reason why a stored study is read-only here; empty if it can continue."""
    why = registry.why_missing("strategies", header["strategy"]["name"])
    return no_strategy(name, why) if why else registered.why_not(header, name)
