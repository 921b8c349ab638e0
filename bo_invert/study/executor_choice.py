"""Choice of an executor: by name, by object, or by the oracle."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Executor
from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInputError, require
from bo_invert.execution.serial import SerialExecutor
from bo_invert.execution.supervised_process import pack
from bo_invert.problems.problem import Problem

AUTO = "auto"
"""Name of the choice by the oracle."""
_log = logging.getLogger(__name__)


def resolve_executor(
    executor: Executor | str | None, problem: Problem, batch: int, timeout: float | None
) -> tuple[Any, bool]:
    """Return an executor, and whether it was made here.

    Args:
        executor: Executor, Dask client, name or None; see ``Study.run``.
        problem: Problem to evaluate.
        batch: Number of workers of a new executor.
        timeout: Time limit of a call in seconds.

    Raises:
        InvalidInputError: Unknown name, or an executor without time limits.
        MissingExtraError: A package that it needs is not installed.
    """
    if executor == AUTO:
        executor = suitable(problem, batch, timeout)
    made = isinstance(executor, str)
    resolved: Any = SerialExecutor() if executor is None else executor
    if isinstance(executor, str):
        known = [AUTO, *registry.names("executors")]
        hint = registry.did_you_mean(executor, known)
        require(
            executor in known,
            f"run: executor must be one of {', '.join(known)}, got {executor!r}{hint}",
        )
        resolved = registry.resolve("executors", executor)(batch)
    elif type(resolved).__module__.split(".")[0] == "distributed":
        resolved = registry.resolve("executors", "dask").of(resolved, batch)
    require(
        callable(getattr(resolved, "submit", None)),
        "run: executor must have a method submit(fn, *args), "
        f"got an object of type {type(resolved).__name__}",
    )
    if timeout is not None and not callable(getattr(resolved, "give_up", None)):
        if made:
            resolved.shutdown(wait=False)
        name = executor if made or executor is None else type(resolved).__name__
        raise InvalidInputError(
            f"run: executor={name!r} cannot keep timeout={timeout:g}, because it cannot abandon a "
            "call. Use executor='processes' (kills the process) or 'threads' (leaves the thread "
            "behind), or bi.Isolated(oracle, timeout=...), which works with every executor"
        )
    _log.info("executor %s for %d trials at once", type(resolved).__name__, batch)
    return resolved, made


def suitable(problem: Problem, batch: int, timeout: float | None) -> str | None:
    """Return the name of the executor that suits an oracle; None for this process.

    An oracle that waits (a program, a server, an isolated one) needs threads. A batched one
    answers a whole batch in one call in this process. Another one computes in Python and needs
    processes, or threads if it cannot be pickled.
    """
    oracle = problem.oracle
    assert oracle is not None
    if timeout is None and (batch == 1 or (oracle.batched and not oracle.waits)):
        return None
    if oracle.waits or os.name != "posix":
        return "threads"
    try:
        pack(problem)
    except InvalidInputError:
        return "threads"
    return "processes"
