"""Any Python oracle in a process of its own: whatever it does there costs one attempt."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bo_invert.errors import EvaluationError, FailedError, InvalidInputError
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.execution.worker_process import WorkerProcess, pack
from bo_invert.hashing import Digest
from bo_invert.oracles.base import MISFIT, Answer, Oracle, as_oracle
from bo_invert.types import JSON

_FAREWELL = 2.0
"""Seconds that an idle process may take to end by itself."""
_UNITS = {
    "": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("kMGT", 1)},
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)},
}


class Isolated(Oracle):
    """An oracle in a process of its own.

    A segmentation fault, ``os._exit``, lack of memory, an endless loop or a kill from outside costs the one attempt
    under way, and nothing else: not the study, and not its neighbours. The process answers many calls; a dead one is
    replaced. As many callers as there are at once (``executor="threads"``), as many processes there are. Each leads a
    process group, and that is ended as a whole, with all that the oracle began; it also ends when the study's process
    is killed.

    The oracle is copied when this is made: what it changes in itself or in globals stays in its process, and is lost
    with it. There is no gradient, because what torch remembers of a computation cannot leave the process it was made
    in; give a differentiable oracle as it is, or a stand-in for this one (``GradientProxy``).

    Args:
        oracle: an ``Oracle``, a torch module, an estimator, or any callable, lambdas and functions of notebooks too.
        timeout: seconds for one call; None for any time. With a batch, for the batch.
        memory: what the process group may hold: bytes, or text such as ``"2GiB"`` or ``"500MB"``. A single larger
            allocation is refused inside as ``MemoryError``; what grows beyond it is killed (where there is ``/proc``).
        grace: seconds between asking the group to end (SIGTERM) and killing it, when the time is up.
        startup: seconds to import and load the oracle; they do not count as part of a call.
        outputs: names of the outputs; default: those of ``oracle``.
        threads: of numerical libraries inside; default: as they are here.

    Raises:
        InvalidInputError: the oracle cannot travel to another process, or a limit cannot be meant.
    """

    waits = True

    def __init__(
        self,
        oracle: Any,
        timeout: float | None = None,
        memory: int | str | None = None,
        grace: float = 1.0,
        startup: float = 600.0,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if os.name != "posix":
            raise InvalidInputError(
                "Isolated needs process groups, which this operating system does not have"
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

    def __call__(self, designs: Sequence[Any]) -> Any:
        try:
            return self._asked("__call__", designs)
        except WorkerDied as death:
            raise FailedError(str(death)) from None

    def answers(self, designs: Sequence[Any], outputs: Sequence[str]) -> list[Answer]:
        if self.batched and len(designs) > 1:
            try:
                return list(self._asked("answers", designs, tuple(outputs)))
            except Exception:
                pass  # one of the designs is at fault: each alone, as every batched oracle does
            return [self._alone(designs[i : i + 1], outputs, calls=2) for i in range(len(designs))]
        return [self._alone(designs[i : i + 1], outputs, calls=1) for i in range(len(designs))]

    def _alone(self, design: Sequence[Any], outputs: Sequence[str], calls: int) -> Answer:
        answer: Answer
        try:
            (answer,) = self._asked("answers", design, tuple(outputs))
        except WorkerLoadError as fault:
            return Answer(None, FailedError(f"{MISFIT}{fault}"), calls)
        except WorkerDied as death:
            return Answer(None, FailedError(str(death)), calls)
        except EvaluationError as verdict:
            return Answer(None, verdict, calls)
        except Exception as error:  # a design that cannot travel
            return Answer(None, FailedError(f"{type(error).__name__}: {error}"), calls)
        return replace(answer, calls=answer.calls + calls - 1)

    def _asked(self, method: str, *args: Any) -> Any:
        with self._child() as child:
            answer = child.call(method, *args, timeout=self.timeout, grace=self.grace)
            full = [
                one
                for one in answer
                if isinstance(one, Answer) and "MemoryError" in repr(one.verdict)
            ]
            if not self.memory or not full:
                return answer
            child.kill()  # it may be full of what earlier calls left
            within = f" (its process may hold {self.memory / 2**20:,.0f} MiB)"
            return [
                replace(one, verdict=FailedError(f"{one.verdict}{within}")) if one in full else one
                for one in answer
            ]

    @contextmanager
    def _child(self) -> Iterator[WorkerProcess]:
        """One that nobody else uses."""
        if self._owner != os.getpid():  # forked: those children are somebody else's
            self._begin()
        with self._lock:
            child = self._free.pop() if self._free else None
        if child is not None and not child.alive:
            child.kill()
            child = None
        if child is None:
            child = WorkerProcess(self.memory, self.threads)
            child.load(self._packed, self.startup)
        with self._lock:
            self._busy.add(child)
        try:
            yield child
        finally:
            with self._lock:
                if child in self._busy:
                    self._busy.remove(child)
                    if child.alive:
                        self._free.append(child)

    def interrupt(self) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they do. The next call begins a new one."""
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
    def inside(self) -> Any:
        return self if self._oracle is None else self._oracle.inside

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
    for child in free:
        child.dismiss()
    while free:
        free.pop().kill_after(_FAREWELL)
    while busy:
        busy.pop().strike()


def _bytes(memory: int | str) -> int:
    if isinstance(memory, int) and not isinstance(memory, bool):
        count = memory
    else:
        read = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", str(memory))
        units = {name.lower(): size for name, size in _UNITS.items()}
        if read is None or read[2].lower() not in units or read[1].count(".") > 1 or read[1] == ".":
            raise InvalidInputError(
                f"Isolated: memory must be bytes or text such as '2GiB' or '500MB', got {memory!r}"
            )
        count = int(float(read[1]) * units[read[2].lower()])
    if count <= 0:
        raise InvalidInputError(f"Isolated: memory must be more than nothing, got {memory!r}")
    return count
