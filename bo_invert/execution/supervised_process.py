"""Supervised worker processes: parent side.

A worker is a fresh interpreter that leads a session of its own. It does not run the user's script
again. Objects travel through a pipe only; cloudpickle packs functions of scripts and notebooks by
value. ``worker_main`` defines the protocol.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from contextlib import ExitStack, suppress
from itertools import takewhile
from multiprocessing.connection import Pipe, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from bo_invert.errors import InvalidInputError
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.execution.output_capture import last_lines
from bo_invert.execution.parent_death import kill_group
from bo_invert.execution.process_group import ProcessGroup
from bo_invert.execution.worker_main import LOAD, TRACE_SIGNAL

_log = logging.getLogger(__name__)
STARTUP = 600.0
"""Seconds for a worker to import and load its object.

Engineering choice: a model may have to be read from a slow network disk.
"""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bo_invert.execution.worker_main import main; main()"
)
_POLL = 0.5
"""Seconds between two checks that a worker is alive.

Engineering choice: a descendant that holds the pipe open hides the end of a worker for this time.
"""
_OWN = (
    str(Path(__file__).parents[1] / "oracles"),
    str(Path(__file__).with_name("worker_main.py")),
    "Extension modules",
)
"""Parts of the first line after the frames of the user in a stack trace."""
_MEMORY_POLL = 0.05
"""Seconds between two measurements of the memory.

Engineering choice: numpy fills about 0.2 GB in this time, the error of the limit.
"""


def pack(served: object) -> bytes:
    """Pickle an object for a worker.

    Raises:
        InvalidInputError: The object cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps(served))
    except Exception as error:
        raise InvalidInputError(
            f"{served!r:.200} cannot be sent to another process ({type(error).__name__}: {error}). "
            "Open files, connections and locks inside the function"
        ) from error


class ByValue:
    """Object that pickles as its content, with functions of scripts and notebooks by value.

    Args:
        content: The object that a copy is.
    """

    def __init__(self, content: object) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return ForkingPickler.loads, (pack(self._content),)


def _own_number(descriptor: int) -> int:
    """Duplicate a descriptor to a number above 2.

    In a process without standard streams it may have one of their numbers, which the worker needs.
    """
    copies = [os.dup(descriptor)]
    while copies[-1] < 3:
        copies.append(os.dup(descriptor))
    for low in copies[:-1]:
        os.close(low)
    return copies[-1]


class WorkerProcess(ProcessGroup):
    """Process that serves the methods of one object. Call ``load`` first.

    Args:
        memory: Limit of the resident memory of its process group, in bytes.
        threads: Threads of its numerical libraries. Default: as in this process.
    """

    def __init__(self, memory: int | None = None, threads: int | None = None) -> None:
        self.served: object = None
        """Object that its owner has loaded."""
        self._memory, self._doomed = memory, False
        self._measured = -math.inf
        self._calls, calls = Pipe()
        traces, their_traces = Pipe(duplex=False)
        path = [str(Path(__file__).resolve().parents[2]), *map(str, sys.path)]
        limits = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
        with ExitStack() as ends:
            handles = [
                _own_number(ends.enter_context(end).fileno()) for end in (calls, their_traces)
            ]
            for handle in handles:
                ends.callback(os.close, handle)
            super().__init__(
                [sys.executable, "-c", _BOOT, json.dumps(path), *map(str, (*handles, memory or 0))],
                {**os.environ, **limits},
                forward=True,
                pass_fds=handles,
            )
        self.output.streams["traces"] = traces
        _log.debug("worker process %d started", self.pid)

    @property
    def alive(self) -> bool:
        """True if the worker can take a call."""
        return not self._doomed and self.running

    def load(self, served: bytes, timeout: float = STARTUP) -> None:
        """Load the object to serve.

        Args:
            served: The object, from ``pack``.
            timeout: Seconds to import and load it.

        Raises:
            WorkerLoadError: The worker cannot load it.
        """
        try:
            self.call(LOAD, served, timeout=timeout)
        except Exception as error:
            self.kill()
            raise WorkerLoadError(f"it cannot be loaded in a worker process: {error}") from None

    def call(
        self, method: str, *args: object, timeout: float | None = None, grace: float = 0.0
    ) -> Any:
        """Call a method of the served object and return its result.

        Args:
            method: Name of the method.
            args: Its arguments.
            timeout: Limit in seconds. Default: none.
            grace: Seconds between SIGTERM and SIGKILL after a timeout.

        Raises:
            WorkerDied: The worker died or was killed before it answered.
            EvaluationError, BoInvertError: The method raised it. Other exceptions become
                ``FailedError``.
        """
        message = cloudpickle.dumps((method, args))
        self.output.read()
        self.output.ends.clear()
        try:
            try:
                self._calls.send_bytes(message)
                succeeded, value = self._receive(timeout, grace)
            except (EOFError, OSError):
                raise self._death() from None
        except BaseException as error:  # also an interrupt: a later call must not get this answer
            self.kill()
            if isinstance(error, WorkerDied):
                _log.info("worker process %d: %s", self.pid, error)
            raise
        if not succeeded:
            raise value
        return value

    def dismiss(self) -> None:
        """Ask an idle worker to exit. Call ``wait`` and ``kill`` next."""
        self._calls.close()

    def strike(self) -> None:
        """Kill the process group. The thread that waits for an answer cleans up."""
        self._doomed = True
        kill_group(self.pid)

    def _receive(self, timeout: float | None, grace: float) -> tuple[bool, Any]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (now := time.monotonic()) < deadline:
            pause = min(_MEMORY_POLL if self._memory else _POLL, deadline - now)
            ready = wait([self._calls, *self.output.streams.values()], pause)
            self.output.read()
            self._check_memory()  # before the reply: many short calls can exceed it too
            if self._calls in ready:
                reply: tuple[bool, Any] = ForkingPickler.loads(self._calls.recv_bytes())
                return reply
            # A descendant can hold the other end of the connection open.
            if not self.running and not self._calls.poll():
                raise EOFError
        with suppress(OSError):
            os.kill(self.pid, TRACE_SIGNAL)
        self.output.drain(0.2)
        self.kill(grace)
        raise WorkerDied(
            f"no answer within {timeout:g} s; its process group was killed{self._summary()}"
        )

    def _death(self) -> WorkerDied:
        """Return the error for a worker that closed the connection."""
        if self.wait(5.0):
            return WorkerDied("its process closed the connection; its process group was killed")
        self.kill()
        return WorkerDied(f"its process {self.exit_text}{self._summary()}")

    def _summary(self) -> str:
        """Return the last stack trace, or else the end of the standard error, after a colon."""
        _, found, trace = self.output.text("traces").rpartition("(most recent call first):")
        frames = takewhile(lambda line: not any(own in line for own in _OWN), trace.splitlines())
        text = "; ".join(filter(None, map(str.strip, frames if found else ())))[:400]
        text = text or last_lines(self.output.text("stderr"))
        return f": {text}" if text else ""

    def _check_memory(self) -> None:
        """Raise an error if the resident memory of the process group exceeds its limit."""
        if not self._memory or time.monotonic() - self._measured < _MEMORY_POLL:
            return
        total = 0
        for pid in psutil.pids():
            with suppress(OSError, psutil.Error):
                if os.getpgid(pid) == self.pid:
                    total += psutil.Process(pid).memory_info().rss
        self._measured = time.monotonic()
        if total > self._memory:
            raise WorkerDied(
                f"more memory than {self._memory / 2**20:,.0f} MiB; its process group was killed"
            )
