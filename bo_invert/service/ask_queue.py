"""Queue of the asks of a study, and the worker processes that run its strategy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from bo_invert.domains.constrained_box import FixedValues
from bo_invert.errors import BoInvertError, StorageBusyError
from bo_invert.service.ask_process import ProposalRequest, propose
from bo_invert.service.process_pool import ProcessPool
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.journal_base import LoggedProposal, TakeRequest
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.reader import JournalView
from bo_invert.storage.trial_transitions import Purpose
from bo_invert.types import Trial

_log = logging.getLogger(__name__)

_NICE = 10
"""Steps of POSIX by which the priority of strategies is lower. Engineering choice: reads (5) and
changes (0) are answered first on a busy machine."""
ASK_TIMEOUT = 300.0
"""Seconds until an ask is answered with 504. Engineering choice: fits of large studies take
minutes."""

AskPool = ProcessPool[ProposalRequest, LoggedProposal]


class AskProcesses:
    """Pool of worker processes that run strategies.

    Args:
        url: URL or path of the storage.
        registered: registered problems of the server.
        count: largest number of processes; 0 for a read-only server.
    """

    def __init__(self, url: str | Path, registered: RegisteredProblems, count: int) -> None:
        self.count = count
        self.pool = AskPool(partial(propose, url, registered), count, _NICE)

    def start(self) -> None:
        """Start two processes, so that the ask of another study does not wait for a slow one."""
        self.pool.start(2)

    def stop(self) -> None:
        """Kill the processes; an unfinished ask has written nothing."""
        self.pool.stop()

    def propose(
        self, client: str, journal: Journal, plan: Plan, _: JournalView, count: int
    ) -> LoggedProposal | None:
        """Run the strategy of a study and wait for its answer; see ``ask_process.propose``.

        It runs in a thread of anyio.

        Raises:
            StorageBusyError: the process died.
            BoInvertError: error of the strategy.
        """
        request = ProposalRequest(journal.name, journal.header.get("id"), count, *plan)
        start = time.monotonic()
        try:
            reply = anyio.from_thread.run(self.pool.run, client, journal.name, request)
        except BrokenExecutor:
            raise StorageBusyError(
                "ask: the process of the strategy died and nothing was written; ask again"
            ) from None
        except BoInvertError:
            _log.info("study %r: ask failed after %.2f s", journal.name, time.monotonic() - start)
            raise
        _log.info(
            "study %r: ask took %.2f s for %d queries",
            journal.name,
            time.monotonic() - start,
            0 if reply is None else len(reply.queries),
        )
        return reply


Plan = tuple[int | None, FixedValues, Purpose, float | None]
"""Budget, fixed values, purpose and hope level of an ask."""


@dataclass
class _PendingAsk:
    """Ask that waits for its trials; the future is done early if its request has ended."""

    request: TakeRequest
    budget: int | None
    client: str
    future: asyncio.Future[list[Trial]]

    @property
    def plan(self) -> Plan:
        """Basis of the proposals; one call of the strategy serves asks with the same plan."""
        assignment = self.request.assignment
        return self.budget, assignment.fixed, assignment.purpose, assignment.hope_level

    def resolve(self, trials: list[Trial]) -> None:
        if not self.future.done():
            self.future.set_result(trials)


@dataclass
class AskQueue:
    """Queue of the asks of one study; one call of the strategy serves all that wait.

    Args:
        journal: journal of the study.
        processes: processes that run strategies.
        thread: runs a blocking function in a thread.
    """

    journal: Journal
    processes: AskProcesses
    thread: Callable[..., Awaitable[Any]]
    _waiting: list[_PendingAsk] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """True if no ask waits."""
        return self._task is None or self._task.done()

    async def ask(self, request: TakeRequest, budget: int | None, client: str) -> list[Trial]:
        """Start trials for a client; see ``JournalBase.take``.

        Raises:
            TimeoutError: the strategy took more than ``ASK_TIMEOUT`` seconds; its trials go to the
                next ask.
        """
        ask = _PendingAsk(request, budget, client, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        if self.empty:
            self._task = asyncio.create_task(self._serve())
        return await asyncio.wait_for(ask.future, ASK_TIMEOUT)

    def close(self) -> None:
        """Cancel all waiting asks."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        while self._waiting:
            asks, self._waiting = self._waiting, []
            for plan in dict.fromkeys(ask.plan for ask in asks):
                group = [ask for ask in asks if ask.plan == plan and not ask.future.done()]
                try:
                    await self._resolve(plan, group)
                except Exception as error:
                    for ask in group:
                        if not ask.future.done():
                            ask.future.set_exception(error)

    async def _resolve(self, plan: Plan, group: list[_PendingAsk]) -> None:
        """Resolve asks with ready trials, and the others with one call of the strategy."""
        budget, *_ = plan
        incomplete: list[tuple[_PendingAsk, list[Trial]]] = []
        for ask in group:
            trials, complete = await self.thread(self.journal.take_ready, ask.request, budget)
            if complete:
                ask.resolve(trials)
            else:
                incomplete.append((ask, trials))
        if incomplete:
            requests = [(ask.request, trials) for ask, trials in incomplete]
            strategy = partial(self.processes.propose, incomplete[0][0].client, self.journal, plan)
            # A limiter of its own: asks must not use up the threads that serve other requests.
            answers = await anyio.to_thread.run_sync(
                partial(self.journal.take_asked, strategy, budget, requests),
                limiter=anyio.CapacityLimiter(1),
                abandon_on_cancel=True,
            )
            for (ask, _), trials in zip(incomplete, answers, strict=True):
                ask.resolve(trials)
