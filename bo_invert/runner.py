"""The loop: ask, evaluate somewhere, tell. It knows futures, and nothing of threads or hosts."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert import registry
from bo_invert.decisions import Terms
from bo_invert.errors import Failed, InvalidInput, StorageError
from bo_invert.executors.serial import SerialExecutor
from bo_invert.history import History
from bo_invert.leases import LEASE, Heart
from bo_invert.oracles.base import MISFIT
from bo_invert.printable import printable
from bo_invert.problem import Problem
from bo_invert.report.goal import Goal
from bo_invert.types import Cost, Outcome, Query, Trial
from bo_invert.verbs import Verbs
from bo_invert.workers import is_gone

#: Failures in a row, from the first call on, after which the user is told that something is probably wrong.
SUSPICIOUS = 10
#: The same, of answers that do not fit the problem: a mistake in the problem, which no further call can mend.
HOPELESS = 3
#: Answers at no cost in a row, at least, after which a run ends: they use up no budget.
FREE = 200


def evaluate(problem: Problem, queries: Sequence[Query]) -> list[Outcome]:
    """What executors run: a plain function of values, so that it can travel to another process."""
    return problem.evaluate(queries)


Take = Callable[..., list[Trial]]
"""Starts trials, see ``Study.take``."""


def run(
    problem: Problem,
    journal: Verbs,
    take: Take,
    budget: int,
    batch: int,
    executor: Executor | str | None,
    retries: int,
    stop_when_hit: bool,
    label: str = "",
    stop: Callable[[], bool] | None = None,
) -> None:
    """See ``Study.run``; a bar is shown if it has a label."""
    if problem.oracle is None:
        raise InvalidInput(f"problem {problem.name!r} has no oracle to run; use study.ask() and study.tell()")
    for what, value, least in (("budget", budget, 1), ("batch", batch, 1), ("retries", retries, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InvalidInput(f"run: {what} must be a whole number >= {least}, got {value!r}")
    made = registry.resolve("executors", executor)(batch) if isinstance(executor, str) else None
    engine: Any = made if made is not None else (executor if executor is not None else SerialExecutor())
    loop = _Loop(problem, journal, take, int(budget), int(batch), engine, int(retries), stop_when_hit, stop)
    bar = _Bar(journal, Goal(problem.objective.to_json(), problem.outputs), int(budget), label)
    try:
        journal.lose(is_gone)
        journal.reclaim()
        with Heart(journal, journal.worker, LEASE):
            loop.run(bar, _Alarm(journal, int(budget)))
    except BaseException:
        problem.oracle.interrupt()
        if made is not None:
            _leave(made)
        raise
    else:
        if made is not None:
            made.shutdown(wait=True)  # nothing is queued any more: what was, is done or cancelled
    finally:
        bar.close()


def _leave(executor: Any) -> None:
    """Whoever interrupts does not want to wait for what is under way; it is billed as lost."""
    try:
        executor.shutdown(wait=False, kill_workers=True)  # processes of loky
    except TypeError:
        executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Loop:
    """What a run needs to know from beginning to end."""

    problem: Problem
    journal: Verbs
    take: Take
    budget: int
    batch: int
    engine: Any
    retries: int
    stop_when_hit: bool
    stop: Callable[[], bool] | None

    def run(self, bar: _Bar, alarm: _Alarm) -> None:
        terms = Terms(self.journal.worker, LEASE)
        # In this process one call answers a whole batch, so a batched oracle sees it as one. Elsewhere each trial
        # travels alone, and its worker is free again as soon as it is done.
        together = isinstance(self.engine, SerialExecutor)
        running: dict[Future[list[Outcome]], list[Trial]] = {}
        under_way: set[int] = set()
        answers: list[tuple[Trial, Outcome]] = []
        try:
            while True:
                free = self.batch - len(under_way)
                if free > 0 and not alarm.hopeless and not self._stopped() and not self._hit():
                    trials = self.take(free, self.budget, self.retries, terms)
                    under_way.update(trial.number for trial in trials)
                    self.journal.under_way.update(under_way)
                    for group in [trials] if together and trials else [[trial] for trial in trials]:
                        queries = [trial.query for trial in group]
                        running[self.engine.submit(evaluate, self.problem, queries)] = group
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    group = running.pop(future)
                    answers = list(zip(group, self._outcomes(future, group), strict=True))
                    while answers:
                        trial, outcome = answers[0]
                        self.journal.finish(trial.number, outcome, len(trial.attempts) - 1)
                        under_way.remove(trial.number)
                        self.journal.under_way.discard(trial.number)
                        del answers[0]
                bar.update()
                alarm.check()
        except BaseException as error:
            for future, group in running.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    answers += zip(group, future.result(), strict=True)
            _note(error, answers)
            with suppress(StorageError):  # whose own failure would hide this one; then the leases run out
                self._part(running, under_way)
            raise
        finally:
            self.journal.under_way.difference_update(under_way)

    def _part(self, running: dict[Future[list[Outcome]], list[Trial]], under_way: set[int]) -> None:
        """Interrupted: what was begun is billed, what was not is given back."""
        for future, group in running.items():
            if future.cancel():
                for trial in group:
                    self.journal.release(trial.number, len(trial.attempts) - 1, Cost())
                    under_way.remove(trial.number)
        self.journal.abandon(under_way)

    def _outcomes(self, future: Future[list[Outcome]], trials: Sequence[Trial]) -> list[Outcome]:
        error = future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, Exception):
            raise error  # a keyboard interrupt inside the oracle is the user's, not the design's
        verdict = Failed(f"the executor gave up on it: {type(error).__name__}: {error}")
        return [self.problem.outcome(verdict, trial.query.cost) for trial in trials]

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


def is_hopeless(journal: Verbs) -> bool:
    """Whether answers do not fit the problem, and never did."""
    history = History(() if journal.best is not None else journal.trials)
    reasons = [trial.outcome.reason for trial in history.barren if trial.outcome is not None]
    return not history.completed and sum(reason.startswith(MISFIT) for reason in reasons) >= HOPELESS


class _Alarm:
    """Warns once when nothing has worked from the very start, and knows when nothing can or nothing new is asked."""

    def __init__(self, journal: Verbs, budget: int) -> None:
        self._journal = journal
        self._silent = False
        self._patience = max(FREE, 2 * budget)
        self._paid, self._reused = journal.ledger.calls, journal.ledger.reused
        self.hopeless = False

    def check(self) -> None:
        self._check_news()
        if self._silent:
            return
        if self._journal.best is not None:
            self._silent = True
            return
        history = History(self._journal.trials)
        reasons = [trial.outcome.reason for trial in history.barren if trial.outcome is not None]
        misfits = [reason for reason in reasons if reason.startswith(MISFIT)]
        if history.completed:
            self._silent = True
        elif len(misfits) >= HOPELESS:
            self._silent = self.hopeless = True
            said = misfits[-1]
            advice = "The run ends here, because more calls cannot change that; mend the problem."
        elif len(reasons) >= SUSPICIOUS:
            self._silent = True
            said = reasons[-1]
            advice = "The search goes on; stop it if the oracle is broken."
        if self._silent and not history.completed:
            warnings.warn(
                f"study {self._journal.name!r}: the first {len(reasons)} trials all failed, with words like: {said}. "
                f"{advice}",
                stacklevel=2,
            )

    def _check_news(self) -> None:
        """Answers at no cost use up no budget: a search that gets nothing else would never end."""
        spent = self._journal.ledger
        if spent.calls != self._paid:
            self._paid, self._reused = spent.calls, spent.reused
        elif spent.reused - self._reused >= self._patience and not self.hopeless:
            self.hopeless = True
            warnings.warn(
                f"study {self._journal.name!r}: the last {self._patience} answers all came from a cache, so the run "
                "ends here; it goes on if you run it again",
                stacklevel=2,
            )


class _Bar:
    """A progress bar of calls, with what was found in the user's own quantity, and the failures."""

    def __init__(self, journal: Verbs, goal: Goal, budget: int, label: str) -> None:
        self._journal = journal
        self._goal = goal
        self._bar: Any = None
        if label:
            from tqdm.auto import tqdm

            pause = 0.1 if sys.stderr.isatty() else 10.0  # a log file wants lines, not an animation
            self._bar = tqdm(total=budget, desc=printable(label), unit="call", dynamic_ncols=True, mininterval=pause)
            self.update()

    def update(self) -> None:
        if self._bar is None:
            return
        best, spent = self._journal.best, self._journal.ledger
        self._bar.n = min(self._journal.calls, self._bar.total)
        notes = ["nothing found yet" if best is None or best.loss is None else f"best {self._goal.text(best.loss)}"]
        if spent.failed or spent.infeasible:
            notes.append(f"{spent.failed + spent.infeasible} failed")
        self._bar.set_postfix_str(printable(", ".join(notes)), refresh=False)
        self._bar.update(0)

    def close(self) -> None:
        if self._bar is not None:
            self.update()
            self._bar.close()
