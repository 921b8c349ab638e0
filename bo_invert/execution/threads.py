"""Threads of this process, for oracles that wait or that release the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bo_invert.execution.base import Worker, WorkerPool


class ThreadExecutor(WorkerPool):
    """Executor with threads of this process.

    A thread cannot be killed: an abandoned call continues, and its result is ignored.

    Args:
        workers: Number of threads.
    """

    parting = "its thread is left behind, and goes on until it ends by itself"

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        worker.begun = True
        return fn(*args, **kwargs)

    def abandon(self, worker: Worker) -> None:
        self._replace(worker)
