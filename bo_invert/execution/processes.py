"""Worker processes on this machine, for oracles that compute in Python. POSIX only."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from bo_invert.errors import require
from bo_invert.execution.base import Worker, WorkerPool, attempt
from bo_invert.execution.supervised_process import WorkerProcess, pack

EXIT_TIMEOUT = 10.0
"""Seconds that an idle worker may take to exit by itself.

Engineering choice: time for the exit handlers of libraries.
"""


def _attempted(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call a function in a worker process.

    Errors are results here, so that a future holds the error of the function. The protocol of
    worker processes turns most errors into ``FailedError``.
    """
    return attempt(fn, *args, **kwargs)


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
        require(
            os.name == "posix",
            "executor 'processes': the operating system must be POSIX. Use 'threads'",
        )
        super().__init__(workers)

    def prepare(self, worker: Worker, fn: Callable[..., Any]) -> None:
        process: WorkerProcess | None = worker.resource
        if process is not None and not process.alive:
            process.kill()
            process = None
        if process is not None and process.served is fn:
            return
        packed = pack(partial(_attempted, fn))
        if process is None:
            process = WorkerProcess(threads=1)
            with self._lock:
                worker.resource = process
                if self._killed:
                    process.strike()
        process.load(packed)
        process.served = fn

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        worker.begun = True
        result, error = worker.resource.call("__call__", args, kwargs)
        if error is not None:
            raise error
        return result

    def abandon(self, worker: Worker) -> None:
        self.kill(worker)

    def kill(self, worker: Worker) -> None:
        if worker.resource is not None:
            worker.resource.strike()

    def release(self, worker: Worker) -> None:
        process: WorkerProcess | None = worker.resource
        if process is not None:
            process.dismiss()
            process.wait(EXIT_TIMEOUT)
            process.kill()
