"""Processes on this machine through loky: for oracles that compute in Python. Needs the extra ``processes``."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Executor

from bo_invert.errors import MissingExtra

#: One numerical thread per worker: several workers with several threads each only get in each other's way.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def process_executor(workers: int) -> Executor:
    """A pool of ``workers`` fresh processes.

    Raises:
        MissingExtra: loky is not installed.
    """
    try:
        from loky import ProcessPoolExecutor
    except ImportError:
        raise MissingExtra(
            "processes need the package loky; install it with: pip install 'bo-invert[processes]'"
        ) from None
    executor: Executor = ProcessPoolExecutor(workers, env=_ONE_THREAD, initializer=_end_with, initargs=(os.getpid(),))
    return executor


def _end_with(parent: int) -> None:
    """Let this worker end when the process that began it is killed; it would wait for tasks forever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
