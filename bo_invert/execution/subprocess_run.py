"""Running a program to its end, whatever it does: in a session of its own, with bounds on time and output.

POSIX only. What a program starts ends with it; see ``run_program``.
"""

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
"""Seconds between asking a program to end and ending it."""
_LINGER = 0.2
"""Seconds for which output is awaited from a pipe that somebody holds open when all that is known of has ended."""
_LOOK = 0.2
"""Seconds between looks at ``stopped``."""
_PROGRAM = 3
"""What is watched besides the streams 0, 1 and 2."""


@dataclass
class Ended:
    """How a program ended.

    Attributes:
        code: its exit code; minus the number of the signal that killed it.
        stdout, stderr: the last bytes of what it wrote there.
        cut: whether stdout was longer than what was kept.
        why: ``"timeout"`` or ``"stopped"`` when it was ended; empty when it ended by itself.
    """

    code: int
    stdout: bytes
    stderr: bytes
    cut: bool
    why: str = ""

    @property
    def sentence(self) -> str:
        """How it ended, in words: the exit code, or the signal by name."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"

    @property
    def complaint(self) -> str:
        """The end of what it wrote to stderr, as the continuation of a reason; empty if it wrote nothing."""
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
    given: bytes | None,
    timeout: float | None,
    limit: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run ``argv`` in ``folder`` until it ends, is stopped, or has had its time.

    It gets a process group of its own. When it ends, or after ``timeout`` seconds (first SIGTERM, a second later
    SIGKILL), everything left of the group is killed; so is, on Linux, what left the group but inherited its
    environment, if it still holds the pipes or the time was up. The same happens if this process dies: a small process
    watches for that. No more than ``limit`` bytes of each stream are kept, the last ones.

    Args:
        argv: program and arguments.
        folder: working directory.
        env: the whole environment.
        given: standard input; None for an empty one.
        timeout: seconds; None for any time.
        limit: bytes kept of each of stdout and stderr.
        stopped: looked at several times a second; once it is true, the program is ended.

    Raises:
        OSError, ValueError: it could not be started.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        list(argv), cwd=folder, env={**env, MARK: mark}, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    call = _Call(process, mark, given or b"", limit)
    try:
        register(process.pid, mark)
        why = call.attend(None if timeout is None else time.monotonic() + timeout, stopped)
    except BaseException:  # interrupted
        kill_group(process.pid)
        kill_marked(mark)
        raise
    finally:
        call.leave()
        unregister(process.pid)
    return Ended(
        process.returncode,
        bytes(call.kept[1][-limit:]),
        bytes(call.kept[2][-limit:]),
        call.cut,
        why,
    )


def read_file(path: Path, limit: int) -> bytes:
    """The content of an ordinary file.

    Raises:
        OSError: there is none, it is a pipe or a device, or it is longer than ``limit`` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody fills must not block
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path.name} is no ordinary file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it is longer than {limit} bytes")
    return content


@dataclass
class _Call:
    """A program under way. Its leader is reaped last of all: until then nobody else can be given its number."""

    process: subprocess.Popen[bytes]
    mark: str
    unwritten: bytes
    limit: int
    kept: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    cut: bool = False

    def attend(self, deadline: float | None, stopped: Callable[[], bool]) -> str:
        """Feed and read it until it has ended; why it was ended, if it was."""
        why, ending, over = (
            "",
            0.0,
            0.0,
        )  # since when it is asked to end, and since when it has ended
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
                left = _LOOK if selector.get_map() else 0.01
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
        """End what is left of it, and take its exit code."""
        kill_group(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()

    @contextmanager
    def _opened(self, selector: selectors.BaseSelector) -> Iterator[None]:
        """Watch the pipes and, where the system can, the end of the program itself."""
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
        kept = self.kept[key.data]
        kept += read
        if len(kept) > 2 * self.limit:
            del kept[: -self.limit]
        self.cut = self.cut or (key.data == 1 and len(kept) > self.limit)
        return None

    def _write(self, pipes: selectors.BaseSelector, fd: int) -> None:
        try:
            self.unwritten = self.unwritten[os.write(fd, self.unwritten[: 1 << 16]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to read: it may still answer
            self.unwritten = b""
        if not self.unwritten:
            pipes.unregister(fd)
            assert self.process.stdin is not None
            with suppress(OSError):
                self.process.stdin.close()

    def _is_over(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS: here the number may be given away a moment early
            return self.process.poll() is not None
        try:
            options = os.WEXITED | os.WNOWAIT | os.WNOHANG
            return os.waitid(os.P_PID, self.process.pid, options) is not None
        except ChildProcessError:  # whoever embeds us reaps all children
            return True


def _pipes(selector: selectors.BaseSelector) -> bool:
    """Whether a stream is still open."""
    return any(key.data != _PROGRAM for key in selector.get_map().values())
