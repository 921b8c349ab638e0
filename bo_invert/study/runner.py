"""The loop: ask, evaluate somewhere, tell. It knows futures, and nothing of threads or hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from bo_invert.errors import FailedError, InvalidInputError, StorageError, whole_number
from bo_invert.execution.base import WorkerDied, WorkerLoadError
from bo_invert.execution.serial import SerialExecutor
from bo_invert.oracles.base import MISMATCH
from bo_invert.problems.problem import Problem
from bo_invert.report.objective_view import Goal
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.leases import LEASE, Heartbeat
from bo_invert.storage.transitions import Assignment
from bo_invert.storage.worker_id import is_gone
from bo_invert.study.executor_choice import resolve_executor
from bo_invert.study.pacing import Pacing, TimeLimit
from bo_invert.study.progress_bar import ProgressBar
from bo_invert.study.watchdog import Watchdog
from bo_invert.types import Cost, Outcome, Query, Trial


def evaluate(problem: Problem, queries: Sequence[Query]) -> list[Outcome]:
    """What executors run: a plain function of values, so that it can travel to another process."""
    return problem.evaluate(queries)


Take = Callable[..., list[Trial]]
"""Starts trials, see ``Study.take``."""


def run(
    problem: Problem,
    journal: JournalBase,
    take: Take,
    budget: int,
    batch: int,
    executor: Executor | str | None,
    retries: int,
    stop_when_hit: bool,
    label: str = "",
    stop: Callable[[], bool] | None = None,
    timeout: float | None = None,
) -> None:
    """See ``Study.run``; a bar is shown if it has a label."""
    if problem.oracle is None:
        raise InvalidInputError(
            f"problem {problem.name!r} has no oracle to run; use study.ask() and study.tell()"
        )
    for what, value, least in (("budget", budget, 1), ("batch", batch, 1), ("retries", retries, 0)):
        whole_number("run", what, value, least)
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < np.inf):
        raise InvalidInputError(f"run: timeout must be a number of seconds > 0, got {timeout!r}")
    engine, made = resolve_executor(executor, problem, int(batch), timeout)
    pace = Pacing(int(batch) if made else 1)
    limit = TimeLimit(timeout, getattr(engine, "begun", Future.running))
    loop = _Loop(
        problem,
        journal,
        take,
        int(budget),
        int(batch),
        engine,
        int(retries),
        stop_when_hit,
        stop,
        pace,
        limit,
    )
    bar = ProgressBar(
        journal, Goal(problem.objective.to_json(), problem.outputs), int(budget), label
    )
    try:
        journal.expire(is_gone)
        journal.reclaim()
        with Heartbeat(journal, journal.worker, LEASE):
            alarm = Watchdog(journal, int(budget))
            loop.run(bar, alarm)
            alarm.conclude()
    except BaseException:
        problem.oracle.interrupt()
        if made:
            _leave(engine)
        raise
    else:
        if made:
            engine.shutdown(wait=True)  # nothing is queued any more: what was, is done or cancelled
    finally:
        bar.close()


def _leave(executor: Any) -> None:
    """Whoever interrupts does not want to wait for what is under way; it is billed as lost."""
    try:
        executor.shutdown(wait=False, kill_workers=True)
    except TypeError:
        executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Loop:
    """What a run needs to know from beginning to end."""

    problem: Problem
    journal: JournalBase
    take: Take
    budget: int
    batch: int
    engine: Any
    retries: int
    stop_when_hit: bool
    stop: Callable[[], bool] | None
    pace: Pacing
    limit: TimeLimit
    running: dict[Future[list[Outcome]], list[Trial]] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)
    answers: list[tuple[Trial, Outcome]] = field(default_factory=list)

    def run(self, bar: ProgressBar, alarm: Watchdog) -> None:
        assignment = Assignment(self.journal.worker, LEASE)
        call = partial(
            evaluate, self.problem
        )  # the same object each time: processes are sent it once
        try:
            while True:
                if alarm.hopeless or self._stopped() or self._hit():
                    self._give_back()
                else:
                    self._begin(call, assignment)
                if not self.running:
                    return
                for future in self.limit.wait(self.running):
                    self._tell(future)
                for future in self.limit.expired(self.running):
                    self.engine.give_up(future)
                    self._tell(
                        future,
                        FailedError(
                            f"no answer within {self.limit.timeout:g} s; {self.engine.parting}"
                        ),
                    )
                bar.update()
                alarm.check()
        except BaseException as error:
            for future, group in self.running.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self.answers.extend(zip(group, future.result(), strict=True))
            _note(error, self.answers)
            with suppress(
                StorageError
            ):  # whose own failure would hide this one; then the leases run out
                self._give_back()
                self.journal.abandon(self.under_way)  # what was begun is billed
            raise
        finally:
            self.journal.under_way.difference_update(self.under_way)

    def _begin(
        self, call: Callable[[Sequence[Query]], list[Outcome]], assignment: Assignment
    ) -> None:
        """Something for every worker, and a reserve where asking takes time."""
        free = self.batch + self.pace.ahead - len(self.under_way)
        if free <= 0:
            return
        with self.pace.asking():
            trials = self.take(free, self.budget, self.retries, assignment)
        self.under_way.update(trial.number for trial in trials)
        self.journal.under_way.update(self.under_way)
        # In this process one call answers a whole batch, so a batched oracle sees it as one. Elsewhere each trial
        # travels alone, and its worker is free again as soon as it is done.
        together = isinstance(self.engine, SerialExecutor) and trials
        for group in [trials] if together else [[trial] for trial in trials]:
            try:
                self.running[self.engine.submit(call, [trial.query for trial in group])] = group
            except BrokenExecutor as error:
                error.add_note(
                    "the executor given to run() broke down, and takes no more calls; run again with a new one, or "
                    "with executor='processes', which replaces workers that die"
                )
                raise

    def _tell(self, future: Future[list[Outcome]], verdict: FailedError | None = None) -> None:
        """Write down what came of a call, or what else is to be said of it."""
        group = self.running.pop(future)
        outcomes = (
            self._outcomes(future, group)
            if verdict is None
            else self._all(verdict, group, self.limit.timeout)
        )
        self.answers.extend(zip(group, outcomes, strict=True))
        while self.answers:
            trial, outcome = self.answers[0]
            self.journal.finish(trial.number, outcome, len(trial.attempts) - 1)
            self.under_way.remove(trial.number)
            self.journal.under_way.discard(trial.number)
            self.pace.answered(outcome.cost.seconds)
            del self.answers[0]

    def _give_back(self) -> None:
        """What was not begun is not billed, and waits for another run."""
        for future, group in list(self.running.items()):
            if future.cancel():
                del self.running[future]
                for trial in group:
                    self.journal.release(trial.number, len(trial.attempts) - 1, Cost())
                    self.under_way.remove(trial.number)

    def _outcomes(self, future: Future[list[Outcome]], trials: Sequence[Trial]) -> list[Outcome]:
        if future.cancelled():
            return self._all(FailedError("the executor cancelled it"), trials)
        error = future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, Exception):
            raise error  # a keyboard interrupt inside the oracle is the user's, not the design's
        if isinstance(error, (InvalidInputError, WorkerLoadError)):
            return self._all(FailedError(f"{MISMATCH}{error}"), trials)
        if isinstance(error, WorkerDied):
            return self._all(FailedError(str(error)), trials)
        return self._all(
            FailedError(f"the executor gave up on it: {type(error).__name__}: {error}"), trials
        )

    def _all(
        self, verdict: FailedError, trials: Sequence[Trial], seconds: float | None = None
    ) -> list[Outcome]:
        return [
            self.problem.outcome(verdict, replace(trial.query.cost, seconds=seconds or 0.0))
            for trial in trials
        ]

    def _stopped(self) -> bool:
        return self.stop is not None and self.stop()

    def _hit(self) -> bool:
        if not self.stop_when_hit:
            return False
        best = self.journal.best
        return best is not None and self.problem.objective.satisfied(best.y)


def _note(error: BaseException, answers: Sequence[tuple[Trial, Outcome]]) -> None:
    """What could not be written may have cost days: the error shows it, for somebody to tell it by hand."""
    for trial, outcome in answers:
        if outcome.y is not None:
            error.add_note(
                f"not written: study.tell({trial.number}, {outcome.y.tolist()!r}, attempt={len(trial.attempts) - 1}) "
                "says it when the storage works again"
            )
