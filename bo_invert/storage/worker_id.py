"""Identity of the processes that evaluate trials: boot, PID namespace, process id, start time.

Process ids are unique within one PID namespace of one boot only. Containers often share a host
name, and their process ids overlap. The host in a name is therefore information for readers; the
boot id and the namespace identify where the process runs. The start time is in clock ticks since
the boot: times of day would change with the clock, and names are stored and compared for days.

Systems without ``/proc`` have no PID namespaces. There the host and the process id must suffice.
"""

from __future__ import annotations

import itertools
import os
import socket
from functools import cache
from pathlib import Path

import psutil

_parts = itertools.count(1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_DIGITS = 12
"""Digits of the boot id in a name. Engineering choice: 48 random bits do not collide."""


def this_worker() -> str:
    """Return ``host@boot.namespace:pid:start`` of this process. No other process has this name."""
    started = (_status("self")[19:20] or ["0"])[0]
    return f"{_host()}@{_place()}:{os.getpid()}:{started}"


def new_worker() -> str:
    """Return a new name for one of several workers within this process."""
    return f"{this_worker()}/{next(_parts)}"


def is_gone(worker: str) -> bool:
    """Return True if the process of a worker has certainly ended.

    A process of another boot or PID namespace cannot be seen from here. It is treated as alive;
    its lease decides.
    """
    where, pid, started = _parts_of(worker)
    _, separator, place = where.rpartition("@")
    # Names without a place are from versions that identified processes by the host.
    here = place == _place() if separator else place == _host()
    if not here or not pid.isdecimal():
        return False
    if not psutil.pid_exists(int(pid)):
        return True
    status = _status(pid) if _shows_own_processes() else []
    if not status:  # processes of other users are hidden, or the system has no /proc
        return False
    # The id can belong to a later process, or to a zombie that was not waited for.
    return status[0] == "Z" or status[19] != started


def is_unseen(worker: str) -> bool:
    """Return True if a worker is a process of another boot or PID namespace."""
    _, separator, place = _parts_of(worker)[0].rpartition("@")
    return bool(separator) and place != _place()


def _parts_of(worker: str) -> tuple[str, str, str]:
    """Return place, process id and start time in the name of a worker."""
    where, pid, started = [*worker.partition("/")[0].rsplit(":", 2), "", ""][:3]
    return where, pid, started


@cache
def _host() -> str:
    return socket.gethostname()


def _place() -> str:
    """Return the boot id and the PID namespace of this process."""
    try:
        boot = _BOOT_ID.read_text().strip().replace("-", "")[:_BOOT_DIGITS]
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return _host()


def _shows_own_processes() -> bool:
    """Return True if ``/proc`` shows the PID namespace of this process, not that of a parent."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _status(pid: str) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` after the program's name; [] without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
