"""Asks: who waits for a study's strategy, and the processes in which strategies are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from bo_invert import registry
from bo_invert.errors import StorageBusyError
from bo_invert.service.ask_process import AskWorker, Refused, Wanted
from bo_invert.service.registered_problems import Registered
from bo_invert.storage.journal import Journal
from bo_invert.storage.journal_base import Answer, Propose, TakeRequest
from bo_invert.storage.reader import View
from bo_invert.storage.transitions import Terms
from bo_invert.types import Trial

ASK_LIMIT = 300.0
"""Seconds that an ask may take."""


class Askers:
    """Worker processes that ask strategies, so that the server can answer other requests meanwhile.

    Args:
        url: URL of the storage.
        registered: Problems of the operator.
        count: Number of processes; 0 for a server that only shows studies.
    """

    def __init__(self, url: str, registered: Registered, count: int) -> None:
        self.url = url
        self.count = count
        self._worker = AskWorker(registered)
        self._pool: Executor | None = None

    def start(self) -> None:
        """Start the processes and import what they need."""
        for _ in range(self.count):
            self._executor().submit(self._worker, None)

    def stop(self) -> None:
        """Kill the processes. An unfinished ask has written nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]

    def propose(self, wanted: Wanted) -> Answer | None:
        """Ask the strategy of a study; see ``AskWorker``. Wait for the answer.

        Raises:
            StorageBusyError: The process died.
            BoInvertError: The strategy refused.
        """
        try:
            reply = self._executor().submit(self._worker, wanted).result()
        except BrokenExecutor:
            raise StorageBusyError(
                "ask: the process of the strategy died and nothing was written; ask again"
            ) from None
        if isinstance(reply, Refused):
            raise reply.kind(reply.text)
        return reply

    def _executor(self) -> Executor:
        if self._pool is None:
            self._pool = registry.resolve("executors", "processes")(self.count)
        return self._pool


@dataclass
class _Waiting:
    """A request that waits for its turn."""

    request: TakeRequest
    budget: int | None
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
        self._waiting: list[_Waiting] = []
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
        request = TakeRequest(count, retries, terms, known)
        self._waiting.append(_Waiting(request, budget, answer))
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

    async def _answer(self, budget: int | None, group: list[_Waiting]) -> None:
        """Answer requests from the trials that are ready, and the others with one ask."""
        journal = self._journal
        unmet: list[tuple[_Waiting, list[Trial]]] = []
        for waiting in group:
            trials, complete = await self._thread(journal.take_ready, waiting.request, budget)
            if complete:
                waiting.settle(trials)
            else:
                unmet.append((waiting, trials))
        if not unmet:
            return
        requests = [(waiting.request, trials) for waiting, trials in unmet]
        ask = partial(journal.take_asked, self._propose_for(budget), budget, requests)
        # A thread of its own: threads that wait for strategies must not keep others from the disk.
        answers = await anyio.to_thread.run_sync(
            ask, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True
        )
        for (waiting, _), trials in zip(unmet, answers, strict=True):
            waiting.settle(trials)

    def _propose_for(self, budget: int | None) -> Propose:
        journal, askers = self._journal, self._askers

        def propose(_: View, count: int) -> Answer | None:
            identity = journal.header.get("id")
            return askers.propose(Wanted(askers.url, journal.name, count, budget, identity))

        return propose
