"""Problems x methods x seeds: what is not there yet is run, and every finished run is written down at once.

A run under way lives in an SQLite file of its own, so that an interruption costs no more than one ask. Nothing here
needs an orderly end: after ``kill -9`` the same call goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import bo_invert
from bo_invert import registry
from bo_invert.benchmark.fingerprint import code_of
from bo_invert.benchmark.pool import perform
from bo_invert.benchmark.results import Key, Results, file_name, to_line
from bo_invert.benchmark.run import ProblemSource, run_one
from bo_invert.benchmark.suite import PEERS, SuiteProblem
from bo_invert.errors import MissingExtraError
from bo_invert.report.runs import Run, Status
from bo_invert.storage.worker_id import is_gone, this_worker
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON

#: Where runs under way are kept, below the folder of the results.
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Task:
    """One run to be done, as it travels to a worker.

    Args:
        key: of the run.
        source: of the problem.
        checkpoints: folder of the runs under way, in that of the results.
        deadline: seconds since the epoch after which nothing is begun.
        referee: the process that wants it; a worker stops when that is gone.
    """

    key: Key
    source: ProblemSource
    checkpoints: Path
    deadline: float
    referee: str

    @property
    def results(self) -> Results:
        """Where it will be written down, by the referee."""
        return Results(self.checkpoints.parent)

    def over(self) -> bool:
        """Whether nothing new should be begun."""
        return time.time() >= self.deadline or is_gone(self.referee)


@dataclass(frozen=True)
class Account:
    """What became of the runs that were asked for.

    Args:
        total: all of them.
        there: were there before.
        done: finished now.
        left: still to be done: the time was up, they broke down, a package is missing, or another process is at them.
        troubles: one sentence per run that was refused or broke down.
    """

    total: int
    there: int
    done: int = 0
    left: int = 0
    troubles: tuple[str, ...] = ()


class Spectator:
    """Is told what a referee does. This one looks away."""

    def planned(self, account: Account) -> None:
        """Before anything is run."""

    def begun(self, key: Key, account: Account) -> None:
        """A run is begun, or gone on with."""

    def ended(self, key: Key, account: Account, sentence: str) -> None:
        """It ended as the sentence says."""


def keys(
    problems: Sequence[str],
    methods: Mapping[str, JSON],
    seeds: Sequence[int],
    budget: int,
    batch: int,
) -> list[Key]:
    """Every run, in the order in which they are done: seed by seed, so that what is there is balanced at any time."""
    return [
        Key(problem, label, spec, seed, budget, batch)
        for seed in seeds
        for problem in problems
        for label, spec in methods.items()
    ]


def referee(
    problems: Mapping[str, ProblemSource],
    methods: Mapping[str, JSON],
    seeds: Sequence[int],
    *,
    budget: int,
    batch: int,
    results: Results,
    jobs: int = 1,
    time_limit: float | None = None,
    spectator: Spectator | None = None,
) -> Account:
    """Do the runs that are not there yet.

    Args:
        problems: names to problems or to functions ``seed -> Problem``.
        methods: labels to specs ``{"name": ..., "options": {...}}``.
        seeds: of the runs.
        budget: calls of each run.
        batch: trials under way at once within a run.
        results: where the runs are kept.
        jobs: runs at once, in processes where loky is installed.
        time_limit: in minutes; then no run is begun, and those under way stop before their next ask.
        spectator: is told what is to be done, begun and ended.

    Returns:
        What became of them. Refused runs are results; those that broke down or miss a package are tried again by the
        next call.

    Raises:
        InvalidInputError: a spec is not one of a strategy.
    """
    for spec in methods.values():
        from_spec(spec)
    wanted = keys(list(problems), methods, seeds, budget, batch)
    there = results.done(wanted)
    open_keys = [key for key in wanted if key.text() not in there]
    account = Account(len(wanted), len(wanted) - len(open_keys))
    watcher = Spectator() if spectator is None else spectator
    watcher.planned(account)
    checkpoints = results.folder / UNFINISHED
    _prepare(checkpoints)
    deadline = float("inf") if time_limit is None else time.time() + 60.0 * time_limit
    tasks = [
        Task(key, problems[key.problem], checkpoints, deadline, this_worker()) for key in open_keys
    ]

    def begin(index: int) -> None:
        watcher.begun(tasks[index].key, account)

    with closing(
        perform(work, tasks, jobs, stop=lambda: time.time() >= deadline, begin=begin)
    ) as ended:
        for index, result in ended:
            key = tasks[index].key
            if isinstance(result, Exception):
                trouble = f"{type(result).__name__}: {result}"
                account = replace(
                    account, troubles=(*account.troubles, f"{key.problem}, {key.label}: {trouble}")
                )
                watcher.ended(key, account, trouble)
                continue
            run, line = result
            if line is not None:
                results.append(key, line)
                _forget(tasks[index])
            if line is not None and run.status is not Status.ERROR:
                account = replace(account, done=account.done + 1)
            if run.status in (Status.REFUSED, Status.ERROR):
                trouble = f"{key.problem}, {key.label}: {run.status}: {run.ended}"
                account = replace(account, troubles=(*account.troubles, trouble))
            watcher.ended(key, account, _outcome(run))
    return replace(account, left=len(wanted) - len(results.done(wanted)))


def work(task: Task) -> tuple[Run, JSON | None]:
    """Do one run, or go on with it.

    Returns:
        The run; and its line, or None for a run that is not to be written down: it was stopped, is done by somebody
        else, or misses a package.
    """
    key = task.key
    code = code_of(
        key.spec["name"], task.source.name if isinstance(task.source, SuiteProblem) else None
    )
    with _claim(task) as mine:
        if not mine:
            return _stopped(
                key, "it was stopped" if task.over() else "another process is at it"
            ), None
        if task.results.done([key]):
            return _stopped(key, "another process did it meanwhile"), None
        try:
            problem = task.source(key.seed) if callable(task.source) else task.source
            strategy = from_spec(key.spec)
        except MissingExtraError as missing:
            return _stopped(key, str(missing), Status.REFUSED), None
        # What the checkpoint is of is in its name: a strategy or a problem that changed meanwhile, in its settings or
        # its code, starts afresh. No run is half of one and half of another.
        facts = json.dumps(
            [problem.to_json(), strategy.spec(), code["method"], code["problem"]], sort_keys=True
        )
        digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
        file = task.checkpoints / f"{_stem(key)}--{digest}.db"
        with closing(registry.resolve("stores", "sql")(file)) as store:
            run = run_one(
                key.label, problem, strategy, key.budget, key.seed,
                name=key.problem, batch=key.batch, storage=store, stop=task.over,
            )  # fmt: skip
    missing_extra = run.status is Status.REFUSED and _lacks(key)
    kept = run.status is not Status.STOPPED and not missing_extra
    return run, to_line(key, run, _versions(key), code) if kept else None


def _stopped(key: Key, sentence: str, status: Status = Status.STOPPED) -> Run:
    return Run(
        key.label, key.problem, key.seed, key.spec, key.budget, status=status, ended=sentence
    )


def _outcome(run: Run) -> str:
    if run.status is not Status.FINISHED:
        return f"{run.status}: {run.ended}"
    return f"loss {run.loss:.6g} after {run.bill.calls} calls, {run.bill.asking:.3g} s of asking"


def _lacks(key: Key) -> bool:
    return key.spec["name"] in PEERS and _version(PEERS[key.spec["name"]]) is None


def _versions(key: Key) -> dict[str, str]:
    found = {"bo_invert": bo_invert.__version__}
    package = PEERS.get(key.spec["name"], "numpy")
    version = _version(package)
    return found if version is None else {**found, package: version}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------- files of the runs under way


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def _stem(key: Key) -> str:
    parts = (key.problem, key.label, f"seed{key.seed}", f"{key.budget}x{key.batch}")
    spec = hashlib.sha256(json.dumps(key.spec, sort_keys=True).encode()).hexdigest()[:6]
    return "--".join([*map(file_name, parts), spec])


def _forget(task: Task) -> None:
    """The run is written down: its checkpoint, and those of earlier versions of it, have done their duty."""
    for path in task.checkpoints.glob(f"{_stem(task.key)}--*"):
        path.unlink(missing_ok=True)


@contextmanager
def _claim(task: Task) -> Iterator[bool]:
    """Keep a run to this process. False: another one, whose referee is alive, is at it.

    A claim whose process is gone is void. A worker whose referee was killed is about to stop, and is waited for.
    """
    path = task.checkpoints / f"{_stem(task.key)}.claim"
    draft = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}")
    draft.write_text(f"{this_worker()}\n{task.referee}\n")
    mine = False
    while not mine and not task.over():
        try:
            os.link(draft, path)  # in one piece: nobody ever sees a claim without its names
            mine = True
        except FileExistsError:
            worker, owner = _claimed(path)
            if worker and not is_gone(worker) and not is_gone(owner):
                break
            if worker and not is_gone(worker):
                time.sleep(0.2)
            else:
                path.unlink(missing_ok=True)
    draft.unlink()
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)


def _claimed(path: Path) -> tuple[str, str]:
    try:
        worker, owner = path.read_text().split()
        return worker, owner
    except (OSError, ValueError):
        return "", ""
