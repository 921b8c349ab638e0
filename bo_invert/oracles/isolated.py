"""Isolation of a Python oracle in worker processes, so that a crash costs one attempt."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bo_invert.errors import FailedError, require
from bo_invert.execution.base import WorkerDied
from bo_invert.execution.process_local import process_local
from bo_invert.execution.supervised_process import STARTUP, WorkerProcess, pack
from bo_invert.hashing import Digest
from bo_invert.oracles.base import (
    Oracle,
    OracleResult,
    RawOutputs,
    as_failure,
    as_oracle,
    pause,
    time_limit,
)
from bo_invert.types import JSON, Design
from bo_invert.user_code import TorchSettings, callers_settings, under
from bo_invert.user_data import whole_number

_BYTES = {
    "": 1,
    **{f"{p}b": 1000**i for i, p in enumerate("kmgt", 1)},
    **{f"{p}ib": 1024**i for i, p in enumerate("kmgt", 1)},
}


class Isolated(Oracle):
    """Oracle that runs another oracle in worker processes.

    A segmentation fault, ``os._exit``, lack of memory, an endless loop or a kill costs one attempt
    only. A worker process evaluates any number of calls, and a dead one is replaced. Each
    concurrent call (``executor="threads"``) has its own worker. Each worker leads a process group,
    which is killed with all processes that the oracle started, also when this process dies.

    The oracle is copied at construction. Changes that it makes to itself or to globals stay in the
    worker. There is no gradient, because torch cannot send the graph of a computation to another
    process. Use a differentiable oracle without isolation, or a ``GradientProxy`` of this one.

    Args:
        oracle: oracle, torch module, estimator or callable; also a lambda or a function of a
            notebook.
        timeout: seconds for one call or batch; None for no limit.
        memory: largest memory of the process group, in bytes or as text such as ``"2GiB"`` or
            ``"500MB"``. A larger allocation raises ``MemoryError`` in the worker. A group that
            grows beyond the limit is killed.
        grace: seconds between SIGTERM and SIGKILL after a timeout.
        startup: seconds to import and load the oracle, in addition to ``timeout``.
        outputs: names of the outputs; default: those of ``oracle``.
        threads: threads of numerical libraries in the worker; default: as in this process.

    Raises:
        InvalidInputError: the oracle cannot be pickled, or a limit is invalid.
    """

    waits = True

    def __init__(
        self,
        oracle: object,
        timeout: float | None = None,
        memory: int | str | None = None,
        grace: float = 1.0,
        startup: float = STARTUP,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        require(
            os.name == "posix",
            "Isolated: the system must be POSIX, for process groups. Use Http or a function.",
        )
        inner = as_oracle(oracle)
        self.timeout = time_limit("Isolated", "timeout", timeout)
        self.grace = pause("Isolated", "grace", grace)
        self.startup = time_limit("Isolated", "startup", startup) or STARTUP
        self.threads = None if threads is None else whole_number("Isolated", "threads", threads)
        self.memory = None if memory is None else _bytes(memory)
        self.outputs = inner.outputs if outputs is None else tuple(outputs)
        self.batched = inner.batched
        self._described, self._input_names = inner.to_json(), inner.input_names
        self._oracle: Oracle | None = inner
        self._packed = pack(_Served(inner))

    @property
    def input_names(self) -> tuple[str, ...] | None:
        return self._input_names

    def check_design(self, design: Design) -> None:
        if self._oracle is not None:
            self._oracle.check_design(design)

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        try:
            return self._call("__call__", designs)
        except WorkerDied as death:
            raise FailedError(str(death)) from None

    def _batch(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        return list(self._call("answers", designs, tuple(outputs)))

    def _single(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> OracleResult:
        result: OracleResult
        try:
            (result,) = self._call("answers", design, tuple(outputs))
        except Exception as error:  # also of a design that cannot be pickled
            return OracleResult(None, as_failure(error), calls)
        return replace(result, calls=result.calls + calls - 1)

    def _call(self, method: str, *args: object) -> list[Any]:
        with self._worker() as worker:
            results: list[Any] = worker.call(
                "call", callers_settings(), method, *args, timeout=self.timeout, grace=self.grace
            )
            out_of_memory = [
                one
                for one in results
                if isinstance(one, OracleResult) and "MemoryError" in repr(one.error)
            ]
            if not self.memory or not out_of_memory:
                return results
            worker.kill()  # earlier calls may have left objects in its memory
            limit = f" (memory limit of the process: {self.memory / 2**20:,.0f} MiB)"
            return [
                replace(one, error=FailedError(f"{one.error}{limit}"))
                if one in out_of_memory
                else one
                for one in results
            ]

    @process_local
    def _workers(self) -> _Workers:
        return _Workers()

    @contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        """Reserve a worker process for one call."""
        workers = self._workers
        with workers.lock:
            worker = workers.free.pop() if workers.free else None
        if worker is not None and not worker.alive:
            worker.kill()
            worker = None
        if worker is None:
            worker = WorkerProcess(self.memory, self.threads)
            worker.load(self._packed, self.startup)
        with workers.lock:
            workers.busy.add(worker)
        try:
            yield worker
        finally:
            with workers.lock:
                workers.busy.discard(worker)
                if worker.alive:
                    workers.free.append(worker)

    def interrupt(self) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes; the next call starts a new one."""
        workers = self._workers
        with workers.lock:
            _end(workers.free, workers.busy, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_oracle": None}  # the packed oracle is enough

    @property
    def implementation(self) -> object:
        return self if self._oracle is None else self._oracle.implementation

    def digest(self) -> Digest | None:
        return None if self._oracle is None else self._oracle.digest()

    def to_json(self) -> JSON:
        return {
            "type": "isolated",
            "oracle": self._described,
            "timeout": self.timeout,
            "memory": self.memory,
        }


@dataclass(frozen=True)
class _Served:
    """Oracle in a worker process, called under the settings of torch of the caller.

    Args:
        oracle: oracle that is isolated.
    """

    oracle: Oracle

    def call(self, settings: TorchSettings | None, method: str, *args: object) -> list[Any]:
        results: list[Any] = under(settings, getattr(self.oracle, method))(*args)
        return results


class _Workers:
    """Worker processes of one oracle in this process; they end with the oracle."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[WorkerProcess] = []
        self.busy: set[WorkerProcess] = set()
        weakref.finalize(self, _end, self.free, self.busy, os.getpid())


def _end(free: list[WorkerProcess], busy: set[WorkerProcess], owner: int) -> None:
    if os.getpid() != owner:
        return
    for worker in free:
        worker.dismiss()
    while free:
        worker = free.pop()
        worker.wait(2.0)  # seconds for an idle worker to end by itself
        worker.kill()
    while busy:
        busy.pop().strike()


def _bytes(memory: int | str) -> int:
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)\s*", str(memory))
    count = int(float(found[1]) * _BYTES.get(found[2].lower(), 0)) if found else 0
    require(
        count > 0,
        f"Isolated: memory must be bytes or text such as '2GiB' or '500MB', got {memory!r}",
    )
    return count
