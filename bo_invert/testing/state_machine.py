"""State machine of hypothesis: a study under random operations, and its expected losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from bo_invert.errors import FailedError, InfeasibleError, TellConflictError
from bo_invert.history import History
from bo_invert.objectives.single_output import Minimize
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.storage.base import Store
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.trial_transitions import ANSWERED, Assignment
from bo_invert.study.study import Study
from bo_invert.types import Cost, State, Trial


def problem(dim: int = 2) -> Problem:
    """Build a problem without an oracle."""
    return Problem(Box([0.0] * dim, [1.0] * dim), None, Minimize(), name="conformance")


def take(
    study: Study,
    count: int,
    worker: str | None,
    key: str | None = None,
    known: Collection[int] | None = None,
) -> list[Trial]:
    """Take trials for a worker without a budget."""
    return study.journal.take(
        partial(study.propose, None), count, None, 0, Assignment(worker, key=key), known
    )


def consistent(study: Study) -> None:
    """Assert that numbers are positions, the ledger sums the attempts and no ended trial runs."""
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    attempts = [attempt for trial in trials if trial.origin != LATE for attempt in trial.attempts]
    ended = [attempt for attempt in attempts if attempt.ended is not None]
    spent = study.spent
    fates = Counter(attempt.fate for attempt in ended)
    assert spent.values == sum(attempt.cost.values for attempt in ended)
    counts = (len(ended), fates[State.LOST], fates[State.FAILED])
    assert (spent.attempts, spent.lost, spent.failed) == counts
    running = sum(trial.state is State.RUNNING for trial in trials)
    assert spent.running == len(attempts) - len(ended) == running
    log, history = study.journal.read(), History(trials)
    assert (log.committed, log.calls) == (history.committed, history.calls)
    assert (log.best and log.best.number) == (history.best and history.best.number)
    for trial in trials:
        past = trial.attempts[:-1] if trial.state is State.RUNNING else trial.attempts
        assert all(attempt.ended is not None for attempt in past)


class StudyMachine(RuleBasedStateMachine):
    """State machine of hypothesis: a study under random operations, and its expected losses."""

    storage: Store | str
    name: str
    study: Study
    losses: dict[int, float]

    given = Bundle("given")
    """Attempts that workers received: trial number, position among its attempts."""

    @rule(target=given, count=st.integers(1, 3), worker=st.sampled_from(["a", "b", None]))
    def ask(self, count: int, worker: str | None) -> MultipleResults[tuple[int, int]]:
        """Take trials for a worker."""
        taken = take(self.study, count, worker, known=() if worker else None)
        assert len({trial.number for trial in taken}) == len(taken) == count
        assert all(trial.state is State.RUNNING for trial in taken)
        return multiple(*((trial.number, len(trial.attempts) - 1) for trial in taken))

    @rule(taken=given, value=st.floats(-1e6, 1e6))
    def tell(self, taken: tuple[int, int], value: float) -> None:
        """Tell an outcome of any attempt, also of an ended one."""
        number, attempt = taken
        before = self.study.trials[number].attempts[attempt]
        calls = len(self.study.trials)
        outcome = problem().outcome(value, Cost(1))
        if before.outcome is not None and before.outcome.to_json() != outcome.to_json():
            with pytest.raises(TellConflictError):
                self.study.journal.finish(number, outcome, attempt)
            return
        trial = self.study.journal.finish(number, outcome, attempt)
        if before.outcome is not None:  # known, perhaps amended meanwhile
            assert len(self.study.trials) == calls
            return
        assert trial.loss == value
        self.losses[trial.number] = value
        assert len(self.study.trials) == calls + (trial.number != number)

    @rule(taken=given, forever=st.booleans())
    def fail(self, taken: tuple[int, int], forever: bool) -> None:
        """Record a failure of an attempt."""
        number, attempt = taken
        if self.study.trials[number].attempts[attempt].outcome is not None:
            return
        error = InfeasibleError("never") if forever else FailedError("broken")
        self.study.journal.finish(number, problem().outcome(error, Cost(1)), attempt)

    @rule(taken=given, cost=st.integers(0, 1))
    def give_back(self, taken: tuple[int, int], cost: int) -> None:
        """Release an unfinished attempt."""
        number, attempt = taken
        self.study.journal.release(number, attempt, Cost(cost))

    @rule(taken=given)
    def lose(self, taken: tuple[int, int]) -> None:
        """Declare the worker of a trial lost."""
        self.study.journal.abandon({taken[0]})

    @rule(taken=given)
    def cancel(self, taken: tuple[int, int]) -> None:
        """Cancel a trial; an ended one raises a conflict."""
        number, _ = taken
        if self.study.trials[number].state.open:
            self.study.cancel(number)
        elif self.study.trials[number].state is not State.CANCELLED:
            with pytest.raises(TellConflictError):
                self.study.cancel(number)

    @rule(taken=given, value=st.floats(-1e6, 1e6), fails=st.booleans())
    def amend(self, taken: tuple[int, int], value: float, fails: bool) -> None:
        """Correct an outcome; a trial without one raises a conflict."""
        number, _ = taken
        if self.study.trials[number].state not in ANSWERED:
            with pytest.raises(TellConflictError):
                self.study.amend(number, value)
            return
        self.study.amend(number, FailedError("contaminated") if fails else value)
        if fails:
            self.losses.pop(number, None)
        else:
            self.losses[number] = value

    @rule(x=st.floats(0, 1))
    def add(self, x: float) -> None:
        """Add an observation of the user."""
        (trial,) = self.study.add(points=[[x, x]], Y=[x])
        self.losses[trial.number] = x

    @rule(x=st.floats(0, 1))
    def enqueue(self, x: float) -> None:
        """Queue a point of the user."""
        assert self.study.enqueue(point=[x, x]).state is State.QUEUED

    @rule()
    def reopen(self) -> None:
        """Open the study as another process does."""
        self.study = Study.open(self.name, self.storage, problem())

    @invariant()
    def invariants_hold(self) -> None:
        """Check losses, incumbent and ledger."""
        if not hasattr(self, "study"):
            return
        consistent(self.study)
        trials = self.study.trials
        for number, value in self.losses.items():
            assert trials[number].loss == value
        losses = [value for number, value in self.losses.items() if trials[number].feasible]
        best = self.study.best
        assert (best is None) == (not losses)
        assert best is None or best.loss == min(losses)
