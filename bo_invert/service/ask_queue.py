"""Asks: who waits for a study's strategy, and the processes in which strategies are asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from bo_invert.errors import StorageBusyError
from bo_invert.service import ask_process as proposing
from bo_invert.service.registered_problems import Registered
from bo_invert.storage.journal import Journal
from bo_invert.storage.transitions import Terms
from bo_invert.types import Trial

ASK_LIMIT = 300.0
"""Seconds that an ask may take."""
_TRIES = 100
"""So often is an ask computed anew when somebody else's came first."""


class Askers:
    """The processes that ask strategies, so that the server can answer others meanwhile.

    Args:
        url: of the storage.
        registered: problems of the operator.
        count: of the processes; none where studies are only looked at.
    """

    def __init__(self, url: str, registered: Registered, count: int) -> None:
        self.url = url
        self.count = count
        self._registered = registered
        self._pool: Executor | None = None

    def start(self) -> None:
        """Let them import what they need."""
        if self.count:
            self._executor().submit(proposing.warm)

    def stop(self) -> None:
        """End them, whatever they do: an unfinished ask has written nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list(getattr(pool, "_processes", {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()

    async def propose(self, wanted: proposing.Wanted) -> Any:
        """See ``proposing.propose``.

        Raises:
            StorageBusyError: the process has died.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor(), proposing.propose, wanted)
        except BrokenProcessPool:
            self._pool = None
            raise StorageBusyError(
                "the process that asked the strategy has died; nothing was written, ask again"
            ) from None

    def _executor(self) -> Executor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.count,
                mp_context=get_context("spawn"),
                initializer=proposing.begin,
                initargs=(os.getpid(), self._registered),
            )
        return self._pool


@dataclass
class _Request:
    """An ask that waits for its turn."""

    count: int
    budget: int | None
    retries: int
    terms: Terms
    known: Collection[int] | None
    answer: asyncio.Future[list[Trial]]

    def settle(self, trials: list[Trial]) -> None:
        if not self.answer.done():
            self.answer.set_result(trials)


class Line:
    """Those who wait for the strategy of one study. Whoever waits at the same time is answered by one ask.

    Args:
        journal: of the study.
        askers: who asks.
        thread: runs what waits for a disk.
    """

    def __init__(
        self, journal: Journal, askers: Askers, thread: Callable[..., Awaitable[Any]]
    ) -> None:
        self._journal = journal
        self._askers = askers
        self._thread = thread
        self._waiting: list[_Request] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether nobody waits."""
        return self._task is None or self._task.done()

    async def ask(
        self,
        count: int,
        budget: int | None,
        retries: int,
        terms: Terms,
        known: Collection[int] | None,
    ) -> list[Trial]:
        """Trials for somebody; see ``Verbs.take``.

        Raises:
            TimeoutError: the strategy took too long; what it proposes will be there for the next request.
        """
        answer: asyncio.Future[list[Trial]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(count, budget, retries, terms, known, answer))
        if self.empty:
            self._task = asyncio.create_task(self._serve())
        return await asyncio.wait_for(answer, ASK_LIMIT)

    def close(self) -> None:
        """Nobody is answered any more."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        while self._waiting:
            requests, self._waiting = self._waiting, []
            for budget in dict.fromkeys(request.budget for request in requests):
                group = [
                    request
                    for request in requests
                    if request.budget == budget and not request.answer.done()
                ]
                try:
                    await self._answer(budget, group)
                except Exception as error:
                    for request in group:
                        if not request.answer.done():
                            request.answer.set_exception(error)

    async def _answer(self, budget: int | None, group: list[_Request]) -> None:
        """Give each what waits for it, and the rest of what they want from one ask."""
        journal = self._journal
        unmet: list[tuple[_Request, list[Trial]]] = []
        for request in group:
            done, given = await self._thread(_at_hand, journal, budget, request)
            if done:
                request.settle(given)
            else:
                unmet.append((request, given))
        for _ in range(_TRIES if unmet else 0):
            wanted = sum(request.count - len(given) for request, given in unmet)
            identity = journal.header.get("id")
            reply = await self._askers.propose(
                proposing.Wanted(self._askers.url, journal.name, wanted, budget, identity)
            )
            if isinstance(reply, proposing.Refused):
                raise reply.kind(reply.text)
            begun: list[Trial] | None = []
            if reply is not None:
                answer, seconds = reply
                parts = [(request.count - len(given), request.terms) for request, given in unmet]
                begun = await self._thread(journal.asked, answer, budget, seconds, parts)
            if begun is None:
                continue  # somebody else's ask came first: this one is computed anew
            rest = list(begun)
            for request, given in unmet:
                count = request.count - len(given)
                request.settle([*given, *rest[:count]])
                rest = rest[count:]
            return
        if unmet:
            raise StorageBusyError(
                f"others asked first {_TRIES} times; nothing was written, ask again"
            )


def _at_hand(journal: Journal, budget: int | None, request: _Request) -> tuple[bool, list[Trial]]:
    """What needs no strategy, and whether that is all: what this request was answered before, and what waits."""
    before = journal.answered(request.terms)
    if before is not None:
        return True, before
    given = journal.waiting(request.count, budget, request.retries, request.terms, request.known)
    return len(given) == request.count, given
