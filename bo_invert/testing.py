"""Conformance tests of a storage, for third parties too. They need pytest and hypothesis.

::

    from bo_invert.testing import StudyConformance

    class TestMyStore(StudyConformance):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStore(tmp_path)  # anything that Study.create takes as its storage
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import cache, partial
from itertools import count

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.errors import (
    FailedError,
    InfeasibleError,
    InvalidInputError,
    ProblemChangedError,
    StudyExistsError,
    StudyNotFoundError,
    TellConflictError,
)
from bo_invert.history import History
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.storage.base import Store
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.open import open_store
from bo_invert.storage.trial_transitions import MAX_DEATHS, Assignment
from bo_invert.study.study import Study
from bo_invert.types import Cost, State, Trial

NAMES = (
    "plain",
    "Grüße, 東京 🙂",
    'it\'s "quoted"',
    "x'; DROP TABLE studies; --",
    "100% _a_ [b]* \\ :c ?/d",
    "  spaces  ",
)


def problem(dim: int = 2) -> Problem:
    """Build a problem without an oracle."""
    return Problem(Box([0.0] * dim, [1.0] * dim), None, Minimize(), name="conformance")


def _answer_one(study: Study) -> None:
    (trial,) = study.ask(budget=9)
    study.tell(trial, float(((trial.point - 0.3) ** 2).sum()))


@cache
def _uninterrupted() -> list[list[float]]:
    """Return the points of a run in memory, computed once per process."""
    whole = Study.create("whole", problem(), "gp", 1)
    for _ in range(9):
        _answer_one(whole)
    return [trial.point.tolist() for trial in whole.trials]


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


class StudyConformance:
    """Conformance suite; a subclass defines the fixture ``storage``, an empty storage per test."""

    examples = 15
    """Sequences of events that the state machine tries; fewer where each event is a request."""

    @pytest.fixture
    def storage(self) -> Store | str:
        """Return an empty storage."""
        raise NotImplementedError("define a fixture named storage")

    def test_a_second_reader_sees_every_outcome(self, storage: Store | str) -> None:
        """Check that losses, points, states, costs and seed are read back exactly."""
        study = Study.create("s", problem(), "sobol", 5, storage)
        losses = [0.1 + 0.2, 5e-324, -1.7976931348623157e308, 3.0]
        errors = [FailedError("it broke: 'ä' 🙂\n"), InfeasibleError("never"), float("nan")]
        for outcome in (*losses, *errors):
            study.tell(study.ask()[0], outcome)
        other = Study.open("s", storage, problem())
        assert [trial.loss for trial in other.trials[:4]] == losses
        points = [trial.point.tolist() for trial in study.trials]
        assert [trial.point.tolist() for trial in other.trials] == points
        states = [State.COMPLETED] * 4 + [State.FAILED, State.INFEASIBLE, State.FAILED]
        assert [trial.state for trial in other.trials] == states
        assert other.spent == study.spent
        assert other.seed == 5
        consistent(other)

    def test_a_reopened_study_proposes_the_same_points(self, storage: Store | str) -> None:
        """Compare an uninterrupted run with one that opens the study before each ask."""
        study = Study.create("parts", problem(), "gp", 1, storage)
        for _ in range(9):
            _answer_one(study)
            study = Study.open("parts", storage, problem())
        assert [trial.point.tolist() for trial in study.trials] == _uninterrupted()

    def test_names_are_unique_and_arbitrary_text(self, storage: Store | str) -> None:
        """Create, reopen and miss studies with names of quotes, wildcards and other scripts."""
        for number, name in enumerate(NAMES):
            study = Study.create(name, problem(), "random", number, storage)
            study.tell(study.ask()[0], float(number))
        for number, name in enumerate(NAMES):
            with pytest.raises(StudyExistsError):
                Study.create(name, problem(), "random", number, storage)
            study = Study.open(name, storage, problem())
            assert (study.seed, study.trials[0].loss) == (number, float(number))
        with pytest.raises(StudyNotFoundError, match="plain"):
            Study.open("plane", storage, problem())
        with pytest.raises(ProblemChangedError):
            Study.open("plain", storage, problem(3))
        same = Study.create("plain", problem(), "random", 0, storage, exist_ok=True)
        assert len(same.trials) == 1

    def test_a_new_study_of_a_deleted_name_is_independent(self, storage: Store | str) -> None:
        """Check that the deleted study raises an error and changes nothing."""
        old = Study.create("s", problem(), "random", 0, storage)
        for _ in range(3):
            old.tell(old.ask()[0], 1.0)
        open_store(storage).delete("s")
        new = Study.create("s", problem(), "random", 1, storage)
        assert [trial.number for trial in new.ask()] == [0]
        with pytest.raises((StudyNotFoundError, TellConflictError, InvalidInputError)):
            old.tell(old.ask()[0], 2.0)
        assert len(Study.open("s", storage, problem()).trials) <= 2

    def test_problems_are_stored_completely(self, storage: Store | str) -> None:
        """Read back parameters, constraints and targets."""
        space = Box({"a": Float(0.01, 1.0, log=True), "n": Int(1, 5), "c": Choice("x", "y", "z")})
        mixed = Problem(
            space, None, Maximize("lift"), outputs=["lift", "drag"], constraints=["drag <= 1.5"]
        )
        study = Study.create("mixed", mixed, "random", 0, storage)
        (trial,) = study.ask()
        observed = study.tell(trial, {"drag": 2.0, "lift": 3.0})
        assert (observed.loss, observed.feasible) == (-3.0, False)
        again = Study.open("mixed", storage, mixed).trials[0]
        assert again.design == trial.design
        assert again.y is not None
        assert again.y.tolist() == [3.0, 2.0]
        hit = Problem(Box([0.0], [1.0]), None, Target([1.0, 2.0], 0.1, [1.0, 3.0]))
        study = Study.create("target", hit, "random", 0, storage)
        assert study.tell(study.ask()[0], [1.0, 5.0]).loss == pytest.approx(0.5)

    def test_a_repeated_tell_is_ignored_and_a_different_one_conflicts(
        self, storage: Store | str
    ) -> None:
        """Check it for a second process and for attempts, too."""
        study = Study.create("s", problem(), "random", 0, storage)
        (trial,) = study.ask()
        study.tell(trial, 1.0)
        other = Study.open("s", storage, problem())
        assert other.tell(trial.number, 1.0).loss == 1.0
        with pytest.raises(TellConflictError, match="cannot become"):
            other.tell(trial.number, 2.0)
        (second,) = _take(study, 1, "w")
        outcome = problem().outcome(3.0, Cost(1))
        for one in (study, other):
            assert one.journal.finish(second.number, outcome, attempt=0).loss == 3.0
        with pytest.raises(TellConflictError):
            other.journal.finish(second.number, problem().outcome(4.0, Cost(1)), attempt=0)
        with pytest.raises(InvalidInputError, match="got 7"):
            other.journal.finish(second.number, outcome, attempt=7)
        assert study.spent.values == 2
        consistent(study)

    def test_an_idempotency_key_returns_the_same_trials(self, storage: Store | str) -> None:
        """Repeat a request with the same key, as a client without a response does."""
        study = Study.create("s", problem(), "random", 0, storage)
        other = Study.open("s", storage, problem())
        study.enqueue(point=[0.5, 0.5])
        first = [t.number for t in _take(study, 3, None, key="k1")]
        assert first == [0, 1, 2]
        assert [t.number for t in _take(other, 3, None, key="k1")] == first
        assert [t.number for t in _take(other, 1, None, key="k2")] == [3]
        assert len(other.trials) == 4

    def test_a_restarted_worker_receives_its_unfinished_trials(self, storage: Store | str) -> None:
        """Check that it receives no trials of other workers."""
        study = Study.create("s", problem(), "random", 0, storage)
        first = [t.number for t in _take(study, 2, "w1", known=())]
        other = Study.open("s", storage, problem())
        assert [t.number for t in _take(other, 2, "w1", known=())] == first
        assert [t.number for t in _take(other, 1, "w2", known=())] == [2]
        assert [t.number for t in _take(other, 1, "w1", known=first)] == [3]

    def test_a_superseded_worker_overwrites_no_outcome(self, storage: Store | str) -> None:
        """Check that its late outcome becomes a separate trial, billed when it was abandoned."""
        study = Study.create("s", problem(), "random", 0, storage)
        (old,) = _take(study, 1, "w1")
        study.journal.abandon({old.number})
        (new,) = _take(study, 1, "w2")
        assert (new.number, len(new.attempts)) == (old.number, 2)
        study.journal.finish(new.number, problem().outcome(2.0, Cost(1)), attempt=1)
        late = study.journal.finish(old.number, problem().outcome(1.0, Cost(1)), attempt=0)
        assert (late.origin, late.loss) == (LATE, 1.0)
        assert late.point.tolist() == old.point.tolist()
        assert study.trials[old.number].loss == 2.0
        assert study.spent.values == 2
        consistent(study)

    def test_a_trial_that_ends_its_workers_is_lost(self, storage: Store | str) -> None:
        """Abandon it more than ``MAX_DEATHS`` times: each attempt is billed, none is a death."""
        study = Study.create("s", problem(), "random", 0, storage)
        for _ in range(MAX_DEATHS + 1):
            (trial,) = _take(study, 1, "w")
            assert trial.number == 0
            study.journal.abandon({0})
        assert (study.trials[0].state, study.spent.values) == (State.LOST, MAX_DEATHS + 1)
        with pytest.raises(TellConflictError):
            study.journal.retry(_take(study, 1, "w")[0].number)

    def test_a_released_trial_is_queued_again(self, storage: Store | str) -> None:
        """Check the cost that its worker reports."""
        study = Study.create("s", problem(), "random", 0, storage)
        (trial,) = _take(study, 1, "w1")
        assert study.journal.release(trial.number, 0, Cost()).state is State.QUEUED
        assert study.spent.values == 0
        (again,) = _take(study, 1, "w2")
        assert again.number == trial.number
        assert study.journal.release(trial.number, 0, Cost(1)).state is State.RUNNING
        assert study.journal.release(trial.number, 1, Cost(1)).state is State.QUEUED
        assert study.spent.values == 1
        consistent(study)

    def test_any_order_of_events_is_consistent(self, storage: Store | str) -> None:
        """Run random sequences of all operations and check the invariants after each."""
        numbers = count()

        class Machine(_Machine):
            @initialize()
            def begin(self) -> None:
                self.storage = storage
                self.name = f"machine {next(numbers)}"
                self.losses = {}
                self.study = Study.create(self.name, problem(), "random", 0, storage)

        run_state_machine_as_test(Machine, settings=settings(
            max_examples=self.examples, stateful_step_count=25, deadline=None,
            derandomize=True, suppress_health_check=list(HealthCheck), database=None,
        ))  # fmt: skip


class _Machine(RuleBasedStateMachine):
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
        taken = _take(self.study, count, worker, known=() if worker else None)
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


def _take(
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


__all__ = ["NAMES", "StudyConformance", "consistent", "problem"]
