"""Identity of the processes that evaluate trials.

The start time in a name is in clock ticks since the boot, from ``/proc`` (Linux). Times of day from
psutil would change with the clock, and names are stored and compared for days.
"""

from __future__ import annotations

import itertools
import os
import socket
from functools import cache
from pathlib import Path

import psutil

_parts = itertools.count(1)


def this_worker() -> str:
    """Return the host, id and start time of this process. No other process has the same name."""
    return _name(os.getpid())


def new_worker() -> str:
    """Return a new name for one of several workers within this process."""
    return f"{this_worker()}/{next(_parts)}"


def is_gone(worker: str) -> bool:
    """Return True if the process of a worker has certainly ended.

    A process on another host is treated as alive.
    """
    worker = worker.partition("/")[0]
    host, pid, _ = [*worker.rsplit(":", 2), "", ""][:3]
    if host != _host() or not pid.isdecimal():  # another host or a chosen name
        return False
    # The id can belong to a later process, or to a zombie that was not waited for.
    return (
        not psutil.pid_exists(int(pid))
        or worker != _name(int(pid))
        or _status(int(pid))[:1] == ["Z"]
    )


@cache
def _host() -> str:
    return socket.gethostname()


def _name(pid: int) -> str:
    started = (_status(pid)[19:20] or ["0"])[0]  # without /proc the process id must suffice
    return f"{_host()}:{pid}:{started}"


def _status(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` after the program's name; [] without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
