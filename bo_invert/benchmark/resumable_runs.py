"""Benchmark runner: executes the missing runs of problems x methods x seeds.

Each finished run is appended to the results at once. A running one has its own SQLite checkpoint,
so an interruption costs at most one ask. After ``kill -9`` the same call resumes.
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
from pathlib import Path

import bo_invert
from bo_invert import registry
from bo_invert.benchmark.fingerprint import code_of
from bo_invert.benchmark.process_pool import perform
from bo_invert.benchmark.results import Key, Results, file_name, to_line
from bo_invert.benchmark.single_run import ProblemSource, run_one
from bo_invert.benchmark.suite import PEERS, SuiteProblem
from bo_invert.errors import MissingExtraError
from bo_invert.problems.recorded_versions import version_of
from bo_invert.report.runs import Run, Status
from bo_invert.storage.worker_id import is_gone, this_worker
from bo_invert.strategies.base import from_spec
from bo_invert.types import JSON

UNFINISHED = ".unfinished"
"""Folder of checkpoints, below the folder of the results."""


@dataclass(frozen=True)
class Task:
    """One run, as it is sent to a worker process.

    Args:
        key: identity of the run.
        source: problem, or function of the seed.
        checkpoints: folder of the checkpoints.
        deadline: time in seconds since the epoch after which no ask starts.
        owner: process that requested the run; a worker stops when the owner exits.
    """

    key: Key
    source: ProblemSource
    checkpoints: Path
    deadline: float
    owner: str

    def over(self) -> bool:
        """Return True if no further ask may start."""
        return time.time() >= self.deadline or is_gone(self.owner)


@dataclass(frozen=True)
class Progress:
    """Counts of requested runs.

    Args:
        total: number of requested runs.
        there: runs found in the results.
        done: runs finished by this call.
        left: runs still missing: out of time, failed, without their package, or claimed by another
            process.
        troubles: one sentence per refused or failed run.
    """

    total: int
    there: int
    done: int = 0
    left: int = 0
    troubles: tuple[str, ...] = ()


class BenchmarkObserver:
    """Observer of a benchmark. The base class ignores all events."""

    def planned(self, progress: Progress) -> None:
        """Receive the counts before the first run."""

    def begun(self, key: Key, progress: Progress) -> None:
        """Receive the start of a run."""

    def ended(self, key: Key, progress: Progress, message: str) -> None:
        """Receive the end of a run and its result as a sentence."""


def keys(
    problems: Sequence[str],
    methods: Mapping[str, JSON],
    seeds: Sequence[int],
    budget: int,
    batch: int,
) -> list[Key]:
    """List all runs seed by seed, so that partial results are balanced."""
    return [
        Key(problem, label, spec, seed, budget, batch)
        for seed in seeds
        for problem in problems
        for label, spec in methods.items()
    ]


def run_missing(
    problems: Mapping[str, ProblemSource],
    methods: Mapping[str, JSON],
    seeds: Sequence[int],
    *,
    budget: int,
    batch: int,
    results: Results,
    jobs: int = 1,
    time_limit: float | None = None,
    observer: BenchmarkObserver | None = None,
) -> Progress:
    """Execute the runs that the results lack.

    Args:
        problems: mapping from names to problems or to functions ``seed -> Problem``.
        methods: mapping from labels to specs ``{"name": ..., "options": {...}}``.
        seeds: seeds of the runs.
        budget: calls of each run.
        batch: concurrent trials within a run.
        results: results to extend.
        jobs: number of concurrent runs, in processes.
        time_limit: minutes after which no run starts and running ones stop before their next ask.
        observer: receives the plan, and the start and end of each run.

    Returns:
        Counts of the runs. Refused runs count as results. The next call repeats failed runs and
        runs without their package.

    Raises:
        InvalidInputError: a spec names no strategy, and a run can start.
    """
    wanted = keys(list(problems), methods, seeds, budget, batch)
    there = results.done(wanted)
    open_keys = [key for key in wanted if key.text() not in there]
    # The imports of strategies take longer than a report of stored results.
    for spec in methods.values() if open_keys and time_limit != 0.0 else ():
        from_spec(spec)
    progress = Progress(len(wanted), len(wanted) - len(open_keys))
    watcher = observer or BenchmarkObserver()
    watcher.planned(progress)
    checkpoints = results.folder / UNFINISHED
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / ".gitignore").write_text("*\n")
    deadline = float("inf") if time_limit is None else time.time() + 60.0 * time_limit
    tasks = [
        Task(key, problems[key.problem], checkpoints, deadline, this_worker()) for key in open_keys
    ]

    def begin(index: int) -> None:
        watcher.begun(tasks[index].key, progress)

    with closing(
        perform(work, tasks, jobs, stop=lambda: time.time() >= deadline, begin=begin)
    ) as ended:
        for index, result in ended:
            key = tasks[index].key
            if isinstance(result, Exception):
                crash = f"{type(result).__name__}: {result}"
                result = _stopped(key, crash, Status.ERROR), None
            run, line = result
            if line is not None:
                results.append(key, line)
                for path in checkpoints.glob(f"{_stem(key)}--*"):  # also of earlier versions
                    path.unlink(missing_ok=True)
                progress = replace(progress, done=progress.done + (run.status is not Status.ERROR))
            if run.status in (Status.REFUSED, Status.ERROR):
                trouble = f"{key.problem}, {key.label}: {run.status}: {run.ended}"
                progress = replace(progress, troubles=(*progress.troubles, trouble))
            watcher.ended(key, progress, _outcome(run))
    return replace(progress, left=len(wanted) - len(results.done(wanted)))


def work(task: Task) -> tuple[Run, JSON | None]:
    """Execute or resume one run.

    Returns:
        The run; and its line, or None if the run is not a result: it was stopped, is claimed by
        another process, or its package is missing.
    """
    key = task.key
    code = code_of(
        key.spec["name"], task.source.name if isinstance(task.source, SuiteProblem) else None
    )
    with _claim(task) as mine:
        if not mine:
            return _stopped(key, "stopped" if task.over() else "another process executes it"), None
        if Results(task.checkpoints.parent).done([key]):
            return _stopped(key, "another process finished it"), None
        try:
            problem = task.source(key.seed) if callable(task.source) else task.source
            strategy = from_spec(key.spec)
        except MissingExtraError as missing:
            return _stopped(key, str(missing), Status.REFUSED), None
        # The name of the checkpoint holds a digest of settings and code. A changed strategy or
        # problem starts a new checkpoint, so no run mixes two versions.
        facts = json.dumps(
            [problem.to_json(), strategy.spec(), code["method"], code["problem"]], sort_keys=True
        )
        digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
        store = registry.resolve("stores", "sql")(task.checkpoints / f"{_stem(key)}--{digest}.db")
        with closing(store):
            run = run_one(
                key.label, problem, strategy, key.budget, key.seed,
                name=key.problem, batch=key.batch, storage=store, stop=task.over,
            )  # fmt: skip
    package = PEERS.get(key.spec["name"], "numpy")
    version = version_of(package)
    if run.status is Status.STOPPED or (run.status is Status.REFUSED and version is None):
        return run, None
    versions = {"bo_invert": bo_invert.__version__, **({package: version} if version else {})}
    return run, to_line(key, run, versions, code)


def _stopped(key: Key, message: str, status: Status = Status.STOPPED) -> Run:
    return Run(key.label, key.problem, key.seed, key.spec, key.budget, status=status, ended=message)


def _outcome(run: Run) -> str:
    if run.status is not Status.FINISHED:
        return f"{run.status}: {run.ended}"
    return f"loss {run.loss:.6g} after {run.bill.calls} calls, {run.bill.asking:.3g} s of asking"


# ---------------------------------------------------------------------- checkpoints


def _stem(key: Key) -> str:
    parts = (key.problem, key.label, f"seed{key.seed}", f"{key.budget}x{key.batch}")
    spec = hashlib.sha256(json.dumps(key.spec, sort_keys=True).encode()).hexdigest()[:6]
    return "--".join([*map(file_name, parts), spec])


@contextmanager
def _claim(task: Task) -> Iterator[bool]:
    """Claim a run for this process; yield False if another live process holds it.

    The claim of an exited process is void. A worker whose owner was killed is about to stop, so the
    claim waits for it.
    """
    path = task.checkpoints / f"{_stem(task.key)}.claim"
    draft = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}")
    draft.write_text(f"{this_worker()}\n{task.owner}\n")
    mine = False
    while not mine and not task.over():
        try:
            os.link(draft, path)  # atomic: no process reads a claim without its content
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
