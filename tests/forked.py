"""Processes of tests, forked from a server with the slow imports.

A new interpreter needs a second of CPU time for them. The functions that the processes run lie in
modules with few imports, because each process imports them again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import bo_invert as bi
from bo_invert.errors import StorageConflictError
from bo_invert.storage.base import Store
from bo_invert.storage.sql import SqlStore

PRELOAD = [
    "numpy",
    "pytest",
    "scipy.stats",
    "sqlalchemy",
    "botorch",
    "uvicorn",
    "bo_invert.service.app",
    "bo_invert.cli.serve",
    "bo_invert.models.acquisition.feasibility",
    "bo_invert.models.fitted_model",
    "bo_invert.strategies.gp",
]


def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOAD)
    return made


def start(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    process = context().Process(target=function, args=arguments)
    process.start()
    return process


def ends(processes: list[BaseProcess], seconds: float = 240.0) -> list[int | None]:
    """Wait for processes; return their exit codes."""
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def ask_and_tell(barrier: Any, url: str, name: str, each: int) -> None:
    """Create or open a study at the same time as others, and record ``each`` trials in it."""
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize())
    barrier.wait(60)
    study = bi.Study.create(name, problem, "random", storage=url, exist_ok=True)
    for _ in range(each):
        (trial,) = study.ask()
        study.tell(trial, float(trial.number))


def append_all(store: Store, name: str, worker: str, count: int) -> None:
    """Append numbered events to a log that others write at the same time."""
    for number in range(count):
        while True:
            try:
                store.append(name, [{"worker": worker, "number": number}], len(store.events(name)))
                break
            except StorageConflictError:
                continue


def append_from_process(url: str, name: str, worker: str, count: int) -> None:
    append_all(SqlStore(url), name, worker, count)


def make_study(barrier: Any, url: str, name: str) -> None:
    """Create an empty log at the same time as others."""
    barrier.wait(60)
    SqlStore(url).create(name, {})


def command_line(folder: str, arguments: list[str]) -> None:
    """Run ``bo-invert`` in a folder."""
    from bo_invert.cli.main import main

    os.chdir(folder)
    sys.argv = ["bo-invert", *arguments]
    sys.exit(main())


def serve(stderr: Connection, arguments: list[str], preload: bool) -> None:
    """Run ``bo-invert serve`` with its standard error in a pipe.

    Without ``preload`` the ask processes start at the first ask: each start imports torch, which
    costs a second of CPU time.
    """
    from bo_invert.cli.main import main
    from bo_invert.service.ask_queue import AskProcesses

    os.dup2(stderr.fileno(), 2)
    stderr.close()
    if not preload:
        AskProcesses.start = lambda self: None  # type: ignore[method-assign]
    sys.argv = ["bo-invert", *arguments]
    sys.exit(main())


def kill_repeatedly(
    search: Callable[[Path], Any], folder: Path, name: str, marks: Sequence[int]
) -> None:
    """Kill a search each time its study has at least ``mark`` completed trials.

    Args:
        search: Function of a folder that starts or resumes a study in its ``runs.db``.
        folder: Folder.
        name: Name of the study.
        marks: Increasing numbers of completed trials, below that of the whole search.
    """
    for mark in marks:
        process = start(search, folder)
        deadline = time.monotonic() + 120.0
        while completed(folder, name) < mark:
            assert process.is_alive(), "the search ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        assert ends([process]) == [-signal.SIGKILL]


def completed(folder: Path, name: str) -> int:
    """Return the number of completed trials, 0 before the study exists."""
    try:
        return len(bi.Study.open(name, f"sqlite:///{folder}/runs.db").history.completed)
    except bi.BoInvertError:
        return 0
