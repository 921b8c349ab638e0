"""Interrupted runs: every answer is recorded, no call is billed twice, resumption is exact."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.engine.default import DefaultDialect

import bo_invert as bi
from bo_invert.errors import StudyPausedError
from bo_invert.oracles.cached import Cached
from bo_invert.oracles.function import Function
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.trial_transitions import MAX_DEATHS, Assignment
from bo_invert.study import run_loop, runner
from bo_invert.study.interrupts import deferred
from bo_invert.testing import consistent
from bo_invert.types import State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

BATCHES = [1, 4, 8]
SIGNALS = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: SystemExit,
    signal.SIGHUP: SystemExit,
}
FORM = bi.Box([0.0] * 2, [1.0] * 2)


def value(x: Any) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def begin(
    oracle: Any = value, strategy: Any = "random", store: Any = None, **problem: Any
) -> bi.Study:
    made = bi.Problem(FORM, oracle, bi.Minimize(), name="s", **problem)
    return bi.Study.create("s", made, strategy, 3, store or MemoryStore(), exist_ok=True)


def described(study: bi.Study) -> list[tuple[Any, Any]]:
    return [(t.query.to_json(), None if t.y is None else t.y.tolist()) for t in study.trials]


class Interrupted:
    """Oracle during whose calls of some numbers signals arrive."""

    def __init__(self, at: set[int], number: int) -> None:
        self.at, self.number, self.calls = at, number, 0

    def __call__(self, x: Any) -> float:
        self.calls += 1
        if self.calls in self.at:
            signal.raise_signal(self.number)
        return value(x)


@pytest.mark.parametrize(
    ("strategy", "batch", "number"),
    [*(("random", b, n) for b in BATCHES for n in SIGNALS), ("auto", 4, signal.SIGTERM)],
)
def test_signals_lose_no_answer_and_the_study_continues_exactly(
    strategy: str, batch: int, number: int
) -> None:
    oracle = Interrupted({8, 9, 13}, number)
    study = begin(oracle, strategy)
    for answers in (7, 7, 10):
        with pytest.raises(SIGNALS[signal.Signals(number)]):
            study.run(16, batch=batch)
        assert study.journal.read().counts[State.COMPLETED] == answers
        assert study.spent.values == oracle.calls, "each call is billed, and nothing else"
        assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    study.run(16, batch=batch)
    assert (study.spent.values, study.spent.lost, oracle.calls) == (19, 3, 19)
    assert not any(study.journal.read().deaths.values())
    assert described(study) == described(begin(value, strategy).run(16, batch=batch))
    consistent(study)


@pytest.mark.parametrize("number", list(SIGNALS))
def test_interrupts_are_no_attempts_of_a_trial(number: int) -> None:
    study = begin(Interrupted(set(range(1, MAX_DEATHS + 3)), number))
    for _ in range(MAX_DEATHS + 2):
        with pytest.raises(SIGNALS[signal.Signals(number)]):
            study.run(2)
    study.run(2)
    assert [t.state for t in study.trials] == [State.COMPLETED] * 2


def test_interrupts_leave_the_retries_of_a_trial() -> None:
    calls: list[int] = []

    def oracle(x: Any) -> float:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        if len(calls) == 2:
            raise ValueError("fails once")
        return value(x)

    study = begin(oracle)
    with pytest.raises(KeyboardInterrupt):
        study.run(3, retries=1)
    study.run(3, retries=1)
    fates = [attempt.fate for attempt in study.trials[0].attempts]
    assert fates == [State.LOST, State.FAILED, State.COMPLETED]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("wrap", [lambda f: f, Function, lambda f: Cached(Function(f))])
def test_an_answer_is_recorded_before_the_next_call(batch: int, wrap: Callable[..., Any]) -> None:
    recorded: list[int] = []
    begun: list[int] = []

    def oracle(x: Any) -> float:
        counts = study.journal.read().counts
        recorded.append(counts[State.COMPLETED])
        begun.append(counts[State.RUNNING])
        return value(x)

    study = begin(wrap(oracle))
    study.run(9, batch=batch)
    assert recorded == list(range(9))
    assert begun == [1] * 9, "a kill costs the call that runs, and no other"
    asks = study.journal.read().asks
    assert asks == -(-9 // batch), "one ask for a batch"


@pytest.mark.parametrize("batch", BATCHES)
def test_only_batched_oracles_are_called_with_many_points(batch: int) -> None:
    sizes: list[int] = []

    def batched(designs: Any) -> list[float]:
        sizes.append(len(designs))
        if len(sizes) == 2:
            raise KeyboardInterrupt
        return [value(x) for x in designs]

    study = begin(Function(batched, batched=True))
    with pytest.raises(KeyboardInterrupt):
        study.run(16, batch=batch)
    assert study.spent.values == 2 * batch
    study.run(16, batch=batch)
    assert set(sizes) == {batch}
    assert described(study) == described(begin().run(16, batch=batch))


class Burst(Executor):
    """Executor whose calls are done when the last one is interrupted."""

    def __init__(self, interrupted: int) -> None:
        self.interrupted = interrupted
        self.futures: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        del kwargs
        self.futures.append((Future(), args))
        if len(self.futures) == self.interrupted:
            for future, waiting in self.futures[:-1]:
                future.set_result(fn(*waiting))
            raise KeyboardInterrupt
        return self.futures[-1][0]


@pytest.mark.parametrize("batch", BATCHES)
def test_an_interrupt_records_the_answers_that_are_available(batch: int) -> None:
    study = begin()
    with pytest.raises(KeyboardInterrupt) as caught:
        study.run(20, batch=batch, executor=Burst(batch))
    states = [t.state for t in study.trials]
    assert states.count(State.COMPLETED) == batch - 1
    (note,) = caught.value.__notes__
    assert "all complete results are recorded; 0 calls were interrupted" in note
    consistent(study)


@pytest.mark.parametrize("committed", [False, True])
def test_an_interrupt_while_an_answer_is_recorded(
    committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    append, done = study.journal._store.append, []

    def interrupted(name: str, events: Any, after: int) -> int:
        last = any(event["kind"] == "finished" for event in events) and not done
        if last:
            done.append(append(name, events, after) if committed else 0)
            raise KeyboardInterrupt
        return append(name, events, after)

    monkeypatch.setattr(study.journal._store, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(4, batch=4)
    assert study.trials[0].state is State.COMPLETED
    assert study.spent.values == 1
    study.run(4, batch=4)
    assert (study.spent.values, len(study.trials)) == (4, 4)
    consistent(study)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interrupt_inside_a_transaction_of_a_database(
    committed: bool, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a start or a record whose connection is lost, as by Ctrl-C during a commit."""
    study = begin(store=f"sqlite:///{tmp_path}/runs.db")
    commit, commits = DefaultDialect.do_commit, []

    def interrupted(dialect: DefaultDialect, connection: Any) -> None:
        commits.append(1)
        if len(commits) != at:
            commit(dialect, connection)
        elif committed:
            commit(dialect, connection)
            raise KeyboardInterrupt
        else:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DefaultDialect, "do_commit", interrupted)
        patch.setattr(runner, "heartbeat", lambda *_: nullcontext())
        with pytest.raises(KeyboardInterrupt):
            study.run(4, batch=2)
    assert study.spent.lost == 0
    assert not getattr(study.journal, "running", [])
    study.run(4, batch=2)
    assert (study.spent.values, study.spent.lost) == (4, 0)
    assert described(study) == described(begin().run(4, batch=2))
    consistent(study)


def test_an_interrupted_ask_returns_the_trials_that_it_had_started() -> None:
    class Endless(bi.Strategy):
        name = "endless"

        def ask(self, statement: Any, trials: Any, request: Any) -> bi.Proposal:
            raise KeyboardInterrupt

    study = begin(strategy=Endless())
    study.enqueue(point=[0.5, 0.5])
    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyboardInterrupt):
        study.run(4, batch=2, executor=pool)
    assert (study.trials[0].state, study.spent.values) == (State.QUEUED, 0)
    assert not study.journal.under_way


@pytest.mark.parametrize(("signals", "recorded"), [(1, True), (2, False)])
def test_the_first_signal_waits_for_the_end_of_a_record(signals: int, recorded: bool) -> None:
    steps: list[str] = []

    def record() -> None:
        with deferred():
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)
            steps.append("recorded")

    with pytest.raises(KeyboardInterrupt):
        record()
    assert steps == ["recorded"] * recorded


def test_handlers_of_the_user_stay() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        study = begin(Interrupted({2}, signal.SIGTERM))
        study.run(3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert study.spent.values == 3


def paused() -> bi.Study:
    study = begin()
    for _ in range(MAX_DEATHS):
        study.take(1, None, assignment=Assignment("elsewhere:1:1"))
        study.journal.expire(lambda worker: True)
    return study


WAYS = {
    "retry": (lambda study: study.retry(0), State.COMPLETED),
    "tell": (lambda study: study.tell(0, bi.FailedError("it crashes")), State.FAILED),
    "cancel": (lambda study: study.cancel(0), State.CANCELLED),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("executor", [None, "threads"])
def test_a_study_pauses_after_too_many_deaths_and_continues_on_request(
    way: str, executor: str | None
) -> None:
    study = paused()
    with pytest.raises(StudyPausedError, match=rf"trial 0 .*study\.{way}\(0"):
        study.run(4, batch=2, executor=executor)
    assert (study.trials[0].state, study.spent.values) == (State.LOST, MAX_DEATHS)
    act, state = WAYS[way]
    act(study)
    study.run(4, batch=2, executor=executor)
    assert study.trials[0].state is state
    consistent(study)


@pytest.mark.filterwarnings("ignore:study 's' continues")
def test_calls_end_before_a_study_pauses() -> None:
    """Check that a death elsewhere does not cost the running calls."""
    begun, go = threading.Event(), threading.Event()

    def oracle(x: Any) -> float:
        begun.set()
        go.wait(60)
        return value(x)

    store = MemoryStore()
    study, other = begin(oracle, store=store), begin(store=store)

    def dies() -> None:
        begun.wait(60)
        for _ in range(MAX_DEATHS):
            (trial,) = other.take(1, None, assignment=Assignment("elsewhere:1:1"))
            other.journal.expire(lambda worker: worker == "elsewhere:1:1")
        assert trial.number > 1
        go.set()

    thread = threading.Thread(target=dies)
    thread.start()
    with pytest.raises(StudyPausedError):
        study.run(20, batch=2, executor="threads")
    thread.join()
    assert study.journal.read().counts[State.COMPLETED] >= 2
    assert study.spent.lost == MAX_DEATHS


def test_logs_of_earlier_versions_count_lost_attempts_as_deaths() -> None:
    study = begin()
    for _ in range(2):
        study.take(1, None, assignment=Assignment("elsewhere:1:1"))
        study.journal.expire(lambda worker: True)
    events = study.journal._store.events("s")
    for event in events:
        event.pop("deaths", None)
    store = MemoryStore()
    store.create("old", study.journal.header, events)
    assert bi.Study.open("old", store).journal.read().deaths == {0: 2}


OTHERS: dict[str, tuple[Callable[[bi.Study, bi.Trial], Any], list[Any]]] = {
    "nothing": (lambda other, trial: None, []),
    "restarted": (lambda other, trial: other.take(1, None, assignment=Assignment("w:1:1")), [LATE]),
    "answered": (
        lambda other, trial: other.tell(
            other.take(1, None, assignment=Assignment("w:1:1"))[0], 7.0
        ),
        [LATE],
    ),
    "told": (lambda other, trial: other.tell(trial, 7.0), [LATE]),
    "cancelled": (lambda other, trial: other.cancel(trial), [LATE]),
}
"""Actions of others during the suspension, and the origins of the further trials."""


@pytest.mark.filterwarnings("ignore:study 's' continues")
@pytest.mark.parametrize("action", list(OTHERS))
@pytest.mark.parametrize("executor", [False, True])
def test_a_worker_suspended_past_its_lease_continues(action: str, executor: bool) -> None:
    store = MemoryStore()
    other = begin(store=store)
    calls: list[Any] = []
    again = threading.Event()

    def oracle(x: Any) -> float:
        calls.append(x)
        if len(calls) == 1:  # another process declares this one dead
            other.journal.expire(lambda worker: True)
            (trial,) = [t for t in other.trials if np.array_equal(t.point, x)]
            OTHERS[action][0](other, trial)
        if len(calls) == 3:
            again.set()
        elif len(calls) == 2 and executor:
            again.wait(60)  # until the run has asked after the end of its lease
        return value(x)

    study = begin(oracle, store=store)
    with ThreadPoolExecutor(2) as pool:
        study.run(6, batch=2, executor=pool if executor else None)
    own = [t for t in study.trials if t.origin == LATE or (t.y is not None and t.loss != 7.0)]
    assert len({tuple(t.point) for t in own}) == len(calls), "every answer is recorded"
    assert [t.origin for t in study.trials if t.origin == LATE] == OTHERS[action][1]
    assert not study.journal.under_way
    points = [tuple(x) for x in calls]
    assert len(set(points)) == len(points), "no trial is evaluated twice by this worker"
    for trial in study.trials:
        if trial.origin != LATE:
            assert trial.cost.values == sum(a.ended is not None for a in trial.attempts)


def test_a_run_waits_for_the_lease_of_a_process_that_it_cannot_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "LEASE", 0.4)
    monkeypatch.setattr(run_loop, "_POLL", 0.02)
    study = begin()
    container = "host@0123456789ab.1:7:7"
    study.take(1, 3, assignment=Assignment(container, 0.4))
    study.journal.beat(container)
    study.run(3)
    assert [t.state for t in study.trials] == [State.COMPLETED] * 3
    assert study.spent.lost == 1
    elsewhere = begin()
    elsewhere.take(1, 3, assignment=Assignment("lab-2", 1e6))
    elsewhere.journal.beat("lab-2")
    elsewhere.run(3)
    assert elsewhere.trials[0].state is State.RUNNING, "a chosen name is no process"


LINES = {run_loop.RunLoop._tell.__code__, run_loop.RunLoop._record.__code__}


@pytest.mark.parametrize("batch", [1, 4])
def test_an_interrupt_at_any_line_of_a_record_loses_no_answer(batch: int) -> None:
    undisturbed = described(begin().run(6, batch=batch))
    place, reached = 0, True
    while reached:
        place, reached = place + 1, False
        calls: list[int] = []

        def oracle(x: Any, calls: list[int] = calls) -> float:
            calls.append(1)
            return value(x)

        study, lines = begin(oracle), 0

        def trace(frame: Any, event: str, _: object, place: int = place) -> Any:
            nonlocal lines, reached
            if frame.f_code not in LINES:
                return None
            lines += event == "line"
            if lines == place and not reached:
                reached = True
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            study.run(6, batch=batch)
        except KeyboardInterrupt:
            assert study.journal.read().counts[State.COMPLETED] == len(calls)
        finally:
            sys.settrace(before)
        study.run(6, batch=batch)
        assert (len(calls), study.spent.values, study.spent.lost) == (6, 6, 0)
        assert described(study) == undisturbed
    assert place > 50
