"""Open studies of a server: their journals, ask queues and watchers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from bo_invert import registry
from bo_invert.errors import BoInvertError, StudyNotFoundError
from bo_invert.problems.problem import Problem
from bo_invert.search_domain import Domain, stored_domain
from bo_invert.service.ask_queue import AskProcesses, AskQueue
from bo_invert.service.lru_cache import LRUCache
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.base import Store
from bo_invert.storage.heartbeats import BEATS_PER_LEASE, LeaseMonitor, expire_leases
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.study.header import no_strategy
from bo_invert.types import Query, Trial

Result = TypeVar("Result")


@dataclass
class OpenStudy:
    """A stored study in memory.

    Args:
        journal: journal of the study.
        queue: queue of its asks.
        domain: domain of named parameters; None for a latent.
        no_problem: reason why its problem is unknown here; empty if it is known.
        registered: registered problems of the server.
        watch: liveness of its workers.
        beats: time of the last recorded heartbeat of each worker, in seconds of a monotonic clock.
    """

    journal: Journal
    queue: AskQueue
    domain: Domain | None
    no_problem: str
    registered: RegisteredProblems
    watch: LeaseMonitor = field(default_factory=LeaseMonitor)
    beats: dict[str, float] = field(default_factory=dict)

    @cached_property
    def why_not(self) -> str:
        """Reason why the study is read-only here; empty if it can continue."""
        why = registry.why_missing("strategies", self.journal.header["strategy"]["name"])
        return no_strategy(self.journal.name, why) if why else self.no_problem

    @cached_property
    def problem(self) -> Problem:
        """Problem of the study.

        Raises:
            InvalidInputError: the problem cannot be rebuilt.
        """
        return self.registered.problem_of(self.journal.header, self.journal.name)

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
        self, store: Store, url: str | Path, registered: RegisteredProblems, asking: int = 1
    ) -> None:
        self.store = store
        self.registered = registered
        self.processes = AskProcesses(url, registered, asking)
        self._opened = LRUCache[str, OpenStudy](
            lambda study: study.journal.size, lambda study: not study.queue.empty
        )
        self.closing = False
        """True once the server shuts down; ends the live streams."""
        self._threads = anyio.CapacityLimiter(16)

    async def thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a blocking function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._threads)

    def stop(self) -> None:
        """End the ask processes and cancel waiting asks."""
        for study in self._opened.values():
            study.queue.close()
        self.processes.stop()

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

    async def changes(
        self, name: str, after: int, interval: float = 0.5, keep_alive: float = 15.0
    ) -> AsyncIterator[int | None]:
        """Yield positions of the last event whenever the log grows past ``after``.

        Args:
            name: name of the study.
            after: last known position.
            interval: seconds between reads of the log.
            keep_alive: seconds without change after which None is yielded, so that proxies keep
                the connection open.
        """
        quiet = 0.0
        while not self.closing:
            seq = (await self.thread((await self.open(name)).journal.read)).seq
            quiet += interval
            if seq > after or quiet > keep_alive:
                yield seq if seq > after else None
                after, quiet = max(after, seq), 0.0
            await asyncio.sleep(interval)

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
        queue = AskQueue(journal, self.processes, self.thread)
        domain = stored_domain(journal.header["problem"])
        no_problem = self.registered.why_not(journal.header, name)
        return OpenStudy(journal, queue, domain, no_problem, self.registered)
