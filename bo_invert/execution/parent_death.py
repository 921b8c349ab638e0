"""How a process ends with the one that began it, even if that one is killed.

The parent holds one end of a pipe for as long as it lives. When the other end of it hears that nobody is left, the
process group of the child is killed: by the kernel where it can, because a child that loops in C code holds the
interpreter lock and would never look.
"""

from __future__ import annotations

import os
import signal
import threading

from bo_invert.execution.reaper import end_group


def tie(fd: int) -> None:
    """End this process, and its group if it leads one, when the last holder of the pipe's other end is gone.

    Args:
        fd: the reading end.
    """
    leads = os.getpgrp() == os.getpid()
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid() if leads else os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        pass  # not Linux: the thread alone has to do

    def watch() -> None:
        os.read(fd, 1)
        if leads:
            end_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()
