"""Isolation of a Python oracle in worker processes, so that a crash costs one attempt."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from bo_invert.errors import EvaluationError, FailedError, InvalidInputError
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.execution.worker_process import WorkerProcess, pack
from bo_invert.hashing import Digest
from bo_invert.oracles.base import MISMATCH, Oracle, OracleResult, RawOutputs, as_oracle
from bo_invert.types import JSON, Design

_BYTES = {
    "": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("kMGT", 1)},
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)},
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
        startup: float = 600.0,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if os.name != "posix":
            raise InvalidInputError(
                "Isolated: the system must be POSIX, for process groups. Use Http or a function."
            )
        for name, value, least in (
            ("timeout", timeout, 0),
            ("startup", startup, 0),
            ("threads", threads, 0),
        ):
            if value is not None and not (isinstance(value, (int, float)) and value > least):
                raise InvalidInputError(
                    f"Isolated: {name} must be a number > {least}, got {value!r}"
                )
        if not (isinstance(grace, (int, float)) and grace >= 0):
            raise InvalidInputError(
                f"Isolated: grace must be a number of seconds >= 0, got {grace!r}"
            )
        inner = as_oracle(oracle)
        self.timeout, self.grace, self.startup, self.threads = timeout, grace, startup, threads
        self.memory = None if memory is None else _bytes(memory)
        self.outputs = inner.outputs if outputs is None else tuple(outputs)
        self.batched = inner.batched
        self._described = inner.to_json()
        self._oracle: Oracle | None = inner
        self._packed = pack(inner)
        self._begin()

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        try:
            return self._call("__call__", designs)
        except WorkerDied as death:
            raise FailedError(str(death)) from None

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        if self.batched and len(designs) > 1:
            try:
                return list(self._call("answers", designs, tuple(outputs)))
            except Exception:
                pass  # one of the designs may be the cause: evaluate each alone
            return [self._alone(designs[i : i + 1], outputs, calls=2) for i in range(len(designs))]
        return [self._alone(designs[i : i + 1], outputs, calls=1) for i in range(len(designs))]

    def _alone(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> OracleResult:
        result: OracleResult
        try:
            (result,) = self._call("answers", design, tuple(outputs))
            return replace(result, calls=result.calls + calls - 1)
        except WorkerLoadError as fault:
            error: EvaluationError = FailedError(f"{MISMATCH}{fault}")
        except WorkerDied as death:
            error = FailedError(str(death))
        except EvaluationError as raised:
            error = raised
        except Exception as fault:  # a design that cannot be pickled
            error = FailedError(f"{type(fault).__name__}: {fault}")
        return OracleResult(None, error, calls)

    def _call(self, method: str, *args: object) -> list[Any]:
        with self._worker() as worker:
            answer = worker.call(method, *args, timeout=self.timeout, grace=self.grace)
            results = cast("list[Any]", answer)
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

    @contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        """Reserve a worker process for one call."""
        if self._owner != os.getpid():  # forked: the workers belong to the parent
            self._begin()
        with self._lock:
            worker = self._free.pop() if self._free else None
        if worker is not None and not worker.alive:
            worker.kill()
            worker = None
        if worker is None:
            worker = WorkerProcess(self.memory, self.threads)
            worker.load(self._packed, self.startup)
        with self._lock:
            self._busy.add(worker)
        try:
            yield worker
        finally:
            with self._lock:
                if worker in self._busy:
                    self._busy.remove(worker)
                    if worker.alive:
                        self._free.append(worker)

    def interrupt(self) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes; the next call starts a new one."""
        with self._lock:
            _end(self._free, self._busy, self._owner)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._free: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._owner = os.getpid()
        weakref.finalize(self, _end, self._free, self._busy, self._owner)

    def __getstate__(self) -> dict[str, Any]:
        mine = ("_lock", "_free", "_busy", "_owner")
        return {
            **{key: value for key, value in vars(self).items() if key not in mine},
            "_oracle": None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

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


def _end(free: list[WorkerProcess], busy: set[WorkerProcess], owner: int) -> None:
    if os.getpid() != owner:
        return
    for worker in free:
        worker.dismiss()
    while free:
        free.pop().kill_after(2.0)  # seconds for an idle worker to end by itself
    while busy:
        busy.pop().strike()


def _bytes(memory: int | str) -> int:
    if isinstance(memory, int) and not isinstance(memory, bool):
        count = memory
    else:
        read = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", str(memory))
        units = {name.lower(): size for name, size in _BYTES.items()}
        if read is None or read[2].lower() not in units or read[1].count(".") > 1 or read[1] == ".":
            raise InvalidInputError(
                f"Isolated: memory must be bytes or text such as '2GiB' or '500MB', got {memory!r}"
            )
        count = int(float(read[1]) * units[read[2].lower()])
    if count <= 0:
        raise InvalidInputError(f"Isolated: memory must be above 0, got {memory!r}")
    return count
