"""A small process that outlives its parent by a moment, and ends the programs its parent had started.

It is run as a script by ``program.py``, reads ``+ID MARK`` and ``-ID`` from its standard input, and knows that its
parent is gone when that is closed or when it has another parent. Standard library only: it must start in no time.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

MARK = "BO_INVERT_CALL"
"""Name of the environment variable by which the descendants of a program are known, whatever group they moved to."""


def end_group(group: int, how: int | None = None) -> bool:
    """Send a signal to every process of a group, by default SIGKILL; whether there was one."""
    try:
        os.killpg(group, signal.SIGKILL if how is None else how)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_marked(mark: str) -> None:
    """Kill what carries this mark in its environment, where the system tells (Linux): it had left its group."""
    wanted = f"{MARK}={mark}".encode()
    for name in (
        os.listdir("/proc") if hasattr(os, "pidfd_open") and os.path.isdir("/proc/self") else []
    ):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            handle = os.pidfd_open(
                int(name)
            )  # holds on to this process, should its number be given to another
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    marked = wanted in file.read().split(b"\0")
                if marked:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def watch() -> None:
    """Keep the list of programs under way; end them when the parent is gone."""
    parent, under_way, unread = os.getppid(), dict[int, str](), b""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it ends when its parent has ended, not before
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        read = os.read(0, 65536)
        if not read:
            break
        *lines, unread = (unread + read).split(b"\n")
        for line in lines:
            number, _, mark = line[1:].decode().partition(" ")
            if line[:1] == b"+":
                under_way[int(number)] = mark
            else:
                under_way.pop(int(number), None)
    for group, mark in under_way.items():
        end_group(group)
        end_marked(mark)


if __name__ == "__main__":
    watch()
    sys.exit(0)
