"""Executor interface, and a base class for executors with a thread per worker.

An executor is an object with ``submit(fn, *args) -> concurrent.futures.Future``. It must not
repeat a call: it reports a lost call as ``WorkerDied``, and the study decides. Time limits
(``study.run(timeout=...)``) need three more attributes:

``begun(future)``
    True once the call has started. Time in the queue and time to load the problem do not count.
``give_up(future)``
    Abandon a running call, so that its worker becomes free. The study ignores its future.
``parting``
    Consequence for the abandoned call, as a clause for the reason in the log.
"""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_numbers = itertools.count(1)


class WorkerDied(BrokenExecutor):
    """Death of a worker before it answered. It affects one call only."""


class WorkerLoadError(WorkerDied):
    """Failure of a worker to load its problem. Another worker would fail too."""


def attempt(
    fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> tuple[T | None, BaseException | None]:
    """Call a function; return its result, or None and its error."""
    try:
        return fn(*args, **kwargs), None
    except BaseException as error:
        return None, error


@dataclass(eq=False)
class Worker:
    """Thread that handles one call at a time.

    Attributes:
        resource: Process or job that runs the calls of this thread.
        begun: True once its current call has started.
        retired: True once it takes no more calls.
    """

    resource: Any = None
    begun: bool = False
    retired: bool = False
    thread: threading.Thread = field(init=False)


_Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""Future, function, positional and keyword arguments of a call."""


class WorkerPool(Executor):
    """Executor with a fixed number of threads, one for each worker.

    The threads are daemons: they do not keep the interpreter from exiting.

    Args:
        workers: Number of workers.
    """

    parting = ""

    def __init__(self, workers: int) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._busy: dict[Future[Any], Worker] = {}
        self._closed = self._killed = False
        for _ in range(workers):
            self._add_worker()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("submit: the executor is shut down")
            self._tasks.put((future, fn, args, kwargs))
        return future

    def begun(self, future: Future[Any]) -> bool:
        """Return True once the call has started."""
        with self._lock:
            worker = self._busy.get(future)
        return worker is not None and worker.begun

    def give_up(self, future: Future[Any]) -> None:
        """Abandon a running call; see the module docstring."""
        with self._lock:
            worker = self._busy.get(future)
            if worker is not None:
                self.abandon(worker)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        """Stop accepting calls.

        Args:
            wait: Wait until all submitted calls are done.
            cancel_futures: Cancel the calls in the queue.
            kill_workers: Cancel the calls in the queue and kill the running ones where possible.
        """
        with self._lock:
            self._closed = True
            self._killed = self._killed or kill_workers
            workers = list(self._workers)
            with suppress(Empty):
                while cancel_futures or kill_workers:
                    task = self._tasks.get_nowait()
                    if task is not None:
                        task[0].cancel()
            for worker in workers:
                self._tasks.put(None)
                if kill_workers:
                    self.kill(worker)
        if wait:
            for worker in workers:
                worker.thread.join()

    @abstractmethod
    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        """Run one call, and set ``worker.begun`` when it starts."""

    def prepare(self, worker: Worker, fn: Callable[..., Any]) -> None:
        """Prepare a worker for calls of a function."""

    @abstractmethod
    def abandon(self, worker: Worker) -> None:
        """Abandon the running call of a worker."""

    def kill(self, worker: Worker) -> None:
        """Kill the running call and the resource of a worker where possible."""

    def release(self, worker: Worker) -> None:
        """Release the resource of a worker. Its thread calls this last."""

    def _add_worker(self) -> None:
        worker = Worker()
        name = f"bo-invert-worker-{next(_numbers)}"
        worker.thread = threading.Thread(target=self._work, name=name, args=(worker,), daemon=True)
        self._workers.add(worker)
        worker.thread.start()

    def _replace(self, worker: Worker) -> None:
        """Retire a worker and start another one. The caller holds the lock."""
        worker.retired = True
        self._workers.discard(worker)
        if not self._closed:
            self._add_worker()

    def _work(self, worker: Worker) -> None:
        while not worker.retired and (task := self._tasks.get()) is not None:
            if not task[0].cancelled():
                self._run_task(worker, *task)
            del task  # its arguments may be large
        self.release(worker)

    def _run_task(
        self,
        worker: Worker,
        future: Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        result, error = attempt(self.prepare, worker, fn)
        with self._lock:
            if not future.set_running_or_notify_cancel():
                return
            worker.begun = False
            self._busy[future] = worker
        if error is None:
            result, error = attempt(self.perform, worker, fn, args, kwargs)
        with self._lock:
            del self._busy[future]
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
