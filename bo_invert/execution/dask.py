"""A Dask cluster: one on this machine, or one that is already there. Needs the extra ``dask``.

Dask begins a task again when its worker dies. Here a call that has begun is never begun a second time: the worker
notes the beginning with the scheduler, and whoever finds such a note refuses. So the ledger's bill is right on any
cluster, whatever it allows. Each call has a thread of a worker to itself, so that none waits behind one that kills.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from bo_invert.errors import MissingExtraError
from bo_invert.execution.base import Worker, WorkerDied, WorkerPool

#: Seconds between two looks at whether the worker of a silent call is still there.
_LOOK = 0.5
_SEEK = 0.1
"""Seconds between two looks for a worker."""
_DIED = "its worker died"


@dataclass(eq=False)
class _Seat:
    """A thread of a worker."""

    address: str
    doomed: bool = False


class DaskExecutor(WorkerPool):
    """Calls as tasks of a Dask cluster, at most ``workers`` at once.

    Args:
        workers: how many calls at once; on a new cluster, how many processes of one thread each.
        client: of a cluster that is there already, and stays; default: a cluster on this machine, for loopback alone,
            which ends with this executor. On a cluster of yours, workers of one thread each keep neighbours apart.

    Raises:
        MissingExtraError: Dask is not installed.
    """

    parting = "its worker was killed"

    def __init__(self, workers: int, client: Any = None) -> None:
        try:
            import distributed
        except ImportError:
            raise MissingExtraError(
                "Dask needs the package distributed; install it with: pip install 'bo-invert[dask]'"
            ) from None
        self._own = ExitStack()
        self._cluster: Any = None
        if client is None:
            self._cluster = _cluster(workers, self._own)
            client = self._own.enter_context(
                distributed.Client(self._cluster, set_as_default=False)
            )
        self._client = client
        self._taken: Counter[str] = Counter()
        super().__init__(workers)

    @staticmethod
    def of(given: Any, workers: int) -> DaskExecutor:
        """From a Dask ``Client``, or from what its ``get_executor`` gave."""
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
                    worker.resource = _Seat(free[0])
                    return
                if self._closed:
                    raise RuntimeError("the executor was shut down")
            time.sleep(_SEEK)

    def perform(
        self, worker: Worker, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        from distributed import Event

        name = f"bo-invert-{uuid.uuid4().hex}"
        begun = Event(name, client=self._client)
        try:
            for turn in itertools.count():
                where = worker.resource.address
                task = self._client.submit(
                    _once,
                    name,
                    fn,
                    args,
                    kwargs,
                    key=f"{name}-{turn}",
                    workers=[where],
                    pure=False,
                    retries=0,
                )
                while (
                    not begun.wait(_LOOK) and not task.done() and where in self._client.nthreads()
                ):
                    pass
                if begun.is_set() or (task.status == "error" and not _lost(task.exception())):
                    worker.begun = True
                    return self._result(task, where)
                task.cancel()  # the worker died before it began: nobody was called
                self.release(worker)
                self.prepare(worker, fn)
        finally:
            self.release(worker)  # others may wait for a seat
            with suppress(Exception):  # the cluster may be gone
                begun.clear()

    def _result(self, task: Any, where: str) -> Any:
        while True:
            try:
                return task.result(timeout=_LOOK)
            except BaseException as error:
                if (
                    isinstance(error, TimeoutError) and task.status != "error"
                ):  # it is not the call's own
                    if where in self._client.nthreads():
                        continue
                elif not _lost(error):
                    raise
                raise WorkerDied(_DIED) from None

    def abandon(self, worker: Worker) -> None:
        worker.resource.doomed = True
        self._replace(worker)  # where nobody can kill the worker, it stays occupied
        threading.Thread(
            target=_slay, args=(self._client, worker.resource.address), daemon=True
        ).start()

    def release(self, worker: Worker) -> None:
        seat: _Seat | None = worker.resource
        worker.resource = None
        if seat is not None and not seat.doomed:
            with self._lock:
                self._taken[seat.address] -= 1

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, kill_workers: bool = False
    ) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures, kill_workers=kill_workers)
        if kill_workers and self._cluster is not None:
            for nanny in list(self._cluster.workers.values()):
                with suppress(OSError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
        self._own.close()


def _cluster(workers: int, own: ExitStack) -> Any:
    import dask
    from distributed import LocalCluster

    settings: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": 0,
        # A worker that dies now and again is not to be given up for that: a cluster looks so long after a death whether
        # there is one of this name, and may look just when it has died once more.
        "distributed.deploy.lost-worker-timeout": "1000 hours",
    }
    with suppress(ImportError):
        import loky.backend.context  # noqa: F401  (makes itself known to multiprocessing; does not run a script again)

        settings["distributed.worker.multiprocessing-method"] = "loky"
    own.enter_context(dask.config.set(settings))
    return own.enter_context(
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            memory_limit=0, silence_logs=logging.CRITICAL,
        )
    )  # fmt: skip


def _once(name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call, unless it was begun before."""
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    if sync(worker.loop, worker.scheduler.event_is_set, name=name):
        raise WorkerDied(_DIED)
    sync(worker.loop, worker.scheduler.event_set, name=name)
    return fn(*args, **kwargs)


def _lost(error: BaseException) -> bool:
    """Whether Dask lost a call, as opposed to an error before or in the call itself."""
    lost = {
        "KilledWorker",
        "CancelledError",
        "FutureCancelledError",
        "LostDependencyError",
        "CommClosedError",
    }
    return bool(lost & {kind.__name__ for kind in type(error).__mro__})


def _slay(client: Any, address: str) -> None:
    """Kill a worker; its nanny begins another."""
    with suppress(Exception):  # it ended meanwhile
        client.run(_kill, workers=[address], nanny=True)


def _kill(dask_worker: Any) -> None:
    os.kill(dask_worker.pid, signal.SIGKILL)
