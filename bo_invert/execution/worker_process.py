"""Supervised worker processes: parent side.

A worker is a fresh interpreter that leads a session of its own. It does not run the user's script
again. Objects travel through a pipe only; cloudpickle packs functions of scripts and notebooks by
value. ``worker_main`` defines the protocol.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from bo_invert.errors import InvalidInputError
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.execution.output_capture import OutputCapture
from bo_invert.execution.parent_death import MARK, kill_group, register, unregister
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


class WorkerProcess:
    """A process that serves the methods of one object. Call ``load`` first.

    Args:
        memory: Limit of the resident memory of its process group, in bytes.
        threads: Threads of its numerical libraries. Default: as in this process.
    """

    def __init__(self, memory: int | None = None, threads: int | None = None) -> None:
        self._memory = memory
        self._doomed = False
        self._calls, calls = Pipe()
        pipes = [os.pipe() for _ in range(3)]
        self._output = OutputCapture(*(ours for ours, _ in pipes))
        self._open = True
        out, err, traces = (theirs for _, theirs in pipes)
        path = [str(Path(__file__).resolve().parents[2]), *map(str, sys.path)]
        arguments = [json.dumps(path), *map(str, (calls.fileno(), traces, memory or 0))]
        mark = uuid.uuid4().hex
        limits = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=(calls.fileno(), traces),
                start_new_session=True,
                env={**os.environ, **limits, MARK: mark},
            )
        except BaseException:
            self._calls.close()
            self._output.close()
            raise
        finally:
            calls.close()
            for theirs in (out, err, traces):
                os.close(theirs)
        register(self._process.pid, mark)
        _log.debug("worker process %d started", self._process.pid)

    @property
    def alive(self) -> bool:
        """True if the worker can take a call."""
        return not self._doomed and self._process.poll() is None

    def load(self, served: bytes, timeout: float = STARTUP) -> None:
        """Load the object to serve.

        Args:
            served: The object, from ``pack``.
            timeout: Seconds to import and load it.

        Raises:
            WorkerLoadError: The worker cannot load it.
        """
        try:
            self._call((LOAD, (served,)), timeout, 0.0, "the worker was not ready")
        except WorkerDied as error:
            raise WorkerLoadError(f"it cannot be loaded in a worker process: {error}") from None
        except Exception as error:
            self.kill()
            raise WorkerLoadError(f"it cannot be loaded in a worker process: {error}") from None

    def call(
        self, method: str, *args: object, timeout: float | None = None, grace: float = 0.0
    ) -> object:
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
        return self._call((method, args), timeout, grace, "no answer")

    def dismiss(self) -> None:
        """Ask an idle worker to exit. Call ``kill_after`` next."""
        self._calls.close()

    def kill_after(self, timeout: float) -> None:
        """Wait until the worker exits by itself, and kill it after a timeout in seconds."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            self._output.read()  # a full pipe would block its exit handlers
            time.sleep(0.005)
        self.kill()

    def strike(self) -> None:
        """Kill the process group. The thread that waits for an answer cleans up."""
        self._doomed = True
        kill_group(self._process.pid)

    def kill(self, grace: float = 0.0) -> None:
        """Kill the process group and clean up.

        Args:
            grace: Seconds between SIGTERM and SIGKILL.
        """
        if not self._open:
            return
        leader = self._process.pid
        if grace > 0 and kill_group(leader, signal.SIGTERM):
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                self._process.poll()
                if not kill_group(leader, 0):
                    break
                time.sleep(0.01)
        kill_group(leader)
        self._process.wait()
        self._output.read()
        self._close()

    def _close(self) -> None:
        self._open = False
        self._calls.close()
        self._output.close()
        unregister(self._process.pid)

    def _call(
        self,
        message: tuple[str, tuple[object, ...]],
        timeout: float | None,
        grace: float,
        late: str,
    ) -> object:
        packed = cloudpickle.dumps(message)
        self._output.read()
        self._output.clear()
        try:
            try:
                self._calls.send_bytes(packed)
            except OSError:
                raise self._death() from None
            succeeded, value = self._receive(timeout, grace, late)
        except BaseException as error:  # also an interrupt: a later call must not get this answer
            self.kill()
            if isinstance(error, WorkerDied):
                _log.info("worker process %d: %s", self._process.pid, error)
            raise
        if not succeeded:
            raise value
        return value

    def _receive(self, timeout: float | None, grace: float, late: str) -> tuple[bool, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        measured = time.monotonic()
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                with suppress(OSError):
                    os.kill(self._process.pid, TRACE_SIGNAL)
                    self._output.read_trace(0.2)
                self.kill(grace)
                raise WorkerDied(
                    f"{late} within {timeout:g} s; its process group was killed"
                    f"{self._output.summary()}"
                )
            pause = _MEMORY_POLL if self._memory else _POLL
            ready = wait(
                [self._calls, *self._output.streams],
                pause if deadline is None else min(pause, deadline - now),
            )
            self._output.read()
            if self._calls in ready:
                try:
                    reply: tuple[bool, Any] = ForkingPickler.loads(self._calls.recv_bytes())
                except (EOFError, OSError):
                    raise self._death() from None
                return reply
            # A descendant can hold the other end of the connection open.
            if self._process.poll() is not None and not self._calls.poll():
                raise self._death()
            if self._memory and now - measured >= _MEMORY_POLL:
                measured = now
                if self._resident_memory() > self._memory:
                    self.kill()
                    raise WorkerDied(
                        f"more memory than {_memory_text(self._memory)}; "
                        "its process group was killed"
                    )

    def _death(self) -> WorkerDied:
        """Return the error for a worker that closed the connection."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerDied("its process closed the connection; its process group was killed")
        self.kill()
        return WorkerDied(f"its process {exit_text(code)}{self._output.summary()}")

    def _resident_memory(self) -> int:
        """Return the resident memory of the process group in bytes."""
        total = 0
        for pid in psutil.pids():
            with suppress(OSError, psutil.Error):
                if os.getpgid(pid) == self._process.pid:
                    total += psutil.Process(pid).memory_info().rss
        return total


def exit_text(code: int) -> str:
    """Describe a return code of ``subprocess.Popen``."""
    if code >= 0:
        return f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, from outside or by the kernel for lack of memory"
    try:
        name, text = signal.Signals(-code).name, signal.strsignal(-code) or ""
    except ValueError:
        return f"was killed by signal {-code}"
    return f"was killed by {name} ({text.lower()})"


def _memory_text(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
