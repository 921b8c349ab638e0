"""The studies of a server: their journals, who works on them, who watches them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from bo_invert.errors import BoInvertError
from bo_invert.problems.problem import Problem
from bo_invert.search_domain import Domain, stored_domain
from bo_invert.service.ask_queue import Askers, Line
from bo_invert.service.lru_cache import Kept
from bo_invert.service.registered_problems import Registered
from bo_invert.storage.base import Store
from bo_invert.storage.journal import Journal
from bo_invert.storage.leases import LOOKS, Watch, reap

Result = TypeVar("Result")
_LOOK = 0.5
"""Seconds between looks at a study that somebody watches."""
_SIGNS = 4096
"""Workers of a study that are remembered, at most."""
_QUIET = 15.0
"""Seconds after which a watcher is told that the server is still there."""


@dataclass
class Opened:
    """A study that the server has read.

    Args:
        journal: of it.
        line: who waits for its strategy.
        domain: of named parameters; None in a latent.
        why_not: why it can only be read here; empty where it can be continued.
        signs: when each worker's sign of life was last written down.
    """

    journal: Journal
    line: Line
    domain: Domain | None
    why_not: str
    problem: Problem | None = None
    watch: Watch = field(default_factory=Watch)
    signs: dict[str, float] = field(default_factory=dict)


class Desk:
    """What the routes need. All methods run on the event loop; what reads or writes the storage goes to threads.

    Args:
        store: where the studies live.
        url: of the store, for the processes that ask.
        registered: problems of the operator.
        askers: processes that ask strategies; none where studies are only looked at.
    """

    def __init__(self, store: Store, url: str, registered: Registered, askers: int = 1) -> None:
        self.store = store
        self.registered = registered
        self._askers = Askers(url, registered, askers)
        self._opened = Kept[str, Opened](
            lambda one: one.journal.size, lambda one: not one.line.empty
        )
        self.closing = asyncio.Event()
        self._threads = anyio.CapacityLimiter(16)

    async def thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run something that waits for a disk."""
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._threads)

    def start(self) -> None:
        """Begin the processes that ask."""
        self._askers.start()

    def stop(self) -> None:
        """End them; whoever waits is not answered any more."""
        for opened in self._opened:
            opened.line.close()
        self._askers.stop()

    async def open(self, name: str) -> Opened:
        """A study, read as far as it goes.

        Raises:
            StudyNotFoundError: there is no such study.
        """
        known = self._opened.get(name)
        if known is None:
            read = await self.thread(self._read, name)
            known = self._opened.get(name)  # somebody else may have opened it meanwhile
            if known is None:
                self._opened.put(name, read)
                return read
        return known

    async def problem(self, name: str) -> Problem:
        """The problem of a study, which may take its time to be made.

        Raises:
            InvalidInputError: it cannot be rebuilt here.
            StudyNotFoundError: there is no such study.
        """
        opened = await self.open(name)
        if opened.problem is None:
            opened.problem = await self.thread(
                self.registered.problem_of, opened.journal.header, name
            )
        return opened.problem

    def forget(self, name: str) -> None:
        """A study that is gone."""
        self._opened.pop(name)

    async def beat(self, opened: Opened, worker: str, lease: float) -> None:
        """A sign of life; written down as often as a lease needs it."""
        now, signs = time.monotonic(), opened.signs
        if now - signs.get(worker, -math.inf) < lease / LOOKS:
            return
        if len(signs) >= _SIGNS:
            signs.clear()
        signs[worker] = now
        await self.thread(opened.journal.beat, worker)

    async def changes(self, name: str, after: int) -> AsyncIterator[int | None]:
        """Positions of the log's last event, whenever it has grown past ``after``; None when it has not for long."""
        quiet = 0.0
        while not self.closing.is_set():
            opened = await self.open(name)
            seq = (await self.thread(opened.journal.read)).seq
            quiet += _LOOK
            if seq > after or quiet > _QUIET:
                yield seq if seq > after else None
                after, quiet = max(after, seq), 0.0
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), _LOOK)

    async def reap(self) -> None:
        """Once in a while: give up the attempts of silent workers in the studies that are in use."""
        while self._askers.count:
            await asyncio.sleep(1.0)
            for opened in [opened for opened in self._opened if not opened.journal.idle]:
                with suppress(BoInvertError):
                    await self.thread(reap, opened.journal, opened.watch)

    def _read(self, name: str) -> Opened:
        journal = Journal(self.store, name)
        journal.read()
        domain = stored_domain(journal.header["problem"])
        return Opened(
            journal,
            Line(journal, self._askers, self.thread),
            domain,
            self.registered.why_not(journal.header, name),
        )
