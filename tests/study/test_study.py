"""The study: ask, tell, run, resume, bill."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import (
    ProblemChangedError,
    StudyExistsError,
    StudyNotFoundError,
    StudyPausedError,
    TellConflictError,
)
from bo_invert.history import best_so_far
from bo_invert.storage.log_replay import Log
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.trial_transitions import MAX_DEATHS, Assignment
from bo_invert.storage.worker_id import is_gone, this_worker


def problem(oracle: Any = None, objective: Any = None, **options: Any) -> bi.Problem:
    oracle = oracle or (lambda x: float((x**2).sum()))
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, objective or bi.Minimize(), **options)


def study(**options: Any) -> bi.Study:
    return bi.Study.create(
        "s", options.pop("problem", None) or problem(), strategy="sobol", **options
    )


def test_a_budget_is_of_the_whole_study() -> None:
    s = study()
    s.run(10)
    assert s.spent.values == 10
    s.run(10)
    assert s.spent.values == 10
    s.run(12)
    assert s.spent.values == 12


def test_tell_takes_numbers_vectors_and_names() -> None:
    p = bi.Problem(
        bi.Box([0.0], [1.0]),
        None,
        bi.Maximize("lift"),
        constraints=["drag <= 2"],
        outputs=["lift", "drag"],
    )
    s = bi.Study.create("s", p, strategy="random")
    a, b, c = s.ask(3)
    assert s.tell(a, [3.0, 1.0]).loss == -3.0
    trial_b = s.tell(b, {"drag": 2.5, "lift": 9.0})
    assert trial_b.y.tolist() == [9.0, 2.5]
    assert not trial_b.feasible
    assert trial_b.outcome.violation == 0.5
    assert s.best.number == a.number
    with pytest.raises(bi.InvalidInputError, match="missing"):
        s.tell(c, {"lift": 1.0})
    with pytest.raises(bi.InvalidInputError, match="shape"):
        s.tell(c, [1.0, 2.0, 3.0])
    assert s.trials[c.number].state is bi.State.RUNNING


def test_the_same_tell_is_nothing_and_another_is_a_conflict() -> None:
    s = study()
    (trial,) = s.ask()
    s.tell(trial, 1.0)
    s.tell(trial, 1.0)
    assert s.spent.attempts == 1
    with pytest.raises(TellConflictError, match=r"1\.0"):
        s.tell(trial, 2.0)
    with pytest.raises(bi.InvalidInputError, match="got 99"):
        s.tell(99, 1.0)


def test_failed_and_infeasible_trials_are_billed_separately() -> None:
    s = study()
    a, b, c = s.ask(3)
    s.tell(a, bi.FailedError("pump broke"))
    s.tell(b, bi.InfeasibleError("does not fold"))
    s.tell(c, float("nan"))
    assert [t.state for t in s.trials] == [bi.State.FAILED, bi.State.INFEASIBLE, bi.State.FAILED]
    assert (s.spent.values, s.spent.failed, s.spent.infeasible) == (3, 2, 1)
    assert s.trials[0].outcome.reason == "pump broke"
    with pytest.raises(bi.errors.TellConflictError, match="is failed"):
        s.tell(a, bi.FailedError("no, the valve"))
    with pytest.raises(bi.errors.TellConflictError, match="is failed"):
        s.tell(a, 0.4, attempt=0)
    assert s.spent.values == 3
    with pytest.raises(
        bi.errors.TellConflictError, match=r"study.enqueue\(\) to evaluate the point again"
    ):
        s.tell(a, 0.5)
    s.enqueue(point=a.point)  # measured again: a call like any other
    (again,) = s.ask()
    s.tell(again, 0.5)
    assert s.best.number == again.number
    assert s.spent.values == 4


@pytest.mark.filterwarnings("ignore:study ")
def test_oracles_may_raise_verdicts() -> None:
    def oracle(x: Any) -> float:
        raise bi.InfeasibleError("no")

    s = study(problem=problem(oracle)).run(2)
    assert s.spent.infeasible == 2


def test_retries_are_billed_and_use_budget() -> None:
    calls = []

    def oracle(x: Any) -> float:
        calls.append(x)
        if len(calls) % 2:
            raise RuntimeError("flaky")
        return 1.0

    s = study(problem=problem(oracle)).run(10, retries=1)
    assert len(calls) == 10 == s.spent.values
    assert s.spent.failed == 5
    assert all(t.state is bi.State.COMPLETED for t in s.trials)


def test_enqueued_points_come_first_and_data_is_free() -> None:
    s = study()
    s.add([[0.5, 0.5], [0.2, 0.1]], [0.5, bi.FailedError("lost sample")])
    s.enqueue([0.25, 0.75])
    s.run(3)
    trials = s.trials
    assert [t.origin for t in trials] == ["data", "data", "user", "sobol", "sobol"]
    np.testing.assert_allclose(trials[2].design, [0.25, 0.75])
    assert s.spent.values == 3
    with pytest.raises(bi.InvalidInputError, match="Y must have a row"):
        s.add([[0.5, 0.5]], [1.0, 2.0])
    with pytest.raises(bi.InvalidInputError, match=r"not a number in \[0.0, 1.0\]"):
        s.add([[0.5, 1.5]], [1.0])
    with pytest.raises(bi.InvalidInputError, match="one of the two"):
        s.enqueue()


@pytest.mark.parametrize(
    ("designs", "answers"),
    [
        ({"a": 0.5, "b": 0.25}, {"one": 1.0, "two": 2.0}),
        ({"a": 0.5, "b": 0.25}, [1.0, 2.0]),
        ({"a": 0.5, "b": 0.25}, [{"two": 2.0, "one": 1.0}]),
        ([{"a": 0.5, "b": 0.25}], {"one": 1.0, "two": 2.0}),
    ],
)
def test_one_design_needs_no_brackets(designs: Any, answers: Any) -> None:
    space = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)})
    s = study(problem=bi.Problem(space, None, bi.Minimize("one"), outputs=["one", "two"]))
    (trial,) = s.add(designs, answers)
    assert trial.design == {"a": 0.5, "b": 0.25}
    np.testing.assert_array_equal(trial.y, [1.0, 2.0])
    (failed,) = s.add({"a": 0.1, "b": 0.1}, bi.FailedError("spilt"))
    assert failed.state is bi.State.FAILED


def test_one_design_too_many_or_too_few_is_refused() -> None:
    s = study(problem=bi.Problem(bi.Box({"a": bi.Float(0, 1)}), None, bi.Minimize()))
    assert s.add({"a": 0.5}, 3.0)[0].loss == 3.0
    with pytest.raises(bi.InvalidInputError, match="row for each of 2 designs, got 1"):
        s.add([{"a": 0.5}, {"a": 0.6}], 3.0)
    with pytest.raises(bi.InvalidInputError, match=r"outputs \[.y.\] are missing.*enqueue"):
        s.add({"a": 0.5})
    with pytest.raises(bi.InvalidInputError, match=r"Write one point as \[point\]"):
        s.add(points=[0.5], Y=[3.0])
    for far in 1e7, -1e308, float("inf"), float("nan"):
        with pytest.raises(bi.InvalidInputError, match="coordinates, not designs"):
            s.add(points=[[far]], Y=[3.0])
    for several in ({"x": [{"a": 0.5}, {"a": 0.6}]}, {"point": [[0.5], [0.6]]}):
        with pytest.raises(bi.InvalidInputError, match="Call it once for each"):
            s.enqueue(**several)
    assert len(s.trials) == 1
    assert s.enqueue({"a": 0.5}).design == {"a": 0.5}


def test_stops_when_the_target_is_hit() -> None:
    objective = bi.Target(0.3, tolerance=0.2)
    s = study(problem=problem(objective=objective)).run(500)
    assert s.spent.values < 500
    assert abs(s.best.y[0] - 0.3) <= 0.2
    full = study(problem=problem(objective=objective)).run(30, stop_when_hit=False)
    assert full.spent.values == 30


def test_open_refuses_another_problem_and_says_how_it_differs() -> None:
    store = MemoryStore()
    bi.Study.create("s", problem(), strategy="random", storage=store).run(3)
    other = bi.Problem(bi.Box([0.0, 0.0], [1.0, 2.0]), lambda x: 0.0, bi.Maximize())
    with pytest.raises(ProblemChangedError) as refusal:
        bi.Study.open("s", store, problem=other)
    assert "objective.type: was 'minimize', is 'maximize'" in str(refusal.value)
    assert "x1.high: was 1.0, is 2.0" in str(refusal.value)
    assert len(bi.Study.open("s", store, problem=problem()).trials) == 3
    reader = bi.Study.open("s", store)
    assert reader.best.loss is not None
    with pytest.raises(bi.InvalidInputError, match="pass problem="):
        reader.run(5)
    with pytest.raises(StudyExistsError):
        bi.Study.create("s", problem(), storage=store)
    assert len(bi.Study.create("s", problem(), "random", storage=store, exist_ok=True).trials) == 3
    with pytest.raises(bi.InvalidInputError, match="the strategy must be"):
        bi.Study.create("s", problem(), "sobol", storage=store, exist_ok=True)
    with pytest.raises(bi.InvalidInputError, match="the seed must be 0, got 7"):
        bi.Study.create("s", problem(), "random", seed=7, storage=store, exist_ok=True)
    with pytest.raises(StudyNotFoundError, match="holds 's'"):
        bi.Study.open("t", store)


def test_two_studies_share_one_log() -> None:
    store = MemoryStore()
    a = bi.Study.create("s", problem(), strategy="sobol", storage=store)
    b = bi.Study.open("s", store, problem=problem())
    first, second = a.ask()[0], b.ask()[0]
    assert (first.number, second.number) == (0, 1)
    b.tell(first, 1.0)
    a.tell(second, 2.0)
    assert [t.loss for t in a.trials] == [t.loss for t in b.trials] == [1.0, 2.0]


def test_many_threads_ask_and_tell_one_study() -> None:
    store = MemoryStore()
    bi.Study.create("s", problem(), strategy="random", storage=store)

    def work(_: int) -> None:
        mine = bi.Study.open("s", store, problem=problem())
        for _ in range(10):
            (trial,) = mine.ask()
            mine.tell(trial, float(trial.number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    trials = bi.Study.open("s", store).trials
    assert [t.loss for t in trials] == list(range(40))
    assert sorted(t.ask for t in trials) == list(range(40))


def test_an_executor_gets_the_calls() -> None:
    seen: set[str] = set()
    gate = threading.Barrier(2, timeout=20)

    def oracle(x: Any) -> float:
        seen.add(threading.current_thread().name)
        gate.wait()
        return float(x[0])

    s = study(problem=problem(oracle)).run(6, batch=2, executor="threads")
    assert s.spent.values == 6
    assert len(seen) == 2


def square(x: Any) -> float:
    return float((x**2).sum())


def test_processes_evaluate_too() -> None:
    s = study(problem=problem(square)).run(6, batch=2, executor="processes")
    assert s.spent.values == 6
    workers = {attempt.worker for trial in s.trials for attempt in trial.attempts}
    assert workers == {s.journal.worker}, "the attempt belongs to the process that keeps the log"


@pytest.mark.parametrize(
    ("oracle", "reason"),
    [
        (lambda x: {"yield": 1.0}, "outputs ['yeild'] are missing, got ['yield']"),
        (lambda x: [1.0, 2.0], "got (2,)"),
        (lambda x: None, "is a return missing"),
        (lambda x: "high", "must be a number, a vector or a dict"),
    ],
)
def test_a_mistake_in_the_problem_does_not_eat_the_budget(oracle: Any, reason: str) -> None:
    s = study(problem=problem(oracle, bi.Maximize("yeild")))
    with pytest.warns(UserWarning, match="Correct the problem"):
        s.run(50)
    assert s.spent.failed == s.spent.attempts == 3
    assert reason in s.trials[0].outcome.reason
    assert reason in repr(s)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (
            {"yield": 1.0, "purity": 2.0},
            "got ['purity', 'yield']. Name the output, as in bi.Minimize('yield')",
        ),
        ({"loss": 1.0}, "got ['loss']. Name the output, as in bi.Minimize('loss')"),
        (
            [1.0, 2.0],
            "Name all 2 in Problem(outputs=['a', 'b']). Name the output, as in bi.Minimize('a')",
        ),
        ((1.0, 2.0), "Name all 2 in Problem(outputs=['a', 'b'])"),
        (np.arange(201.0), "Name all 201 in Problem(outputs=['a', 'b', 'c', ...])"),
        ({}, "The oracle must return them"),
    ],
)
def test_an_oracle_of_several_outputs_must_name_one(answer: Any, advice: str) -> None:
    s = study(problem=problem(lambda x: answer))
    with pytest.warns(UserWarning, match="Correct the problem"):
        s.run(50)
    assert advice in s.trials[0].outcome.reason
    with pytest.raises(bi.InvalidInputError) as refused:
        study().tell(0, answer)
    assert advice in str(refused.value)


def test_a_target_of_several_outputs_must_name_them() -> None:
    with pytest.raises(
        bi.InvalidInputError, match=r"as in bi.Target\(\{'a': number, 'b': number\}\)"
    ):
        study(problem=problem(objective=bi.Target([1.0, 2.0]))).tell(
            0, {"a": 1.0, "b": 2.0, "c": 3.0}
        )


def test_an_interrupt_bills_what_was_begun_and_issues_it_again() -> None:
    calls = []

    def oracle(x: Any) -> float:
        calls.append(x)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return float(x[0])

    s = study(problem=problem(oracle))
    with pytest.raises(KeyboardInterrupt):
        s.run(5)
    assert s.trials[-1].state is bi.State.LOST
    s.run(5)
    assert (s.spent.values, s.spent.lost) == (6, 1)
    assert len(calls) == 6
    assert [len(t.attempts) for t in s.trials] == [1, 1, 2, 1, 1]


def test_a_trial_whose_worker_always_dies_pauses_the_study() -> None:
    s = study()
    for _ in range(MAX_DEATHS):
        assert s.trials == () or s.trials[0].state is bi.State.LOST
        s.take(1, None, assignment=Assignment("elsewhere:1:1"))
        s.journal.expire(lambda worker: True)
    assert (s.trials[0].state, s.spent.lost, len(s.trials)) == (bi.State.LOST, MAX_DEATHS, 1)
    for ask in (lambda: s.run(3), s.ask):
        with pytest.raises(StudyPausedError, match=r"during trial 0 .*study\.retry"):
            ask()
    assert s.spent.values == MAX_DEATHS, "a paused study makes no call"
    s.retry(0)
    s.run(3)
    assert [t.state for t in s.trials] == [bi.State.COMPLETED] * 3


def test_workers_are_known_by_more_than_their_number() -> None:
    me = this_worker()
    assert not is_gone(me)
    host, pid, _ = me.rsplit(":", 2)
    assert is_gone(f"{host}:{pid}:1")
    assert is_gone(f"{host}:{2**22 + 1}:7")
    assert not is_gone("another-host:1:1")


def test_a_person_may_take_as_long_as_they_like() -> None:
    """A trial handed out by ``ask`` is never taken for lost."""
    s = study()
    (trial,) = s.ask()
    s.run(4)
    assert s.trials[trial.number].state is bi.State.RUNNING
    s.tell(trial, 0.1)
    assert s.spent.values == 4


def test_cancel() -> None:
    s = study()
    a, b = s.ask(2)
    s.tell(a, 1.0)
    s.cancel(b, "no sample left")
    assert s.trials[1].state is bi.State.CANCELLED
    with pytest.raises(TellConflictError):
        s.cancel(a)
    assert s.spent.values == 2


def test_everything_is_a_fold_over_the_events() -> None:
    store = MemoryStore()
    s = study(storage=store).run(7)
    s.ask(2)
    log = Log()
    log.apply(store.events("s"))
    assert [t.query.to_json() for t in log.trials] == [t.query.to_json() for t in s.trials]
    assert log.ledger == s.spent
    assert log.ledger.running == 2


def test_the_log_keeps_the_sums_that_the_trials_show() -> None:
    calls = []

    def oracle(x: Any) -> float:
        calls.append(x)
        if len(calls) % 3 == 0:
            raise RuntimeError("flaky")
        if len(calls) == 8:
            raise KeyboardInterrupt
        return 1.0

    s = study(problem=problem(oracle))
    s.add([[0.5, 0.5]], [1.0])
    with pytest.raises(KeyboardInterrupt):
        s.run(20, retries=1)
    s.cancel(s.ask(2)[0])
    assert s.journal.read().committed == s.history.committed
    s.run(20, retries=2)
    assert s.journal.read().committed == s.history.committed == 20


def test_the_curve_counts_every_call() -> None:
    def oracle(x: Any) -> float:
        if x[0] > 0.6:
            raise RuntimeError
        return float(x[0])

    s = study(problem=problem(oracle)).run(20)
    calls, losses = best_so_far(s.trials)
    assert calls[-1] == 20
    assert (np.diff(calls) >= 0).all()
    assert (np.diff(losses[np.isfinite(losses)]) <= 0).all()
    assert losses[-1] == s.best.loss


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": 2.5}, "budget"),
        ({"budget": 5, "batch": 0}, "batch"),
        ({"budget": 5, "executor": "cluster"}, "executor must be one of"),
        ({"budget": 5, "retries": -1}, "retries"),
    ],
)
def test_bad_runs_are_refused_before_anything_happens(
    arguments: dict[str, Any], message: str
) -> None:
    s = study()
    with pytest.raises(bi.InvalidInputError, match=message):
        s.run(**arguments)
    assert s.trials == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bi.Problem("box", None, bi.Minimize()), "space"),
        (lambda: problem(objective=3), "objective"),
        (lambda: problem(constraints=["speed > 3"]), "constraint"),
        (lambda: problem(constraints=["speed >= fast"]), "constraint"),
        (lambda: problem(objective=bi.Minimize("a"), outputs=["b"]), "no output 'a'"),
        (lambda: problem(outputs=["a", "b"]), "name the one you mean"),
        (lambda: problem(objective=bi.Target([1, 2]), outputs=["a", "b", "c"]), "2 values"),
        (lambda: problem(objective=bi.Composite(lambda y: y.sum(-1))), "outputs="),
        (lambda: problem(oracle=5), "oracle"),
        (lambda: bi.Study.create("", problem()), "name"),
        (lambda: bi.Study.create("s", problem(), seed=-1), "seed"),
        (lambda: bi.Study.create("s", problem(), strategy="gpp"), "did you mean 'gp'"),
        (lambda: bi.Study.create("s", problem(), strategy="random", speed=3), "no option"),
    ],
)
def test_bad_input_is_refused_early(make: Any, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        make()


def test_nothing_is_refused_without_a_word() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study(problem=problem(lambda x: 1 / 0)).run(12)
    assert "ZeroDivisionError" in str(caught[0].message)


def test_tables_show_names() -> None:
    space = bi.Box({"n": bi.Int(1, 3), "loss": bi.Float(0.0, 1.0)})
    p = bi.Problem(space, lambda d: {"y": d["n"] + d["loss"]}, bi.Minimize("y"))
    frame = bi.Study.create("s", p, strategy="random").run(5).to_dataframe()
    assert {"number", "state", "n", "loss_", "y", "loss", "values", "reason"} <= set(frame.columns)
    assert len(frame) == 5
    np.testing.assert_allclose(frame["y"], frame["n"] + frame["loss_"])


@dataclass(frozen=True)
class Corner(bi.Strategy):
    """A strategy that no registry knows."""

    name = "corner"
    shrink: float = 0.5

    def ask(self, statement: bi.ProblemStatement, trials: Any, request: bi.Request) -> bi.Proposal:
        return bi.Proposal(
            (bi.Query(np.full(statement.domain.dim, self.shrink ** len(trials)), origin=self.name),)
        )


def test_a_strategy_needs_no_registration() -> None:
    store = MemoryStore()
    bi.Study.create("s", problem(), Corner(0.8), storage=store).run(3)
    assert "corner" in repr(bi.Study.open("s", store)), "reading needs neither problem nor strategy"
    with pytest.raises(bi.InvalidInputError, match="no strategies named 'corner'"):
        bi.Study.open("s", store, problem=problem()).ask()
    with pytest.raises(bi.InvalidInputError, match="the strategy must be"):
        bi.Study.open("s", store, problem=problem(), strategy=Corner(0.7))
    again = bi.Study.open("s", store, problem=problem(), strategy=Corner(0.8)).run(5)
    np.testing.assert_allclose([t.point[0] for t in again.trials], 0.8 ** np.arange(5))
    once_more = bi.Study.create("s", problem(), Corner(0.8), storage=store, exist_ok=True)
    assert len(once_more.trials) == 5
    assert all(
        run.loss < 2 for run in bi.compare(problem(), {"mine": Corner(0.8)}, budget=3, seeds=2).runs
    )


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("gp", {"noisy": "no"}, "option noisy must be True or False, got 'no'"),
        ("gp", {"initial": "many"}, "option initial must be an integer or None"),
        ("cmaes", {"sigma0": "x"}, "option sigma0 must be a number or None"),
        ({"name": "gp", "optons": {"noisy": True}}, {}, "strategy must be a name or"),
        (7, {}, "strategy must be a name or"),
    ],
)
def test_options_are_checked_before_anything_runs(
    strategy: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Study.create("s", problem(), strategy, **options)
    assert bi.Study.create("s", problem(), {"name": "gp"}).strategy.name == "gp"
    assert bi.Study.create("s", problem(), "cmaes", sigma0=1).strategy.name == "cmaes"


def test_one_crash_among_answers_that_do_not_fit_changes_nothing() -> None:
    calls = []

    def oracle(x: np.ndarray) -> dict[str, float]:
        calls.append(x)
        if len(calls) == 2:
            raise RuntimeError("broken")
        return {"yeild": 1.0}

    s = study(problem=problem(oracle, bi.Maximize("yield")))
    with pytest.warns(UserWarning, match="The run ends here"):
        s.run(30)
    assert len(calls) == 4


def test_a_log_that_is_read_without_its_problem_knows_the_names_of_parameters() -> None:
    store = MemoryStore()
    space = bi.Box({"speed": bi.Float(1.0, 100.0, log=True), "kind": bi.Choice("a", "b")})
    whole = bi.Problem(space, lambda p: p["speed"], bi.Minimize("cost"), outputs=["cost"])
    run = bi.Study.create("named", whole, "random", storage=store).run(4)
    read = bi.Study.open("named", store)
    assert read.to_dataframe().equals(run.to_dataframe())
    assert {"speed", "kind", "cost"} <= set(read.to_dataframe())


def test_enqueued_points_keep_to_the_budget() -> None:
    asked: list[float] = []

    def oracle(p: Any) -> float:
        asked.append(p["a"])
        return float(p["a"])

    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), oracle, bi.Minimize())
    study = bi.Study.create("s", problem, strategy="random")
    for i in range(10):
        study.enqueue({"a": i / 10})
    study.run(3)
    assert asked == pytest.approx([0.0, 0.1, 0.2])
    study.run(5, batch=4)
    assert asked == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    study.run(5, batch=2)
    assert study.spent.values == len(asked) == 5
    study.run(12, batch=3)
    assert asked[:10] == pytest.approx([i / 10 for i in range(10)])
    assert len(asked) == 12


def test_a_short_run_of_failures_is_reported() -> None:
    def broken(p: Any) -> float:
        raise OSError("no licence")

    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), broken, bi.Minimize())
    with pytest.warns(
        UserWarning, match="none of 3 trials gave outputs. Last error: .*no licence"
    ) as caught:
        bi.Study.create("s", problem, strategy="random").run(3)
    assert len(caught) == 1


def test_a_trial_says_why() -> None:
    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), None, bi.Minimize())
    study = bi.Study.create("s", problem, strategy="random")
    (trial,) = study.ask()
    assert trial.reason == ""
    assert study.tell(trial, bi.FailedError("no licence")).reason == "no licence"
