"""Which executor is meant: a name, something given, or whatever suits the oracle."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from typing import Any

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.execution.serial import SerialExecutor
from bo_invert.execution.worker_process import pack
from bo_invert.problems.problem import Problem

#: Chooses by the oracle.
AUTO = "auto"


def resolve_executor(
    executor: Executor | str | None, problem: Problem, batch: int, timeout: float | None
) -> tuple[Any, bool]:
    """What has ``submit``, and whether it was made here, with ``batch`` workers.

    Raises:
        InvalidInputError: there is none of this name, or it cannot keep a time limit.
        MissingExtraError: what it needs is not installed.
    """
    if executor == AUTO:
        executor = suitable(problem, batch, timeout)
    made = isinstance(executor, str)
    engine: Any = SerialExecutor() if executor is None else executor
    if isinstance(executor, str):
        try:
            engine = registry.resolve("executors", executor)(batch)
        except InvalidInputError as error:
            raise InvalidInputError(f"run: {error}, and {AUTO!r}") from None
    elif type(engine).__module__.split(".")[0] == "distributed":
        engine = registry.resolve("executors", "dask").of(engine, batch)
    if not callable(getattr(engine, "submit", None)):
        raise InvalidInputError(
            f"run: an executor has a method submit(fn, *args), and {type(engine).__name__} has none"
        )
    if timeout is not None and not callable(getattr(engine, "give_up", None)):
        if made:
            engine.shutdown(wait=False)
        name = (
            "executor=None"
            if executor is None
            else f"executor={executor if made else type(engine).__name__!r}"
        )
        raise InvalidInputError(
            f"run: {name} cannot keep timeout={timeout:g}, because it cannot let go of a call; use "
            "executor='processes' (its process is killed) or 'threads' (the thread is left behind), or "
            "bi.Isolated(oracle, timeout=...), which works everywhere"
        )
    return engine, made


def suitable(problem: Problem, batch: int, timeout: float | None) -> str | None:
    """The name of the executor that suits a problem's oracle; None for here, one after another.

    An oracle that works elsewhere (a program, a server, an isolated one) needs threads to wait in. A batched one
    answers all designs of a batch at once, here. Anything else computes in Python, and needs processes to do so side
    by side; threads, if it cannot travel there.
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
