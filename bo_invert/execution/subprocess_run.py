"""Run of a program in a session of its own, with limits on time and output. POSIX only."""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bo_invert.execution.parent_death import MARK, kill_group, kill_marked, register, unregister

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL.

Engineering choice: time for a program to delete its temporary files.
"""
_LINGER = 0.2
"""Seconds to wait for output after the end of a program.

Engineering choice: a descendant can hold a pipe open for ever.
"""
_POLL = 0.2
"""Seconds between two calls of ``stopped``.

Engineering choice: the delay of an interrupt.
"""
_PROGRAM = 3
"""Key number of the program in the selector. By definition not a stream number (0, 1, 2)."""


@dataclass
class ProgramResult:
    """Result of a program.

    Attributes:
        code: Exit code, or minus the number of the signal that killed it.
        stdout, stderr: End of its output, in bytes.
        truncated: True if stdout was longer than the limit.
        stopped_by: ``"timeout"`` or ``"stopped"`` if it was killed; empty if it ended by itself.
    """

    code: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    stopped_by: str = ""

    @property
    def exit_text(self) -> str:
        """Exit code or name of the signal, as text."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"

    @property
    def stderr_text(self) -> str:
        """End of stderr as the continuation of a reason; empty without output."""
        lines = [
            line.strip()
            for line in self.stderr[-4000:].decode("utf-8", "backslashreplace").splitlines()
        ]
        text = " | ".join([line for line in lines if line][-5:])
        return f"; stderr ends with: {text[-400:]}" if text else ""


def run_program(
    argv: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    stdin: bytes | None,
    timeout: float | None,
    limit: int,
    stopped: Callable[[], bool] = lambda: False,
) -> ProgramResult:
    """Run a program until it ends, is stopped, or reaches its time limit.

    The program leads a process group. At its end, or after ``timeout`` (SIGTERM, a second later
    SIGKILL), the whole group is killed. A mark in the environment identifies descendants that left
    the group; they are killed after a timeout, or if they hold a pipe open. The group also ends if
    this process dies.

    Args:
        argv: Program and arguments.
        folder: Working directory.
        env: Complete environment.
        stdin: Standard input; None for an empty one.
        timeout: Time limit in seconds; None for no limit.
        limit: Bytes retained of the end of stdout and of stderr.
        stopped: Function that is called several times a second; True stops the program.

    Raises:
        OSError, ValueError: The program did not start.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        list(argv),
        cwd=folder,
        env={**env, MARK: mark},
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    run = _RunningProgram(process, mark, stdin or b"", limit)
    try:
        register(process.pid, mark)
        why = run.attend(None if timeout is None else time.monotonic() + timeout, stopped)
    except BaseException:  # interrupted
        kill_group(process.pid)
        kill_marked(mark)
        raise
    finally:
        run.leave()
        unregister(process.pid)
    return ProgramResult(
        process.returncode,
        bytes(run.output[1][-limit:]),
        bytes(run.output[2][-limit:]),
        run.truncated,
        why,
    )


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: There is no such file, it is not regular, or it is longer than ``limit`` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not wait for the writer of a pipe
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path.name} is not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it is longer than {limit} bytes")
    return content


@dataclass
class _RunningProgram:
    """Running program.

    Its process is waited for last: until then the system cannot reuse its id.
    """

    process: subprocess.Popen[bytes]
    mark: str
    unwritten: bytes
    limit: int
    output: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    truncated: bool = False

    def attend(self, deadline: float | None, stopped: Callable[[], bool]) -> str:
        """Feed and read the program until it ends; return why it was stopped, or an empty text."""
        why = ""
        ending = over = 0.0  # times of SIGTERM and of the end
        with selectors.DefaultSelector() as selector, self._opened(selector):
            pipes = _pipes(selector)
            while not over or (pipes and time.monotonic() < over + _LINGER):
                now = time.monotonic()
                if not why and not over:
                    why = (
                        "timeout"
                        if deadline is not None and now >= deadline
                        else "stopped"
                        if stopped()
                        else ""
                    )
                    if why:
                        ending = now
                        kill_group(self.process.pid, signal.SIGTERM)
                elif why and not over and now >= ending + _GRACE:
                    kill_group(self.process.pid)
                    kill_marked(self.mark)
                left = _POLL if selector.get_map() else 0.01
                for key, _ in selector.select(
                    left if deadline is None or why else max(0.0, min(left, deadline - now))
                ):
                    self._serve(selector, key)
                pipes = _pipes(selector)
                if not over and self._is_over():
                    over = time.monotonic()
                    kill_group(self.process.pid)
        if pipes or why:
            kill_marked(self.mark)
        return why

    def leave(self) -> None:
        """Kill what is left of the group and read the exit code."""
        kill_group(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()

    @contextmanager
    def _opened(self, selector: selectors.BaseSelector) -> Iterator[None]:
        """Register the pipes and, where possible, the end of the program."""
        for pipe, number in (
            (self.process.stdin, 0),
            (self.process.stdout, 1),
            (self.process.stderr, 2),
        ):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                selector.register(
                    pipe.fileno(), selectors.EVENT_READ if number else selectors.EVENT_WRITE, number
                )
        if not hasattr(os, "pidfd_open"):
            yield
            return
        handle = os.pidfd_open(self.process.pid)
        try:
            selector.register(handle, selectors.EVENT_READ, _PROGRAM)
            yield
        finally:
            os.close(handle)

    def _serve(self, pipes: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.data == _PROGRAM:
            pipes.unregister(key.fd)
            return None
        if key.data == 0:
            return self._write(pipes, key.fd)
        try:
            read = os.read(key.fd, 1 << 16)
        except BlockingIOError:
            return None
        if not read:
            pipes.unregister(key.fd)
        retained = self.output[key.data]
        retained += read
        if len(retained) > 2 * self.limit:
            del retained[: -self.limit]
        self.truncated = self.truncated or (key.data == 1 and len(retained) > self.limit)
        return None

    def _write(self, pipes: selectors.BaseSelector, fd: int) -> None:
        try:
            self.unwritten = self.unwritten[os.write(fd, self.unwritten[: 1 << 16]) :]
        except BlockingIOError:
            return
        except OSError:  # it closed its input, but may still answer
            self.unwritten = b""
        if not self.unwritten:
            pipes.unregister(fd)
            assert self.process.stdin is not None
            with suppress(OSError):
                self.process.stdin.close()

    def _is_over(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS: the system can reuse the id a moment early
            return self.process.poll() is not None
        try:
            options = os.WEXITED | os.WNOWAIT | os.WNOHANG
            return os.waitid(os.P_PID, self.process.pid, options) is not None
        except ChildProcessError:  # the embedding program waits for all children
            return True


def _pipes(selector: selectors.BaseSelector) -> bool:
    """Return True if a stream is open."""
    return any(key.data != _PROGRAM for key in selector.get_map().values())
