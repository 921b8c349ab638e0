"""Conformance suite of a storage."""

from __future__ import annotations

from functools import cache
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

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
from bo_invert.objectives.single_output import Maximize
from bo_invert.objectives.target import Target
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.storage.base import Store
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.open import open_store
from bo_invert.storage.trial_transitions import MAX_DEATHS
from bo_invert.study.study import Study
from bo_invert.testing.state_machine import StudyMachine, consistent, problem, take
from bo_invert.types import Cost, State

NAMES = (
    "plain",
    "Grüße, 東京 🙂",
    'it\'s "quoted"',
    "x'; DROP TABLE studies; --",
    "100% _a_ [b]* \\ :c ?/d",
    "  spaces  ",
)


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
        (second,) = take(study, 1, "w")
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
        first = [t.number for t in take(study, 3, None, key="k1")]
        assert first == [0, 1, 2]
        assert [t.number for t in take(other, 3, None, key="k1")] == first
        assert [t.number for t in take(other, 1, None, key="k2")] == [3]
        assert len(other.trials) == 4

    def test_a_restarted_worker_receives_its_unfinished_trials(self, storage: Store | str) -> None:
        """Check that it receives no trials of other workers."""
        study = Study.create("s", problem(), "random", 0, storage)
        first = [t.number for t in take(study, 2, "w1", known=())]
        other = Study.open("s", storage, problem())
        assert [t.number for t in take(other, 2, "w1", known=())] == first
        assert [t.number for t in take(other, 1, "w2", known=())] == [2]
        assert [t.number for t in take(other, 1, "w1", known=first)] == [3]

    def test_a_superseded_worker_overwrites_no_outcome(self, storage: Store | str) -> None:
        """Check that its late outcome becomes a separate trial, billed when it was abandoned."""
        study = Study.create("s", problem(), "random", 0, storage)
        (old,) = take(study, 1, "w1")
        study.journal.abandon({old.number})
        (new,) = take(study, 1, "w2")
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
            (trial,) = take(study, 1, "w")
            assert trial.number == 0
            study.journal.abandon({0})
        assert (study.trials[0].state, study.spent.values) == (State.LOST, MAX_DEATHS + 1)
        with pytest.raises(TellConflictError):
            study.journal.retry(take(study, 1, "w")[0].number)

    def test_a_released_trial_is_queued_again(self, storage: Store | str) -> None:
        """Check the cost that its worker reports."""
        study = Study.create("s", problem(), "random", 0, storage)
        (trial,) = take(study, 1, "w1")
        assert study.journal.release(trial.number, 0, Cost()).state is State.QUEUED
        assert study.spent.values == 0
        (again,) = take(study, 1, "w2")
        assert again.number == trial.number
        assert study.journal.release(trial.number, 0, Cost(1)).state is State.RUNNING
        assert study.journal.release(trial.number, 1, Cost(1)).state is State.QUEUED
        assert study.spent.values == 1
        consistent(study)

    def test_an_amended_outcome_replaces_the_former_one(self, storage: Store | str) -> None:
        """Check best trial, ledger, history and conflicts, for a second process, too."""
        study = Study.create("s", problem(), "random", 0, storage)
        first, second, third = study.ask(3)
        for trial, loss in ((first, 1.0), (second, 2.0)):
            study.tell(trial, loss)
        study.tell(third, FailedError("spilled"))
        other = Study.open("s", storage, problem())
        seen = other.trials[0]
        amended = study.amend(first, 5.0, reason="a typing error")
        assert (amended.loss, amended.amendments[0].reason) == (5.0, "a typing error")
        assert study.amend(0, 5.0).amendments == study.trials[0].amendments
        assert other.amend(seen, 5.0).loss == 5.0
        with pytest.raises(TellConflictError, match="amended meanwhile"):
            other.amend(seen, 6.0)
        study.amend(2, 0.5, reason="measured again")
        for one in (study, other, Study.open("s", storage, problem())):
            assert [trial.loss for trial in one.trials] == [5.0, 2.0, 0.5]
            assert one.best is not None
            assert one.best.number == 2
            before = one.trials[0].amendments[0].before
            assert (before.loss, one.spent.failed, one.spent.values) == (1.0, 0, 3)
            consistent(one)
        assert study.tell(0, 1.0).loss == 5.0  # the same call again changes nothing
        study.ask()
        with pytest.raises(TellConflictError, match="no outcome"):
            study.amend(3, 1.0)

    def test_conditions_and_further_values_are_read_back(self, storage: Store | str) -> None:
        """Run a trial under other conditions, inside and outside of the box."""
        study = Study.create("s", problem(), "random", 0, storage)
        first, second = study.ask(2)
        extra = {"colour": "brown", "ph": 7.25, "clear": True, "batch": 3}
        study.tell(first, 1.0, at={"x1": 0.125}, extra=extra)
        with pytest.raises(InvalidInputError, match="outside='model'"):
            study.tell(second, 0.0, at={"x0": 1.5})
        study.tell(second, 0.0, at={"x0": 1.5}, outside="model")
        (added,) = study.add([{"x0": 0.5, "x1": -0.5, "y": -1.0, "lab": "B"}], outside="model")
        assert study.add([{"x0": 0.5, "x1": -0.5, "y": -1.0}], outside="model") == []
        for one in (study, Study.open("s", storage, problem())):
            moved, outside, third = one.trials
            assert moved.point.tolist() == [first.point[0], 0.125]
            assert moved.design.tolist() == moved.point.tolist()
            assert moved.query.point.tolist() == first.point.tolist()
            assert (moved.moved, dict(moved.extra)) == (True, extra)
            assert (outside.outside, outside.design[0], outside.feasible) == (True, 1.5, False)
            assert (third.number, third.design.tolist()) == (added.number, [0.5, -0.5])
            assert dict(third.extra) == {"lab": "B"}
            assert one.best is not None
            assert one.best.number == 0
            consistent(one)

    def test_any_order_of_events_is_consistent(self, storage: Store | str) -> None:
        """Run random sequences of all operations and check the invariants after each."""
        numbers = count()

        class Machine(StudyMachine):
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
