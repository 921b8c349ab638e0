"""The studies of a server: their journals, their asks, who watches them."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from bo_invert.decisions import Terms
from bo_invert.domain import Domain, box_domain
from bo_invert.errors import BoInvertError, StorageBusy
from bo_invert.journal import Journal
from bo_invert.leases import LOOKS, Watch, reap
from bo_invert.parameters import parameter_from_json
from bo_invert.problem import Problem
from bo_invert.service import proposing
from bo_invert.service.registered import Registered
from bo_invert.stores.base import Store
from bo_invert.types import Trial

Result = TypeVar("Result")
_KEPT = 256
"""Studies whose logs the server keeps in memory."""
_LOOK = 0.5
"""Seconds between looks at a study that somebody watches."""
_TRIES = 100
"""So often is an ask computed anew when somebody else's came first."""
_SIGNS = 4096
"""Workers of a study that are remembered, at most."""
_QUIET = 15.0
"""Seconds after which a watcher is told that the server is still there."""
ASK_LIMIT = 300.0
"""Seconds that an ask may take."""


@dataclass
class _Request:
    """An ask that waits for its turn."""

    count: int
    budget: int | None
    retries: int
    terms: Terms
    known: Collection[int] | None
    answer: asyncio.Future[list[Trial]]


@dataclass
class Opened:
    """A study that the server has read.

    Args:
        journal: of it.
        domain: of named parameters; None in a latent.
        why_not: why it can only be read here; empty where it can be continued.
        signs: when each worker's sign of life was last written down.
    """

    journal: Journal
    domain: Domain | None
    why_not: str
    problem: Problem | None = None
    watch: Watch = field(default_factory=Watch)
    waiting: list[_Request] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
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
        self._url = url
        self._askers = askers
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._pool: Executor | None = None
        self.closing = asyncio.Event()
        self._threads = anyio.CapacityLimiter(16)

    async def thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run something that waits for a disk."""
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._threads)

    def start(self) -> None:
        """Begin the processes that ask, and let them import what they need."""
        if self._askers:
            self._executor().submit(proposing.warm)

    def stop(self) -> None:
        """End them, whatever they do: an unfinished ask has written nothing."""
        pool, self._pool = self._pool, None
        for opened in self._opened.values():
            if opened.task is not None:
                opened.task.cancel()
        if pool is not None:
            processes = list(getattr(pool, "_processes", {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()

    async def open(self, name: str) -> Opened:
        """A study, read as far as it goes.

        Raises:
            StudyNotFound: there is no such study.
        """
        known = self._opened.get(name)
        if known is None:
            known = await self.thread(self._read, name)
            known = self._opened.setdefault(name, known)
            for old in [n for n, o in self._opened.items() if o.task is None][: max(0, len(self._opened) - _KEPT)]:
                del self._opened[old]
        self._opened.move_to_end(name)
        return known

    async def problem(self, name: str) -> Problem:
        """The problem of a study, which may take its time to be made.

        Raises:
            InvalidInput: it cannot be rebuilt here.
            StudyNotFound: there is no such study.
        """
        opened = await self.open(name)
        if opened.problem is None:
            opened.problem = await self.thread(self.registered.problem_of, opened.journal.header, name)
        return opened.problem

    def forget(self, name: str) -> None:
        """A study that is gone."""
        self._opened.pop(name, None)

    async def ask(
        self,
        name: str,
        count: int,
        budget: int | None,
        retries: int,
        terms: Terms,
        known: Collection[int] | None,
    ) -> list[Trial]:
        """Trials for somebody; see ``Verbs.take``. Requests that wait for one study are answered together.

        Raises:
            TimeoutError: the strategy took too long; what it proposes will be there for the next request.
        """
        opened = await self.open(name)
        answer: asyncio.Future[list[Trial]] = asyncio.get_running_loop().create_future()
        opened.waiting.append(_Request(count, budget, retries, terms, known, answer))
        if opened.task is None or opened.task.done():
            opened.task = asyncio.create_task(self._serve(name, opened))
        return await asyncio.wait_for(answer, ASK_LIMIT)

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
        while self._askers:
            await asyncio.sleep(1.0)
            for opened in list(self._opened.values()):
                with suppress(BoInvertError):
                    await self.thread(reap, opened.journal, opened.watch)

    def _read(self, name: str) -> Opened:
        journal = Journal(self.store, name)
        journal.read()
        space = journal.header["problem"]["space"]
        known = space.get("domain", {}).get("parameters")
        domain = box_domain({key: parameter_from_json(one) for key, one in known.items()}) if known else None
        return Opened(journal, domain, self.registered.why_not(journal.header, name))

    async def _serve(self, name: str, opened: Opened) -> None:
        """Answer the requests of one study until none are left."""
        while opened.waiting:
            requests, opened.waiting = opened.waiting, []
            for budget in dict.fromkeys(request.budget for request in requests):
                group = [request for request in requests if request.budget == budget and not request.answer.done()]
                try:
                    await self._answer(name, opened, budget, group)
                except Exception as error:
                    for request in group:
                        if not request.answer.done():
                            request.answer.set_exception(error)

    async def _answer(self, name: str, opened: Opened, budget: int | None, group: list[_Request]) -> None:
        journal = opened.journal
        unmet: list[tuple[_Request, list[Trial]]] = []
        for request in group:
            given = await self.thread(journal.answered, request.terms)
            if given is None:
                given = await self.thread(
                    journal.waiting, request.count, budget, request.retries, request.terms, request.known
                )
                if len(given) < request.count:
                    unmet.append((request, given))
                    continue
            _settle(request, given)
        if not unmet:
            return
        for _ in range(_TRIES):
            wanted = sum(request.count - len(given) for request, given in unmet)
            reply = await self._proposed(proposing.Wanted(self._url, name, wanted, budget, journal.header.get("id")))
            if isinstance(reply, proposing.Refused):
                raise reply.kind(reply.text)
            begun: list[Trial] | None = []
            if reply is not None:
                answer, seconds = reply
                parts = [(request.count - len(given), request.terms) for request, given in unmet]
                begun = await self.thread(journal.asked, answer, budget, seconds, parts)
            if begun is None:
                continue  # somebody else's ask came first: this one is computed anew
            rest = list(begun)
            for request, given in unmet:
                count = request.count - len(given)
                _settle(request, [*given, *rest[:count]])
                rest = rest[count:]
            return
        raise StorageBusy(f"others asked first {_TRIES} times; nothing was written, ask again")

    async def _proposed(self, wanted: proposing.Wanted) -> Any:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor(), proposing.propose, wanted)
        except BrokenProcessPool:
            self._pool = None
            raise StorageBusy("the process that asked the strategy has died; nothing was written, ask again") from None

    def _executor(self) -> Executor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._askers,
                mp_context=get_context("spawn"),
                initializer=proposing.begin,
                initargs=(os.getpid(), self.registered),
            )
        return self._pool


def _settle(request: _Request, trials: list[Trial]) -> None:
    if not request.answer.done():
        request.answer.set_result(trials)
