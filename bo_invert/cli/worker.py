"""``bo-invert worker``: evaluates trials of a study in a shared storage or on a server."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Annotated

import typer

from bo_invert.cli.options import Settings, Token, parse_settings
from bo_invert.cli.output import say
from bo_invert.problems.loading import load_problem
from bo_invert.storage.open import open_store
from bo_invert.study.failing_runs import is_hopeless
from bo_invert.study.study import Study

ENDLESS = 10**9
"""Budget in calls of a worker without ``--budget``; no study has as many."""


def worker(
    storage: Annotated[
        str,
        typer.Argument(metavar="URL", help="Server (https://host:8765) or database URL."),
    ],
    name: Annotated[str, typer.Argument(metavar="STUDY", help="Study name; see --create.")],
    problem: Annotated[
        str, typer.Argument(metavar="PROBLEM", help="Ready problem or file.py:name.")
    ],
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Number of concurrent trials.")
    ] = 1,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Calls of the whole study; default: until SIGTERM or Ctrl-C."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="processes, threads, serial, auto, dask or slurm.")
    ] = "processes",
    create: Annotated[
        bool, typer.Option("--create", help="Create the study if it does not exist.")
    ] = False,
    strategy: Annotated[str, typer.Option(help="Strategy of a created study.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of a created study.")] = 0,
    retries: Annotated[int, typer.Option(min=0, help="Retries of a failed trial.")] = 0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish running trials after SIGTERM.")
    ] = 10.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Time limit of one attempt in seconds."),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(min=0, help="Seconds to retry when the storage or server does not respond."),
    ] = 600.0,
    token: Token = None,
    settings: Settings = None,
) -> None:
    """Evaluate trials of a shared study.

    Any number of workers can run at once, on any machines.
    """
    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage, token, patience)
    if create:
        study = Study.create(name, made, strategy, seed, store, exist_ok=True)
    else:
        study = Study.open(name, store, made)
    say(f"bo-invert: worker of study {name!r} at {storage}")
    chosen = None if executor == "serial" else executor
    ending = work(
        study, budget, jobs, chosen, retries, grace, lambda text: say(f"bo-invert: {text}"), timeout
    )
    if ending is not Ending.FINISHED:
        sys.stderr.flush()
        # Threads inside the oracle would keep the process alive until they return.
        os._exit(1 if ending is Ending.HOPELESS else 0)


class Ending(Enum):
    """Reason why a worker ended.

    FINISHED: all its trials are finished. LEFT: it gave running trials back. HOPELESS: the
    outputs do not fit the problem.
    """

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
    """Evaluate trials until the budget is spent, the target is reached, or a signal arrives.

    After SIGTERM or Ctrl-C no new trial starts. Running trials have ``grace`` seconds to finish;
    the others are billed and given back to other workers.

    Args:
        study: an open study with its problem.
        budget: calls of the whole study; None: no limit.
        jobs: number of concurrent trials.
        executor: name of the executor, as for ``Study.run``; None: sequential in this process.
        retries: retries of a failed trial.
        grace: seconds to finish running trials.
        say: function that shows a message.
        timeout: time limit of one attempt in seconds.

    Returns:
        The reason why it ended.
    """
    stop = threading.Event()
    try:
        with _stopping(stop, grace, study.journal.shorten_timeouts, say):
            return _until(stop, study, budget, jobs, executor, retries, say, timeout)
    except _GraceOverError as end:
        say("\n".join(["unfinished trials are given back", *getattr(end, "__notes__", ())]))
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
    pause: float = 1.0,
) -> Ending:
    """Run the study again and again, ``pause`` seconds after there was no trial to evaluate."""
    calls = budget or ENDLESS
    while not stop.is_set():
        study.run(
            calls, batch=jobs, executor=executor, retries=retries, stop=stop.is_set, timeout=timeout
        )
        best = study.best
        assert study.problem is not None
        if best is not None and study.problem.objective.satisfied(best.y):
            say(f"target reached: {study.spent}")
            return Ending.FINISHED
        if is_hopeless(study.journal):
            say(f"the outputs do not fit the problem; the worker ends: {study.spent}")
            return Ending.HOPELESS
        if budget is not None and study.journal.is_over(budget):
            say(f"budget spent: {study.spent}")
            return Ending.FINISHED
        stop.wait(pause)
    say(f"stopped: {study.spent}")
    return Ending.FINISHED


class _GraceOverError(Exception):
    """End of the grace period."""


@contextmanager
def _stopping(
    stop: threading.Event, grace: float, hurry: Callable[[], None], say: Callable[[str], None]
) -> Iterator[None]:
    """Set the event on SIGTERM or Ctrl-C; raise on a second signal or ``grace`` seconds later."""

    def handle(number: int, _: object) -> None:
        if stop.is_set() or number == signal.SIGALRM:
            hurry()
            raise _GraceOverError
        stop.set()
        say(f"stopping: running trials have {grace:g} s to finish; a second signal ends at once")
        signal.setitimer(signal.ITIMER_REAL, max(grace, 1e-3))

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
