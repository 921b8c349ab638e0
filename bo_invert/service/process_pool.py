"""Worker processes that several clients share fairly.

Each client has at most all processes but one, so that another client never waits for the calls of
the first one alone. A process that served the same study before is preferred, for its cache.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from bo_invert import registry

Request = TypeVar("Request")
Reply = TypeVar("Reply")


@dataclass(eq=False)
class _Process:
    """Executor with one process, and the study that it served last."""

    executor: Executor
    study: str = ""


@dataclass
class ProcessPool(Generic[Request, Reply]):
    """Processes that answer requests with one function. All methods run on the event loop.

    Args:
        serve: function that answers a request; it prepares its process if that is None.
        most: largest number of processes; they start when they are needed.
        nice: steps of POSIX by which their priority is lower.
        executor: returns an executor with one process.
    """

    serve: Callable[[Request | None], Reply | None]
    most: int
    nice: int
    executor: Callable[[], Executor] = lambda: cast(
        Executor, registry.resolve("executors", "processes")(1)
    )
    _idle: list[_Process] = field(default_factory=list)
    _all: list[_Process] = field(default_factory=list)
    _running: Counter[str] = field(default_factory=Counter)
    _waiting: deque[tuple[str, str, asyncio.Future[_Process]]] = field(default_factory=deque)

    def start(self, count: int) -> None:
        """Start processes and prepare them."""
        for _ in range(min(count, self.most)):
            process = self._new()
            process.executor.submit(self.serve, None)
            self._idle.append(process)

    def stop(self) -> None:
        """Kill the processes, and wait for their end."""
        for process in self._all:
            # A killed process holds its locks on the database until it has ended.
            process.executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
        self._all.clear()
        self._idle.clear()
        for *_, turn in self._waiting:
            turn.cancel()

    async def run(self, client: str, study: str, request: Request) -> Reply | None:
        """Answer a request in a process, after the earlier requests of its client.

        Raises:
            BrokenExecutor: the process died.
            Exception: error of the function.
        """
        process = await self._take(client, study)
        future = process.executor.submit(self.serve, request)
        # A process is free once its call has ended, even if nothing waits for the reply.
        loop = asyncio.get_running_loop()
        future.add_done_callback(
            lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._release, client, process)
        )
        return await asyncio.wrap_future(future)

    async def _take(self, client: str, study: str) -> _Process:
        if self._allows(client) and not self._others_wait():
            process = self._choose(study)
            if process is not None:
                self._running[client] += 1
                return process
        turn: asyncio.Future[_Process] = asyncio.get_running_loop().create_future()
        waiting = (client, study, turn)
        self._waiting.append(waiting)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(client, turn.result())
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _release(self, client: str, process: _Process) -> None:
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        if process in self._all:
            self._idle.append(process)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Give free processes to waiting requests, in order, but not beyond a client's share."""
        for waiting in list(self._waiting):
            client, study, turn = waiting
            if turn.done() or not self._allows(client):
                continue
            process = self._choose(study)
            if process is None:
                return
            self._waiting.remove(waiting)
            self._running[client] += 1
            turn.set_result(process)

    def _others_wait(self) -> bool:
        """Return True if a waiting request has a right to the next process."""
        return any(self._allows(client) for client, _, _ in self._waiting)

    def _allows(self, client: str) -> bool:
        return self._running[client] < max(1, self.most - 1)

    def _choose(self, study: str) -> _Process | None:
        """Return a free process, a new one if all are busy; None if there are enough."""
        same = [process for process in self._idle if process.study == study]
        if self._idle:
            process = (same or self._idle)[-1]
            self._idle.remove(process)
        elif len(self._all) < self.most:
            process = self._new()
        else:
            return None
        process.study = study
        return process

    def _new(self) -> _Process:
        process = _Process(self.executor())
        if self.nice:
            process.executor.submit(os.nice, self.nice)
        self._all.append(process)
        return process
