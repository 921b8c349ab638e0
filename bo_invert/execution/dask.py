"""Executor on a Dask cluster, local or remote. Needs the extra ``dask``.

Dask runs a task again if its worker dies. Here a call never starts twice: the worker registers
the start with the scheduler, and a second start is refused. The ledger is therefore correct on
every cluster. Each call has a thread of a worker to itself, so it does not wait for another call.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from bo_invert.errors import require, require_package
from bo_invert.execution.base import Worker, WorkerDied, WorkerPool

with require_package("Dask", "distributed", "dask"):
    import dask
    from distributed import Client, Event, LocalCluster, get_worker
    from distributed.utils import sync

if TYPE_CHECKING:
    from distributed import Future, Nanny
    from distributed.cfexecutor import ClientExecutor

_LIVENESS_POLL = 0.5
"""Seconds between two checks that the worker of a call is alive.

Engineering choice: each check is a request to the scheduler, and deaths are rare.
"""
_POLL = 0.1
"""Seconds between two checks for a worker.

Engineering choice: a call waits this long for a free worker at most.
"""
_DIED = "its worker died"


class DaskExecutor(WorkerPool):
    """Executor with calls as tasks of a Dask cluster.

    Args:
        workers: Number of calls at once. A new cluster gets a process of one thread for each.
        client: Client of a running cluster, which stays. Default: a new cluster on this machine, on
            the loopback interface, which ends with this executor. Workers of one thread isolate
            calls best.

    Raises:
        MissingExtraError: Dask is not installed.
    """

    parting = "its worker was killed"

    def __init__(self, workers: int, client: Client | None = None) -> None:
        self._own = ExitStack()
        self._cluster: Any = None
        if client is None:
            self._cluster = _new_cluster(workers, self._own)
            client = self._own.enter_context(Client(self._cluster, set_as_default=False))
        self._client = client
        self._taken: Counter[str] = Counter()
        super().__init__(workers)

    @staticmethod
    def of(given: Client | ClientExecutor, workers: int) -> DaskExecutor:
        """Return an executor for a Dask ``Client``, or for the result of its ``get_executor``."""
        return DaskExecutor(workers, getattr(given, "_client", given))

    def prepare(self, worker: Worker, fn: Callable[..., Any]) -> None:
        while True:
            there = self._client.nthreads()
            with self._lock:
                free = [
                    address for address, threads in there.items() if self._taken[address] < threads
                ]
                if free:
                    self._taken[free[0]] += 1
                    worker.resource = free[0]
                    return
                require(not self._closed, "the executor was shut down", RuntimeError)
            time.sleep(_POLL)

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        name = f"bo-invert-{uuid.uuid4().hex}"
        begun = Event(name, client=self._client)
        try:
            while True:
                where = worker.resource
                task = self._client.submit(
                    _once,
                    name,
                    fn,
                    args,
                    kwargs,
                    key=f"{name}-{uuid.uuid4().hex}",
                    workers=[where],
                    pure=False,
                    retries=0,
                )
                while (
                    not begun.wait(_LIVENESS_POLL)
                    and not task.done()
                    and where in self._client.nthreads()
                ):
                    pass
                if begun.is_set() or (task.status == "error" and not _lost(task.exception())):
                    worker.begun = True
                    return self._result(task, where)
                task.cancel()  # the worker died before the start: nothing was called
                self.release(worker)
                self.prepare(worker, fn)
        finally:
            self.release(worker)  # other calls wait for the seat
            with suppress(Exception):  # the cluster may have ended
                begun.clear()

    def _result(self, task: Future, where: str) -> object:
        while True:
            try:
                return task.result(timeout=_LIVENESS_POLL)
            except BaseException as error:
                # A timeout while the task has no error is not raised by the call.
                waiting = isinstance(error, TimeoutError) and task.status != "error"
                if not waiting and not _lost(error):
                    raise
                if not waiting or where not in self._client.nthreads():
                    raise WorkerDied(_DIED) from None

    def abandon(self, worker: Worker) -> None:
        self._replace(worker)  # a worker that cannot be killed stays occupied
        threading.Thread(
            target=_kill_worker, args=(self._client, worker.resource), daemon=True
        ).start()

    def release(self, worker: Worker) -> None:
        with self._lock:
            if worker.resource is not None and not worker.retired:
                self._taken[worker.resource] -= 1
            worker.resource = None

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures, kill_workers=kill_workers)
        if kill_workers and self._cluster is not None:
            for nanny in list(self._cluster.workers.values()):
                with suppress(OSError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
        with suppress(AttributeError):  # loky's processes have no kill() for a slow exit
            self._own.close()


def _new_cluster(workers: int, own: ExitStack) -> LocalCluster:
    settings: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": 0,
        # A cluster removes a worker that is absent after this time. A worker that dies often can
        # be absent at the check, and must not be removed.
        "distributed.deploy.lost-worker-timeout": "1000 hours",
    }
    with suppress(ImportError):
        # Registers a start method that does not run the user's script again.
        import loky.backend.context  # noqa: F401

        settings["distributed.worker.multiprocessing-method"] = "loky"
    own.enter_context(dask.config.set(settings))
    return own.enter_context(
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    )


def _once(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> object:
    """Run a call unless it has started before."""
    worker = get_worker()
    if sync(worker.loop, worker.scheduler.event_is_set, name=name):
        raise WorkerDied(_DIED)
    sync(worker.loop, worker.scheduler.event_set, name=name)
    return fn(*args, **kwargs)


def _lost(error: BaseException) -> bool:
    """Return True if Dask lost a call, as opposed to an error of the call itself."""
    lost = {
        "KilledWorker",
        "CancelledError",
        "FutureCancelledError",
        "LostDependencyError",
        "CommClosedError",
    }
    return bool(lost & {kind.__name__ for kind in type(error).__mro__})


def _kill_worker(client: Client, address: str) -> None:
    """Kill a worker; its nanny starts another one."""
    with suppress(Exception):  # it has ended
        client.run(_kill_process, workers=[address], nanny=True)


def _kill_process(dask_worker: Nanny) -> None:
    os.kill(dask_worker.pid, signal.SIGKILL)
