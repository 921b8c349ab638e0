"""Processes that answer calls, each in a session of its own, so that whatever happens there happens to nobody else.

A child is a fresh interpreter: the user's script is not run again in it. What it serves travels through a pipe and
nowhere else, functions of scripts and notebooks by value (cloudpickle, as loky has it).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.execution.output_capture import Heard
from bo_invert.execution.reaper import end_group
from bo_invert.execution.worker_main import WHERE

#: What numerical libraries read when they are loaded.
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bo_invert.execution.worker_main import main; main()"
_TICK = 0.5
"""Seconds between two looks at whether a silent child is alive, where its end is not heard."""
_WATCH = 0.05
"""Seconds between two looks at its memory."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Died(Exception):
    """A child ended, or was ended, before it answered; says how."""


class NotLoaded(Died):
    """A child cannot load what it should serve; another one could not either."""


def packed(served: Any) -> bytes:
    """What a child is to serve, as it travels there.

    Raises:
        InvalidInputError: it cannot travel.
        MissingExtraError: loky is not installed.
    """
    try:
        from loky.backend.reduction import dumps
    except ImportError:
        raise MissingExtraError(
            "processes need the package loky; install it with: pip install 'bo-invert[processes]'"
        ) from None
    try:
        return bytes(dumps(served))
    except Exception as error:
        raise InvalidInputError(
            f"{served!r:.200} cannot travel to another process ({type(error).__name__}: {error}); open files, "
            "connections and the like inside the function"
        ) from error


class Child:
    """A process that serves one object.

    Args:
        served: from ``packed``.
        startup: seconds it may take to load that.
        memory: bytes that it and what it begins may hold; None for no limit.
        threads: of its numerical libraries; None leaves them as they are here.

    Raises:
        NotLoaded: it cannot load what it should serve.
    """

    def __init__(
        self, served: bytes, startup: float, memory: int | None = None, threads: int | None = None
    ) -> None:
        self._memory = memory
        self._calls, calls = Pipe()
        lifeline, self._lifeline = os.pipe()
        pipes = [os.pipe() for _ in range(3)]
        self._heard = Heard(*(ours for ours, _ in pipes))
        self._open = True
        out, err, traces = (theirs for _, theirs in pipes)
        here = [str(Path(__file__).resolve().parents[2]), *map(str, sys.path)]
        words = [json.dumps(here), *map(str, (calls.fileno(), lifeline, traces, memory or 0))]
        limits = {} if threads is None else dict.fromkeys(THREADS, str(threads))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=(calls.fileno(), lifeline, traces),
                start_new_session=True,
                env={**os.environ, **limits},
            )
        except BaseException:
            self._close()
            raise
        finally:
            calls.close()
            for theirs in (lifeline, out, err, traces):
                os.close(theirs)
        try:
            self._send(served)
            loaded, reason = self._reply(startup, 0.0, "no word of it")
            if not loaded:
                raise NotLoaded(reason.reason)
        except BaseException as error:
            self.kill()
            if isinstance(error, Died):
                raise NotLoaded(f"it cannot be loaded in a process of its own: {error}") from None
            raise

    @property
    def alive(self) -> bool:
        """Whether it still waits for calls."""
        return self._process.poll() is None

    def call(self, method: str, *args: Any, timeout: float | None, grace: float) -> Any:
        """What a method of the served object answers.

        Args:
            method: its name.
            args: for it.
            timeout: seconds; None for any time.
            grace: seconds between the request to end (SIGTERM) and the kill, when the time is up.

        Raises:
            Died: the child ended, or was ended, before it answered.
            Verdict, BoInvertError: what the method raised; any other exception becomes ``FailedError``.
        """
        from loky.backend.reduction import dumps

        message = dumps((method, args))
        self._heard.listen()
        self._heard.forget()
        try:
            self._send(message)
            fine, value = self._reply(timeout, grace, "no answer")
        except BaseException:  # an interrupt too: nobody would take its answer
            self.kill()
            raise
        if not fine:
            raise value
        return value

    def dismiss(self) -> None:
        """Tell an idle one to end by itself; ``kill`` sees to it that it does."""
        self._calls.close()

    def kill_within(self, patience: float) -> None:
        """End it, after it had some seconds to do so by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self.kill()

    def strike(self) -> None:
        """Kill it and all that it began, while another thread may wait for its answer and will clean up."""
        end_group(self._process.pid, signal.SIGKILL)

    def kill(self, grace: float = 0.0) -> None:
        """End it and all that it began."""
        leader = self._process.pid
        if grace > 0 and end_group(leader, signal.SIGTERM):
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                self._process.poll()
                if not end_group(leader, 0):
                    break
                time.sleep(0.01)
        end_group(leader, signal.SIGKILL)
        self._process.wait()
        self._heard.listen()
        self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._calls.close()
            os.close(self._lifeline)
            self._heard.close()

    def _send(self, message: Any) -> None:
        try:
            self._calls.send_bytes(message)
        except OSError:
            raise self._fallen() from None

    def _reply(self, timeout: float | None, grace: float, lacking: str) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                with suppress(OSError):
                    os.kill(self._process.pid, WHERE)
                    self._heard.trace(0.2)
                self.kill(grace)
                raise Died(
                    f"{lacking} within {timeout:g} s; its process group was killed{self._heard.last_words()}"
                )
            pause = _WATCH if self._memory else _TICK
            ready = wait(
                [self._calls, *self._heard.streams],
                pause if deadline is None else min(pause, deadline - now),
            )
            self._heard.listen()
            if self._calls in ready:
                try:
                    return ForkingPickler.loads(self._calls.recv_bytes())
                except (EOFError, OSError):
                    raise self._fallen() from None
            if not self.alive and not self._calls.poll():  # somebody it began holds its end open
                raise self._fallen()
            if self._memory and now - looked >= _WATCH:
                looked = now
                if self._resident() > self._memory:
                    self.kill()
                    raise Died(
                        f"more memory than {_size(self._memory)}; its process group was killed"
                    )

    def _fallen(self) -> Died:
        """It ended by itself, or somebody else ended it."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return Died("its process closed the connection; its process group was killed")
        self.kill()
        return Died(f"its process {ending(code)}{self._heard.last_words()}")

    def _resident(self) -> int:
        """Bytes that its process group holds, as far as /proc tells."""
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self._process.pid:
                total += _PAGE * int(fields[21])
        return total


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, from outside or by the kernel for lack of memory"
    try:
        return f"was killed by {signal.Signals(-code).name} ({(signal.strsignal(-code) or '').lower()})"
    except ValueError:
        return f"was killed by signal {-code}"


def _size(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
