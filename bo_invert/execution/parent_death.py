"""Termination of process groups after the death of the process that started them.

A killed process cannot clean up after itself. It therefore starts a small reaper process: this
file, run as a script. The reaper holds a list of the running process groups. It detects the death
of its parent by the end of its standard input or by a change of its parent, and kills the groups.
The script needs the standard library to start, and psutil only to clean up.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress

MARK = "BO_INVERT_CALL"
"""Environment variable that identifies the descendants of a process in any process group."""

_lock = threading.Lock()
_groups: dict[int, str] = {}
_pipe = -1


def register(group: int, mark: str) -> None:
    """Let a process group end with this process.

    Args:
        group: Process group to kill after the death of this process.
        mark: Value of ``MARK`` in the environment of the group.
    """
    with _lock:
        _groups[group] = mark
        _notify()


def unregister(group: int) -> None:
    """Forget a process group that has ended."""
    with _lock:
        if _groups.pop(group, None) is not None:
            _notify()


def kill_group(group: int, signum: int | None = None) -> bool:
    """Send a signal to every process of a group; return False if there is none.

    Args:
        group: Process group.
        signum: Signal number. Default: SIGKILL.
    """
    try:
        os.killpg(group, signal.SIGKILL if signum is None else signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_marked(mark: str) -> None:
    """Kill all processes with this mark, including those that left their process group.

    The system must allow a look at the environment of other processes (Linux, macOS).
    """
    import psutil  # late: the reaper script must start with the standard library alone

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                process.kill()


def _notify() -> None:
    """Send the list of groups to the reaper. Start the reaper if there is none."""
    if not sys.executable:
        return
    groups = f"{json.dumps(_groups)}\n".encode()
    try:
        os.write(_pipe, groups)
    except OSError:  # no reaper yet, or a dead one
        _start_reaper()
        os.write(_pipe, groups)


def _start_reaper() -> None:
    global _pipe
    if _pipe >= 0:
        os.close(_pipe)
    stdin, _pipe = os.pipe()
    reaper = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, json.dumps([*map(str, sys.path)])],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        # Without the mark of a call: the reaper has to survive the end of that call.
        env={name: value for name, value in os.environ.items() if name != MARK},
    )
    reaper.returncode = 0  # it ends after this process, and needs no wait
    os.close(stdin)


def _after_fork() -> None:
    """Reset the state in a forked process, which owns none of the groups of its parent."""
    global _lock, _pipe
    if _pipe >= 0:
        os.close(_pipe)  # else the reaper could not detect the end of the parent at once
    _lock, _pipe = threading.Lock(), -1
    _groups.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _reap() -> None:
    """Read lists of groups until the parent is dead; then kill the groups of the last list."""
    parent, groups, unread = os.getppid(), b"{}", b""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # A fork of the parent can hold the pipe open, so the parent's id is checked every second too.
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0]:
            received = os.read(0, 65536)
            if not received:
                break
            *lines, unread = (unread + received).split(b"\n")
            groups = lines[-1] if lines else groups
    for group, mark in json.loads(groups).items():
        kill_group(int(group))
        kill_marked(mark)


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    _reap()
