"""Executor that runs calls in the thread of the caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future

from bo_invert.execution.base import P, T


class SerialExecutor(Executor):
    """Executor that runs each call at once, in the thread of the caller.

    A keyboard interrupt is not caught.
    """

    def __init__(self, workers: int = 1) -> None:
        del workers  # all executors take the same argument

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
