"""Process that leads a session of its own, with its output and a safe end. POSIX only."""

from __future__ import annotations

import math
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Pipe
from pathlib import Path

import psutil

from bo_invert.execution.output_capture import OutputCapture
from bo_invert.execution.parent_death import MARK, kill_group, kill_marked, register, unregister

_POLL = 0.05
"""Seconds between two checks of a running process.

Engineering choice: the delay of an interrupt, and the error of a time limit.
"""
_END_POLL = 0.001
"""Seconds between two checks of a process that has closed its output.

Engineering choice: most processes end within microseconds after this.
"""
_LINGER = 0.2
"""Seconds to wait for output after the end of a process.

Engineering choice: a descendant can hold a pipe open for ever.
"""


class ProcessGroup:
    """Process that leads a process group.

    The group ends with this process. A mark in the environment identifies descendants that left
    the group. The id of the leader is read last: until then the system cannot use it again.

    Args:
        argv: Program and arguments.
        env: Complete environment.
        stdin: Standard input.
        folder: Working directory. Default: that of this process.
        limit: Bytes retained of the end of each output stream.
        forward: Copy the output to the streams of this process.
        pass_fds: Descriptors that the process inherits.

    Raises:
        OSError, ValueError: The program did not start.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bytes = b"",
        folder: Path | None = None,
        limit: int = 16384,
        forward: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        (out, their_out), (err, their_err) = Pipe(duplex=False), Pipe(duplex=False)
        self._mark = uuid.uuid4().hex
        with their_out, their_err, tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            self._process = subprocess.Popen(
                argv,
                stdin=file,
                stdout=their_out.fileno(),
                stderr=their_err.fileno(),
                cwd=folder,
                env={**env, MARK: self._mark},
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.output = OutputCapture({"stdout": out, "stderr": err}, limit, forward)
        self.stopped_by = ""
        """Reason why ``run`` killed it; empty if it ended by itself."""
        self._closed = False
        register(self.pid, self._mark)

    def run(
        self, timeout: float | None, stopped: Callable[[], bool] = lambda: False, grace: float = 1.0
    ) -> None:
        """Wait until the process ends, is stopped, or reaches its time limit; then kill the group.

        Args:
            timeout: Time limit in seconds; None for no limit.
            stopped: Function that is called several times a second; True stops the process.
            grace: Seconds between SIGTERM and SIGKILL: time to delete temporary files.
        """
        try:
            self.stopped_by = self.wait(timeout, stopped)
            self.kill(grace)
        finally:  # also after an interrupt
            self.kill()

    @property
    def running(self) -> bool:
        """True until the leader ends."""
        try:
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:  # the embedding program waits for all children
            return False

    def wait(
        self, timeout: float | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> str:
        """Read the output until the leader ends; return the reason for an earlier end of the wait.

        Args:
            timeout: Limit in seconds; None for no limit.
            stopped: Function that is called several times a second; True ends the wait.

        Returns:
            ``"timeout"`` or ``"stopped"``; empty if the leader has ended.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self.output.read(_POLL if self.output.streams else _END_POLL) or self.running:
            if time.monotonic() >= deadline:
                return "timeout"
            if stopped():
                return "stopped"
        return ""

    def kill(self, grace: float = 0.0) -> None:
        """Kill the group; read the rest of its output and its exit code. Later calls do nothing.

        Args:
            grace: Seconds between SIGTERM and SIGKILL for a running leader.
        """
        if self._closed:
            return
        running = self.running
        if grace > 0 and running and kill_group(self.pid, signal.SIGTERM):
            deadline = time.monotonic() + grace
            while kill_group(self.pid, 0) and time.monotonic() < deadline:
                self._process.poll()
                self.output.read(_END_POLL)
        kill_group(self.pid)
        self._process.wait()
        self.output.drain(_LINGER)
        if running or self.output.streams:  # a descendant outside the group can be alive
            kill_marked(self._mark)
        self._closed = True
        for stream in self.output.streams.values():
            stream.close()
        self.output.streams.clear()
        unregister(self.pid)

    @property
    def code(self) -> int:
        """Exit code, or minus the number of a signal. Call ``kill`` first."""
        return self._process.returncode

    @property
    def exit_text(self) -> str:
        """Exit code or name of the signal, as the end of a sentence."""
        code = self.code
        if code >= 0:
            return f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, from outside or by the kernel for lack of memory"
        names = {one.value: one.name for one in signal.Signals}
        text = (signal.strsignal(-code) or "unknown").lower()
        return f"was killed by {names.get(-code, f'signal {-code}')} ({text})"
