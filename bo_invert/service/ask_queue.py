"""Queue of the asks of a study, and the worker processes that run its strategy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from bo_invert import registry
from bo_invert.errors import StorageBusyError
from bo_invert.service.ask_process import AskWorker, ProposalError, ProposalRequest
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.journal import Journal
from bo_invert.storage.journal_base import LoggedProposal, Propose, TakeRequest
from bo_invert.storage.reader import JournalView
from bo_invert.types import Trial

_log = logging.getLogger(__name__)

ASK_TIMEOUT = 300.0
"""Seconds until an ask is answered with 504. Engineering choice: fits of large studies take
minutes."""


class AskProcesses:
    """Pool of worker processes that run strategies.

    Args:
        url: URL of the storage.
        registered: registered problems of the server.
        count: number of processes; 0 for a read-only server.
    """

    def __init__(self, url: str, registered: RegisteredProblems, count: int) -> None:
        self.url = url
        self.count = count
        self._worker = AskWorker(registered)
        self._pool: Executor | None = None

    def start(self) -> None:
        """Start the processes and import the surrogate in each."""
        for _ in range(self.count):
            self._executor().submit(self._worker, None)

    def stop(self) -> None:
        """Kill the processes; an unfinished ask has written nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]

    def propose(self, request: ProposalRequest) -> LoggedProposal | None:
        """Run the strategy of a study and wait for its answer; see ``AskWorker``.

        Raises:
            StorageBusyError: the process died.
            BoInvertError: error of the strategy.
        """
        start = time.monotonic()
        try:
            reply = self._executor().submit(self._worker, request).result()
        except BrokenExecutor:
            raise StorageBusyError(
                "ask: the process of the strategy died and nothing was written; ask again"
            ) from None
        seconds = time.monotonic() - start
        if isinstance(reply, ProposalError):
            _log.info("study %r: ask failed after %.2f s", request.study, seconds)
            raise reply.kind(reply.text)
        queries = 0 if reply is None else len(reply.queries)
        _log.info("study %r: ask took %.2f s for %d queries", request.study, seconds, queries)
        return reply

    def _executor(self) -> Executor:
        if self._pool is None:
            self._pool = registry.resolve("executors", "processes")(self.count)
        return self._pool


@dataclass
class _PendingAsk:
    """Ask that waits for its trials."""

    request: TakeRequest
    budget: int | None
    trials: asyncio.Future[list[Trial]]

    def resolve(self, trials: list[Trial]) -> None:
        if not self.trials.done():
            self.trials.set_result(trials)


class AskQueue:
    """Queue of the asks of one study; one call of the strategy serves all that wait.

    Args:
        journal: journal of the study.
        processes: processes that run strategies.
        thread: runs a blocking function in a thread.
    """

    def __init__(
        self, journal: Journal, processes: AskProcesses, thread: Callable[..., Awaitable[Any]]
    ) -> None:
        self._journal = journal
        self._processes = processes
        self._thread = thread
        self._waiting: list[_PendingAsk] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """True if no ask waits."""
        return self._task is None or self._task.done()

    async def ask(self, request: TakeRequest, budget: int | None) -> list[Trial]:
        """Start trials; see ``JournalBase.take``.

        Raises:
            TimeoutError: the strategy took more than ``ASK_TIMEOUT`` seconds; its trials go to the
                next ask.
        """
        trials: asyncio.Future[list[Trial]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_PendingAsk(request, budget, trials))
        if self.empty:
            self._task = asyncio.create_task(self._serve())
        return await asyncio.wait_for(trials, ASK_TIMEOUT)

    def close(self) -> None:
        """Cancel all waiting asks."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        while self._waiting:
            asks, self._waiting = self._waiting, []
            for budget in dict.fromkeys(ask.budget for ask in asks):
                group = [ask for ask in asks if ask.budget == budget and not ask.trials.done()]
                try:
                    await self._resolve(budget, group)
                except Exception as error:
                    for ask in group:
                        if not ask.trials.done():
                            ask.trials.set_exception(error)

    async def _resolve(self, budget: int | None, group: list[_PendingAsk]) -> None:
        """Resolve asks with ready trials, and the others with one call of the strategy."""
        journal = self._journal
        incomplete: list[tuple[_PendingAsk, list[Trial]]] = []
        for ask in group:
            trials, complete = await self._thread(journal.take_ready, ask.request, budget)
            if complete:
                ask.resolve(trials)
            else:
                incomplete.append((ask, trials))
        if not incomplete:
            return
        requests = [(ask.request, trials) for ask, trials in incomplete]
        take = partial(journal.take_asked, self._propose_for(budget), budget, requests)
        # A limiter of its own: asks must not use up the threads that read and write the storage.
        answers = await anyio.to_thread.run_sync(
            take, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True
        )
        for (ask, _), trials in zip(incomplete, answers, strict=True):
            ask.resolve(trials)

    def _propose_for(self, budget: int | None) -> Propose:
        journal, processes = self._journal, self._processes

        def propose(_: JournalView, count: int) -> LoggedProposal | None:
            identity = journal.header.get("id")
            request = ProposalRequest(processes.url, journal.name, count, budget, identity)
            return processes.propose(request)

        return propose
