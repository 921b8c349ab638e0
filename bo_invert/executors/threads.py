"""Threads of this process: for oracles that wait (files, networks, subprocesses) or release the interpreter lock."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor


def thread_executor(workers: int) -> Executor:
    """A pool of ``workers`` threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix="bo-invert")
