"""The loop of a run: ask, evaluate, tell. It uses futures and knows no threads or hosts."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from bo_invert.errors import (
    BoInvertError,
    EvaluationError,
    FailedError,
    StorageError,
    StudyPausedError,
    TellConflictError,
)
from bo_invert.execution.serial import SerialExecutor
from bo_invert.oracles.base import as_failure
from bo_invert.problems.problem import Problem
from bo_invert.storage.heartbeats import silent_workers
from bo_invert.storage.journal_base import JournalBase
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.storage.worker_id import is_gone
from bo_invert.study import hopes
from bo_invert.study.failing_runs import Watchdog
from bo_invert.study.interrupts import deferred
from bo_invert.study.outcome_messages import log_outcome, note_interrupted, note_unrecorded
from bo_invert.study.pacing import Pacing, TimeLimit
from bo_invert.study.progress_bar import RunProgressBar
from bo_invert.study.run_options import RunOptions, Take
from bo_invert.types import Cost, Outcome, Query, State, Trial
from bo_invert.user_code import carried

_log = logging.getLogger(__name__)
_POLL = 1.0
"""Seconds between two looks at workers of unknown state. Engineering choice: one log read each."""


@dataclass
class RunLoop:
    """State of a run.

    Args:
        problem: Problem to evaluate.
        journal: Journal of the study.
        take: Function that starts trials.
        options: Options of the run.
        executor: Executor of the calls.
        pacing: Number of trials to ask ahead.
        limit: Time limit of the calls.
        lease: Lease of the trials in seconds.

    Attributes:
        waiting: Groups of trials whose calls are not submitted. This process runs one call after
            another and records each answer before the next call.
        running: Group of trials of each submitted call.
        under_way: Numbers of all these trials.
        answers: Trials and outcomes that are not recorded.
        paused: Error after which no new call starts.
        why: Reason for which the run ends before its budget is spent; empty otherwise.
    """

    problem: Problem
    journal: JournalBase
    take: Take
    options: RunOptions
    executor: Any
    pacing: Pacing
    limit: TimeLimit
    lease: float
    waiting: deque[list[Trial]] = field(default_factory=deque)
    running: dict[Future[list[Outcome]], list[Trial]] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)
    answers: list[tuple[Trial, Outcome]] = field(default_factory=list)
    paused: StudyPausedError | None = None
    why: str = ""
    beats: Mapping[str, int] | None = None
    patience: float = math.inf

    @property
    def serial(self) -> bool:
        """True if calls run in this process, one after another."""
        return isinstance(self.executor, SerialExecutor)

    def run(self, bar: RunProgressBar, watchdog: Watchdog) -> None:
        round_size = self.options.batch if self.serial else 0
        assignment = Assignment(self.journal.worker, self.lease, round_size=round_size)
        # One object for the whole run: a worker process receives it once.
        call = carried(self.problem.evaluate)
        try:
            while True:
                self.why = self.why or watchdog.why
                ending = bool(watchdog.why) or self._should_end()
                if ending or self.paused:
                    self._release_queued()
                else:
                    self._submit(call, assignment)
                if not self.running:
                    if self.paused:
                        raise self.paused
                    if ending or not self._others_may_be_lost():
                        return
                    continue
                for future in self.limit.wait(self.running):
                    self._tell(future)
                for future in self.limit.expired(self.running):
                    self.executor.give_up(future)
                    reason = f"no answer within {self.limit.timeout:g} s; {self.executor.parting}"
                    self._tell(future, FailedError(reason))
                bar.update()
                watchdog.check()
        except BaseException as error:
            with deferred():
                self._close(error)
            raise
        finally:
            self.journal.under_way.difference_update(self.under_way)

    def _submit(
        self, call: Callable[[Sequence[Query]], list[Outcome]], assignment: Assignment
    ) -> None:
        """Submit a call for every free worker, and a reserve if asks are slow."""
        if not self.waiting:
            self._take(assignment)
        while self.waiting and not (self.serial and self.running):
            group = self.waiting.popleft()
            try:
                future = self.executor.submit(call, [trial.query for trial in group])
            except BrokenExecutor as error:
                error.add_note(
                    "run: the executor is broken and takes no more calls. Run again with a new "
                    "one, or with executor='processes', which replaces workers that die"
                )
                raise
            self.running[future] = group

    def _take(self, assignment: Assignment) -> None:
        """Start trials for the free workers.

        In this process a new ask is made when all trials of the last one have answers, so a killed
        run continues with the same asks. A batched oracle gets all trials in one call; for any
        other a trial starts just before its call.
        """
        options = self.options
        count = self._missing()
        if count <= 0:
            return
        together = self.serial and self.problem.oracle is not None and self.problem.oracle.batched
        if self.serial and not together:
            count = 1
        try:
            with self.pacing.asking():
                trials = self.take(count, options.budget, options.retries, assignment)
        except StudyPausedError as error:
            self.paused = error
            return
        for trial in trials:
            if (attempt := len(trial.attempts)) > 1:
                _log.info(
                    "study %r: trial %d, attempt %d", self.journal.name, trial.number, attempt
                )
        self.under_way.update(trial.number for trial in trials)
        self.journal.under_way.update(self.under_way)
        self.waiting.extend([trials] if together and trials else [[trial] for trial in trials])

    def _missing(self) -> int:
        """Return the number of trials to ask for now.

        No trials are asked ahead with a rule that asks for best hopes, which would wait behind
        them. While best hopes miss an improbable target, they are asked one by one: further trials
        are probably wasted, and would change the estimates of the row.
        """
        options = self.options
        level = None if options.stop is None else options.stop.hope_level
        if level is None or options.suits is not None:  # fixed values: no estimates
            return options.batch + self.pacing.ahead - len(self.under_way)
        missing = options.batch - len(self.under_way)
        hope = hopes.undecided_hope(self.journal.trials, level)
        if hope is None:
            return missing
        if hope.number in self.under_way:
            return 0
        return missing if hope.state.open else min(missing, 1)

    def _tell(self, future: Future[list[Outcome]], error: FailedError | None = None) -> None:
        """Record the outcomes of a call, or an error instead of them."""
        group = self.running[future]
        outcomes = (
            self._outcomes(future, group)
            if error is None
            else self._failures(error, group, self.limit.timeout)
        )
        self.answers.extend(zip(group, outcomes, strict=True))
        del self.running[future]  # last: an interrupt before it loses no answer, see ``_close``
        self._record()

    def _record(self) -> None:
        """Record all answers in order; those that the storage refuses stay in ``answers``."""
        while self.answers:
            trial, outcome = self.answers[0]
            recorded = self._finish(trial, outcome)
            del self.answers[0]
            self._forget(trial)
            self.pacing.answered(outcome.cost.seconds)
            log_outcome(self.journal.name, trial, outcome)
            if recorded.number != trial.number:
                _log.warning(
                    "study %r: the lease of trial %d ended before its answer, as after a pause of "
                    "this process; the answer is trial %d and costs nothing more",
                    self.journal.name, trial.number, recorded.number,
                )  # fmt: skip

    def _finish(self, trial: Trial, outcome: Outcome) -> Trial:
        """Record an outcome; as an observation if the attempt has got another one meanwhile."""
        attempt = len(trial.attempts) - 1
        try:
            return self.journal.finish(trial.number, outcome, attempt)
        except TellConflictError:
            end = trial.query.point if outcome.point is None else outcome.point
            meta = {"trial": trial.number, "attempt": attempt}
            late = Query(end, origin=LATE, meta=meta)
            return self.journal.add([late], [replace(outcome, cost=Cost(), point=None)])[0]

    def _close(self, error: BaseException) -> None:
        """Record the answers that there are, and return all other trials.

        Trials whose calls did not start are not billed. The others are billed as lost; their worker
        did not die, so they do not count as deaths. If the storage fails, the leases end by
        themselves, and notes of the error hold the answers.
        """
        answered = {trial.number for trial, _ in self.answers}
        for future, group in list(self.running.items()):
            if future.done() and not future.cancelled() and future.exception() is None:
                if group[0].number not in answered:
                    self.answers.extend(zip(group, future.result(), strict=True))
                del self.running[future]
        with suppress(BoInvertError):
            if not isinstance(error, StorageError):
                self._record()
            self._release_queued()
            note_interrupted(error, self.journal.name, sum(map(len, self.running.values())))
            self.journal.abandon(self.under_way)
            # Trials that an interrupted take started.
            for trial in self.journal.running_of(self.journal.worker, self.journal.under_way):
                self.journal.release(trial.number, len(trial.attempts) - 1, Cost())
        note_unrecorded(error, self.answers)

    def _release_queued(self) -> None:
        """Return the trials whose calls did not start; they are not billed."""
        for future, group in list(self.running.items()):
            if future.cancel():
                del self.running[future]
                self.waiting.append(group)
        while self.waiting:
            for trial in self.waiting[0]:
                self.journal.release(trial.number, len(trial.attempts) - 1, Cost())
                self._forget(trial)
            self.waiting.popleft()

    def _forget(self, trial: Trial) -> None:
        """Remove a trial from those under way."""
        self.under_way.discard(trial.number)
        self.journal.under_way.discard(trial.number)

    def _others_may_be_lost(self) -> bool:
        """Return True if trials of other workers were lost, or may be lost soon.

        Workers that this process cannot see may be dead. They have the time of their lease to show
        a heartbeat.
        """
        journal = self.journal
        seen = journal.read().seq
        journal.expire(is_gone)
        if any(trial.state is State.LOST for trial in journal.changed(seen)[0]):
            return True
        now = time.monotonic()
        if self.beats is None:
            self.beats = journal.beats()
            self.patience = now + 2.0 * max(journal.leases.values(), default=0.0)
        silent = silent_workers(journal, self.beats)
        if not silent or now > self.patience:
            return False
        _log.info("study %r: waiting for the leases of %s", journal.name, ", ".join(silent))
        time.sleep(_POLL)
        return True

    def _outcomes(self, future: Future[list[Outcome]], trials: Sequence[Trial]) -> list[Outcome]:
        cancelled = FailedError("the executor cancelled it")
        error = cancelled if future.cancelled() else future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, Exception):
            raise error  # a keyboard interrupt inside the oracle is the user's
        return self._failures(as_failure(error), trials)

    def _failures(
        self, error: EvaluationError, trials: Sequence[Trial], seconds: float | None = None
    ) -> list[Outcome]:
        return [
            self.problem.outcome(error, replace(trial.query.cost, seconds=seconds or 0.0))
            for trial in trials
        ]

    def _should_end(self) -> bool:
        """Return True if the user stops the run or the target is reached."""
        stop = self.options.stop
        if stop is not None and stop():
            self.why = stop.why if stop.recorded else ""
            return True
        hit = self._hit() if self.options.stop_when_hit else None
        if hit is None:
            return False
        self.why = f"the target is reached in trial {hit.number}"
        return True

    def _hit(self) -> Trial | None:
        """Return a feasible trial that reaches the target and has the fixed values of the run."""
        best, suits = self.journal.best, self.options.suits
        satisfied = self.problem.objective.satisfied
        if best is None or suits is None or suits(best.point):
            return best if best is not None and satisfied(best.y) else None
        ended = (trial for trial in self.journal.trials if trial.y is not None and trial.feasible)
        return next((trial for trial in ended if satisfied(trial.y) and suits(trial.point)), None)
