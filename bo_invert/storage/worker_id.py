"""Names of the processes that evaluate trials, and whether one is still there."""

from __future__ import annotations

import itertools
import os
import socket
from functools import cache
from pathlib import Path

_parts = itertools.count(1)


def this_worker() -> str:
    """Host, process id and start of this process: no other process ever has the same name."""
    return _name(os.getpid())


def new_worker() -> str:
    """A name for one of several workers within this process."""
    return f"{this_worker()}/{next(_parts)}"


def is_gone(worker: str) -> bool:
    """Whether a worker's process has certainly ended. One on another host is taken to be alive."""
    worker = worker.partition("/")[0]
    host, pid, _ = [*worker.rsplit(":", 2), "", ""][:3]
    if host != _host() or not pid.isdecimal():  # elsewhere, or a name that somebody chose
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists, and belongs to somebody else
    # The number may have passed to a younger process, or stand for one that was killed and not waited for.
    return worker != _name(int(pid)) or _status(int(pid))[:1] == ["Z"]


@cache
def _host() -> str:
    return socket.gethostname()


def _name(pid: int) -> str:
    started = (_status(pid)[19:20] or ["0"])[0]  # without /proc the process id alone has to do
    return f"{_host()}:{pid}:{started}"


def _status(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` behind the program's name; none where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
