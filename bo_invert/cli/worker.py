"""``bo-invert worker``: evaluates trials of a study in a shared storage or on a server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from bo_invert.cli.options import (
    Find,
    Noisy,
    Options,
    Quiet,
    Settings,
    Token,
    parse_settings,
    strategy_options,
)
from bo_invert.cli.output import best_record, emit, say
from bo_invert.errors import ErrorStream, InvalidInputError
from bo_invert.problems.loading import load_problem
from bo_invert.storage.open import open_store
from bo_invert.study.failing_runs import is_hopeless
from bo_invert.study.progress_bar import RunProgressBar
from bo_invert.study.retargeting import logged_problem
from bo_invert.study.stop import Progress, Stopping, StopRule
from bo_invert.study.study import Study

ENDLESS = 10**9
"""Budget in calls of a worker without ``--budget``; no study has as many."""

HOPELESS = "the outputs do not fit the problem; the worker ends"
LEFT = "unfinished trials are given back"


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
    option: Options = None,
    noisy: Noisy = None,
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
    rule: Annotated[
        str | None,
        typer.Option(
            "--stop", metavar="RULE", help="End earlier, see `run`: regret:1%, patience:30, ..."
        ),
    ] = None,
    find: Find = None,
    token: Token = None,
    settings: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Evaluate trials of a shared study.

    Any number of workers can run at once, on any machines. A worker shows the progress of the study
    and, at its end, the best trial.
    """
    made = load_problem(problem, parse_settings(settings, "--set"))
    store = open_store(storage, token, patience)
    options = strategy_options(option, noisy)
    if options and not create:
        raise InvalidInputError("worker: --option and --noisy need --create")
    study = (
        Study.create(name, made, strategy, seed, store, exist_ok=True, **options)
        if create
        else Study.open(name, store, logged_problem(store.header(name), made))
    )
    _tell(f"worker of study {name!r} at {storage}")
    chosen = None if executor == "serial" else executor
    stop = threading.Event()
    stopping = None if rule is None else Stopping(rule, study)
    reason = ""
    bar = RunProgressBar(study.journal, made, budget, "" if quiet else f"study {name}")

    def ends() -> bool:
        if not stop.is_set():
            bar.update()
        return stop.is_set() or (stopping is not None and stopping())

    try:
        with _stopping(stop, grace, study.journal.shorten_timeouts):
            while not stop.is_set() and not reason:
                study.run(
                    budget or ENDLESS, batch=jobs, executor=chosen, retries=retries,
                    find=find, stop=_Signal(ends, stopping), timeout=timeout,
                )  # fmt: skip
                reason = _reason(study, budget, study.finds_all(find))
                if stopping is not None and stopping.why:
                    study.journal.end(stopping.why)
                    reason = stopping.why
                bar.update()
                stop.wait(0.0 if reason else 1.0)
    except _GraceOverError as end:
        reason = LEFT  # the bar stays open: its last update would wait for the storage
        _tell("\n".join([reason, *getattr(end, "__notes__", ())]))
    else:
        bar.close()
        _tell(f"{reason or 'stopped'}: {study.spent}")
        if study.best is not None and not quiet:
            emit(best_record(study.journal, study.best), "table")
    if reason in (HOPELESS, LEFT):
        ErrorStream().flush()
        # Threads inside the oracle would keep the process alive until they return.
        os._exit(1 if reason == HOPELESS else 0)


def _tell(message: str) -> None:
    say(f"bo-invert: {message}")


def _reason(study: Study, budget: int | None, find_all: bool) -> str:
    """Return the reason why no trial of the study is left; empty if there may be more."""
    best = study.best
    assert study.problem is not None
    if find_all and study.ended:
        return study.ended
    if not find_all and best is not None and study.problem.objective.satisfied(best.y):
        return "target reached"
    if is_hopeless(study.journal):
        return HOPELESS
    return "budget spent" if budget is not None and study.journal.is_over(budget) else ""


@dataclass(frozen=True)
class _Signal(StopRule):
    """End of a worker, which is no result of the study.

    Args:
        ends: Function that is True at the end.
        rule: Rule of the worker; its best hopes are asked.
    """

    ends: Callable[[], bool]
    rule: Stopping | None = None
    recorded = False

    @property
    def hope_level(self) -> float | None:
        return None if self.rule is None else self.rule.hope_level

    def start(self, progress: Progress) -> Callable[[], str]:
        return lambda: "the worker ends" if self.ends() else ""

    def __str__(self) -> str:
        return "signal"


class _GraceOverError(KeyboardInterrupt):
    """End of the grace period; like Ctrl-C, no oracle takes it for a failure."""


@contextmanager
def _stopping(stop: threading.Event, grace: float, hurry: Callable[[], None]) -> Iterator[None]:
    """Set the event on SIGTERM or Ctrl-C; raise on a second signal or ``grace`` seconds later.

    Then no new trial starts. Running trials that do not finish in time are billed and given back
    to other workers.
    """

    def handle(number: int, _: object) -> None:
        if stop.is_set() or number == signal.SIGALRM:
            hurry()
            raise _GraceOverError
        stop.set()
        _tell(f"stopping: running trials have {grace:g} s to finish; a second signal ends at once")
        signal.setitimer(signal.ITIMER_REAL, max(grace, 1e-3))

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
