"""Worker processes on this machine, for oracles that compute in Python. POSIX only."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bo_invert.errors import InvalidInputError
from bo_invert.execution.base import Worker, WorkerPool
from bo_invert.execution.worker_process import WorkerProcess, pack

EXIT_TIMEOUT = 10.0
"""Seconds that an idle worker may take to exit by itself.

Engineering choice: time for the exit handlers of libraries.
"""


@dataclass(frozen=True)
class _Function:
    """A function as the served object of a worker process.

    Errors are results here, so that a future holds the error of the function. The protocol of
    worker processes turns most errors into ``FailedError``.
    """

    fn: Callable[..., Any]

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        try:
            return self.fn(*args, **kwargs), None
        except BaseException as error:
            return None, error


@dataclass(eq=False)
class _Slot:
    """The process of a worker and the function that it serves."""

    process: WorkerProcess
    fn: Callable[..., Any] | None = None


class ProcessExecutor(WorkerPool):
    """Executor with fresh processes, each with one numerical thread.

    A function is sent to each process once, its arguments with every call. A dead process is
    replaced and costs the call that it was running.

    Args:
        workers: Number of processes.

    Raises:
        InvalidInputError: The operating system has no process groups.
    """

    parting = "its process was killed"

    def __init__(self, workers: int) -> None:
        if os.name != "posix":
            raise InvalidInputError(
                "executor 'processes': the operating system must be POSIX. Use 'threads'"
            )
        self._killed = False
        super().__init__(workers)

    def prepare(self, worker: Worker, fn: Callable[..., Any]) -> None:
        slot: _Slot | None = worker.resource
        if slot is not None and not slot.process.alive:
            slot.process.kill()
            slot = None
        if slot is not None and slot.fn is fn:
            return
        packed = pack(_Function(fn))
        if slot is None:
            slot = _Slot(WorkerProcess(threads=1))
            with self._lock:
                worker.resource = slot
                if self._killed:
                    slot.process.strike()
        slot.fn = None
        slot.process.load(packed)
        slot.fn = fn

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        worker.begun = True
        result, error = worker.resource.process.call("__call__", args, kwargs)
        if error is not None:
            raise error
        return result

    def abandon(self, worker: Worker) -> None:
        self.kill(worker)

    def kill(self, worker: Worker) -> None:
        if worker.resource is not None:
            worker.resource.process.strike()

    def release(self, worker: Worker) -> None:
        slot: _Slot | None = worker.resource
        worker.resource = None
        if slot is not None:
            if slot.process.alive:
                slot.process.dismiss()
                slot.process.kill_after(EXIT_TIMEOUT)
            slot.process.kill()

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        self._killed = self._killed or kill_workers
        super().shutdown(wait, cancel_futures=cancel_futures, kill_workers=kill_workers)
