"""``bo-invert worker``: evaluates trials of a study that lives elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Annotated

import typer

from bo_invert.cli.options import Settings, parse_settings
from bo_invert.cli.output import say

if TYPE_CHECKING:
    from bo_invert.study.study import Study


def worker(
    storage: Annotated[
        str, typer.Argument(metavar="URL", help="Of a server (https://host:8765) or a storage.")
    ],
    name: Annotated[str, typer.Argument(metavar="STUDY", help="Its name; see --create.")],
    problem: Annotated[
        str, typer.Argument(metavar="PROBLEM", help="file.py:name, or a ready problem's name.")
    ],
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Trials under way at once.")] = 1,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Calls of the whole study; default: until SIGTERM or Ctrl-C."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="processes, threads, serial, auto, dask or slurm.")
    ] = "processes",
    create: Annotated[
        bool, typer.Option("--create", help="Begin the study if it is not there.")
    ] = False,
    strategy: Annotated[str, typer.Option(help="With --create.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="With --create.")] = 0,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a failed trial is tried again.")
    ] = 0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish what is under way when told to stop.")
    ] = 10.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds for one attempt, then it is given up as failed."),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds to go on trying when the storage or the server does not answer."
        ),
    ] = 600.0,
    token: Annotated[
        str | None, typer.Option(envvar="BO_INVERT_TOKEN", help="Of the server.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Work on a study: take trials, evaluate them here, tell what came of them. Any number of workers may."""
    from bo_invert.problems.loading import load_problem
    from bo_invert.storage.open import open_store
    from bo_invert.study.study import Study

    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage, token, patience)
    if create:
        study = Study.create(name, made, strategy, seed, store, exist_ok=True)
    else:
        study = Study.open(name, store, made)
    say(f"bo-invert: working on {name!r} at {storage}")
    chosen = None if executor == "serial" else executor
    ending = work(
        study, budget, jobs, chosen, retries, grace, lambda text: say(f"bo-invert: {text}"), timeout
    )
    if ending is not Ending.FINISHED:
        sys.stderr.flush()
        # Threads that are still inside the oracle would keep the process until they return.
        os._exit(1 if ending is Ending.HOPELESS else 0)


#: Calls that no budget of a study comes near.
ENDLESS = 10**9
_PAUSE = 1.0
"""Seconds until a worker asks again where there was nothing to do."""


class Ending(Enum):
    """How a worker ended: with all that it had begun, before that, or because answers do not fit the problem."""

    FINISHED = auto()
    LEFT = auto()
    HOPELESS = auto()


def work(
    study: Study,
    budget: int | None,
    jobs: int,
    executor: str | None,
    retries: int,
    grace: float,
    say: Callable[[str], None],
    timeout: float | None = None,
) -> Ending:
    """Work on a study until its budget is spent, its target is hit, or somebody says stop.

    On SIGTERM (or Ctrl-C) nothing new is begun. What is under way is awaited for ``grace`` seconds; what is not ready
    then is billed and given back, for another worker.

    Args:
        study: with its problem.
        budget: calls the whole study may spend; None: until somebody says stop.
        jobs: trials under way at once.
        executor: a name, as for ``Study.run``; None for one after another in this process.
        retries: how often a failed trial is tried again.
        grace: seconds.
        say: shows a sentence to the user.
        timeout: seconds for one attempt.

    Returns:
        How it ended.
    """
    stop = threading.Event()
    try:
        with _stopping(stop, grace, study.journal.shorten_timeouts, say):
            return _until(stop, study, budget, jobs, executor, retries, say, timeout)
    except _Patience as end:
        say("\n".join(["what was not ready is given back", *getattr(end, "__notes__", ())]))
        return Ending.LEFT


def _until(
    stop: threading.Event,
    study: Study,
    budget: int | None,
    jobs: int,
    executor: str | None,
    retries: int,
    say: Callable[[str], None],
    timeout: float | None,
) -> Ending:
    """Run, and run again when there was nothing to do, until there will be nothing to do."""
    from bo_invert.study.watchdog import is_hopeless

    while not stop.is_set():
        calls = budget or ENDLESS
        study.run(
            calls, batch=jobs, executor=executor, retries=retries, stop=stop.is_set, timeout=timeout
        )
        best = study.best
        assert study.problem is not None
        if best is not None and study.problem.objective.satisfied(best.y):
            say(f"the target is hit: {study.spent}")
            return Ending.FINISHED
        if is_hopeless(study.journal):
            say(f"the answers do not fit the problem, and this worker ends: {study.spent}")
            return Ending.HOPELESS
        if budget is not None and study.journal.is_over(budget):
            say(f"the budget is spent: {study.spent}")
            return Ending.FINISHED
        stop.wait(_PAUSE)
    say(f"stopped: {study.spent}")
    return Ending.FINISHED


class _Patience(Exception):
    """The grace is over."""


@contextmanager
def _stopping(
    stop: threading.Event, grace: float, hurry: Callable[[], None], say: Callable[[str], None]
) -> Iterator[None]:
    """SIGTERM and Ctrl-C set the event; a second one, or an alarm after ``grace`` seconds, ends the wait."""

    def asked(number: int, _: object) -> None:
        if stop.is_set() or number == signal.SIGALRM:
            hurry()
            raise _Patience
        stop.set()
        say(f"stopping: what is under way has {grace:g} seconds; once more to leave at once")
        signal.setitimer(signal.ITIMER_REAL, max(grace, 1e-3))

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.signal(number, asked) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
