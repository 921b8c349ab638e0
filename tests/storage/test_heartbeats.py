"""Leases: workers without heartbeats lose their trials; late outcomes are billed once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bo_invert as bi
from bo_invert.errors import StudyPausedError, TellConflictError
from bo_invert.storage.heartbeats import BEATS_PER_LEASE, LeaseMonitor, expire_leases, heartbeat
from bo_invert.storage.log_replay import LATE
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.trial_transitions import MAX_DEATHS, Assignment
from bo_invert.types import Cost, Outcome, State


def study() -> bi.Study:
    return bi.Study.create("s", bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize()), "sobol")


def take(s: bi.Study, count: int, worker: str | None = None, **assignment: Any) -> list[bi.Trial]:
    known = assignment.pop("known", None)
    retries = assignment.pop("retries", 0)
    propose = partial(s.propose, None)
    return s.journal.take(propose, count, None, retries, Assignment(worker, **assignment), known)


def outcome(s: bi.Study, value: float, cost: Cost | None = None) -> Outcome:
    assert s.problem is not None
    return s.problem.outcome(value, cost or Cost(1))


def consistent(s: bi.Study) -> None:
    """Check that the running sums are those of the attempts."""
    attempts = [a for t in s.trials if t.origin != LATE for a in t.attempts]
    spent = s.spent
    assert spent.values == sum(a.cost.values for a in attempts)
    assert spent.attempts == sum(a.ended is not None for a in attempts)
    assert spent.lost == sum(a.fate is State.LOST for a in attempts)
    assert s.journal.read().committed == s.history.committed


class Hands:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_is_silent_after_it_was_seen_to_be() -> None:
    clock = Hands()
    watch = LeaseMonitor(clock)
    leases = {"a": 60.0, "b": 60.0}
    beats = {"a": 1}
    assert watch.expired(beats, leases) == set()
    for _ in range(5):
        clock.now += 10.0
        beats["a"] += 1
        assert watch.expired(beats, leases) == set()
    clock.now += 10.0
    assert watch.expired(beats, leases) == {"b"}, "b never gave a sign"
    for _ in range(4):
        clock.now += 10.0
        assert "a" not in watch.expired(beats, leases)
    clock.now += 10.0
    assert watch.expired(beats, leases) == {"a", "b"}
    beats["a"] += 1
    assert watch.expired(beats, leases) == {"b"}


def test_time_without_a_monitor_counts_little() -> None:
    clock = Hands()
    watch = LeaseMonitor(clock)
    assert watch.expired({"a": 1}, {"a": 60.0}) == set()
    for _ in range(BEATS_PER_LEASE - 1):
        clock.now += 3600.0
        assert watch.expired({"a": 1}, {"a": 60.0}) == set()
    clock.now += 3600.0
    assert watch.expired({"a": 1}, {"a": 60.0}) == {"a"}


def test_a_wall_clock_that_jumps_ends_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    s = study()
    take(s, 1, "host:1:1", lease=60.0)
    steady, watch = time.time(), LeaseMonitor()
    for jump in (3600.0, -7200.0, 1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: steady + jump)
        expire_leases(s.journal, watch)
        assert s.trials[0].state is State.RUNNING


def test_a_silent_worker_loses_its_trials_and_a_beating_one_keeps_them() -> None:
    clock = Hands()
    s, watch = study(), LeaseMonitor(clock)
    (mine,) = take(s, 1, "elsewhere:1:1", lease=40.0)
    (other,) = take(s, 1, "elsewhere:2:1", lease=40.0)
    (person,) = s.ask()
    for _ in range(8):
        s.journal.beat("elsewhere:1:1")
        expire_leases(s.journal, watch)
        clock.now += 10.0
    states = [s.trials[t.number].state for t in (mine, other, person)]
    assert states == [State.RUNNING, State.LOST, State.RUNNING], "a person has no lease"
    (again,) = take(s, 1, "elsewhere:3:1", lease=40.0)
    assert again.number == other.number
    assert [a.fate for a in again.attempts] == [State.LOST, State.RUNNING]
    consistent(s)


def test_a_late_outcome_is_recorded_and_overwrites_nothing() -> None:
    s = study()
    (old,) = take(s, 1, "w1", lease=1.0)
    s.journal.expire(lambda worker: worker == "w1")
    (new,) = take(s, 1, "w2", lease=1.0)
    assert new.number == old.number
    s.journal.finish(new.number, outcome(s, 2.0), attempt=1)
    late = s.journal.finish(old.number, outcome(s, 1.0), attempt=0)
    assert late.number != old.number
    assert (late.origin, late.loss, late.point.tolist()) == (LATE, 1.0, old.point.tolist())
    assert s.trials[old.number].loss == 2.0
    assert s.best is not None
    assert s.best.number == late.number
    assert s.spent.values == 2, (
        "the lost attempt and the second one; the late answer was paid with the first"
    )
    assert s.journal.finish(old.number, outcome(s, 1.0), attempt=0).number == old.number, (
        "again: nothing new"
    )
    assert len(s.trials) == 2
    with pytest.raises(TellConflictError, match="cannot become"):
        s.journal.finish(old.number, outcome(s, 7.0), attempt=0)
    with pytest.raises(bi.InvalidInputError, match="got 5"):
        s.journal.finish(old.number, outcome(s, 7.0), attempt=5)
    consistent(s)


def test_a_late_tell_comes_before_the_second_attempt_ends() -> None:
    s = study()
    (old,) = take(s, 1, "w1", lease=1.0)
    s.journal.expire(lambda worker: True)
    take(s, 1, "w2", lease=1.0)
    s.journal.finish(old.number, outcome(s, 1.0), attempt=0)
    assert s.trials[old.number].state is State.RUNNING
    s.journal.finish(old.number, outcome(s, 2.0), attempt=1)
    assert [t.loss for t in s.trials] == [2.0, 1.0]
    consistent(s)


@pytest.mark.parametrize("attempt", [None, 0])
def test_a_lost_trial_that_answers_is_billed_once(attempt: int | None) -> None:
    s = study()
    (trial,) = take(s, 1, "w1", lease=1.0)
    s.journal.expire(lambda worker: True)
    assert (s.spent.values, s.spent.lost) == (1, 1)
    s.journal.finish(trial.number, outcome(s, 1.0, Cost(1, 0, 3.0)), attempt)
    assert (s.spent.values, s.spent.lost, s.spent.attempts) == (1, 0, 1)
    assert s.spent.seconds == 3.0
    assert s.trials[0].state is State.COMPLETED
    consistent(s)


def test_a_repeated_failure_after_a_retry_changes_nothing() -> None:
    s = study()
    (trial,) = take(s, 1, "w1")
    failed = outcome(s, float("nan"))
    s.journal.finish(trial.number, failed, attempt=0)
    (again,) = take(s, 1, "w2", retries=1)
    assert again.number == trial.number
    s.journal.finish(trial.number, failed, attempt=0)
    assert s.trials[0].state is State.RUNNING
    assert (s.spent.values, s.spent.failed) == (1, 1)
    consistent(s)


def test_what_is_given_back_waits_for_somebody_else() -> None:
    s = study()
    (trial,) = take(s, 1, "w1")
    s.journal.release(trial.number, 0, Cost())
    assert (s.spent.values, s.trials[0].state) == (0, State.QUEUED)
    (again,) = take(s, 1, "w2")
    assert again.number == trial.number
    s.journal.release(trial.number, 0, Cost())
    assert s.trials[0].state is State.RUNNING, "w1 has no say in the second attempt"
    s.journal.release(trial.number, 1, Cost(1))
    assert s.spent.values == 1, "the oracle had been called"
    consistent(s)
    for _ in range(MAX_DEATHS):
        (trial,) = take(s, 1, "w3")
        s.journal.expire(lambda worker: True)
    assert s.trials[0].state is State.LOST
    with pytest.raises(StudyPausedError, match="trial 0"):
        take(s, 1, "w3")
    consistent(s)


def test_a_worker_that_asks_again_is_given_what_it_left_unfinished() -> None:
    s = study()
    first = [t.number for t in take(s, 2, "w1", known=())]
    assert [t.number for t in take(s, 2, "w1", known=())] == first
    assert [t.number for t in take(s, 1, "w1", known=first)] == [2]
    assert [t.number for t in take(s, 1, "w2", known=())] == [3]
    assert [t.number for t in take(s, 1, "w1")] == [4], "one that keeps count itself"


def test_a_request_that_is_repeated_gets_the_same_answer() -> None:
    s = study()
    s.enqueue(point=[0.25])
    asked = take(s, 3, None, key="k1")
    assert [t.number for t in asked] == [0, 1, 2]
    other = bi.Study.open("s", s.journal._store, s.problem)
    assert [t.number for t in take(other, 3, None, key="k1")] == [0, 1, 2]
    assert [t.number for t in take(other, 1, None, key="k2")] == [3]
    query = asked[1].query
    added = s.journal.add([query, query], [outcome(s, 1.0), outcome(s, 2.0)], key="k3")
    assert [t.number for t in added] == [4, 5]
    assert [
        t.number
        for t in other.journal.add([query, query], [outcome(s, 1.0), outcome(s, 2.0)], key="k3")
    ] == [4, 5]
    assert (
        s.journal.enqueue(query, key="k4").number
        == other.journal.enqueue(query, key="k4").number
        == 6
    )
    assert len(s.trials) == 7


def test_what_older_logs_lack_is_understood() -> None:
    store = MemoryStore()
    s = bi.Study.create(
        "s", bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize()), "sobol", storage=store
    )
    s.tell(s.ask()[0], 1.0)
    events = store.events("s")
    for event in events:
        event.pop("lease", None)
        event.pop("attempt", None)
    store.create("old", store.header("s"), events)
    assert Journal(store, "old").trials[0].loss == 1.0


def test_a_heart_beats_and_reaps() -> None:
    s = study()
    take(s, 1, "elsewhere:1:1", lease=0.2)
    with heartbeat(s.journal, "here:1:1", 0.2):
        deadline = time.monotonic() + 20.0
        while s.trials[0].state is State.RUNNING and time.monotonic() < deadline:
            time.sleep(0.02)
    assert s.trials[0].state is State.LOST
    assert s.journal.beats()["here:1:1"] >= BEATS_PER_LEASE


STOPPED = """
import sys, time
import bo_invert as bi
from bo_invert.study import runner
runner.LEASE = 0.8

def oracle(x):
    print("begun", flush=True)
    time.sleep(2.0)
    return float(x[0])

problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize())
bi.Study.create("s", problem, "sobol", storage=sys.argv[1], exist_ok=True).run(1)
"""


def stop_outside_a_transaction(pid: int, file: Path) -> None:
    """Stop a process while it holds no lock of SQLite.

    A process that is stopped inside a transaction would hold the lock until it resumes.
    """
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        try:
            with closing(sqlite3.connect(file, timeout=0.0)) as connection:
                connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.03)


def test_a_worker_that_was_stopped_past_its_lease_is_fenced(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        stop_outside_a_transaction(process.pid, tmp_path / "runs.db")
        s = bi.Study.open("s", url, bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize()))
        watch, deadline = LeaseMonitor(), time.monotonic() + 30.0
        while s.trials[0].state is State.RUNNING and time.monotonic() < deadline:
            expire_leases(s.journal, watch)
            time.sleep(0.1)
        (again,) = take(s, 1, "me:1:1")
        assert again.number == 0
        s.journal.finish(0, outcome(s, 7.0), attempt=1)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert [t.loss for t in s.trials[:1]] == [7.0]
    assert s.trials[1].origin == LATE
    assert s.trials[1].loss == pytest.approx(float(again.point[0]))
    assert s.spent.values == 2
    consistent(s)
