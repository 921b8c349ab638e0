"""Faults while a study runs: a locked database, a full disk, answers that cannot be written."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import postgres
import psutil
import pytest
from servers import Served, wait_until

import bo_invert as bi
from bo_invert.errors import StorageBusyError, StorageError, StudyNotFoundError
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.sql import SqlStore
from bo_invert.testing import consistent
from bo_invert.types import State

SPACE = bi.Box([0.0] * 2, [1.0] * 2)


def problem() -> bi.Problem:
    return bi.Problem(SPACE, lambda x: float(x.sum()), bi.Minimize())


@pytest.mark.slow
def test_ten_seconds_of_somebody_elses_lock(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create("s", problem(), "random", storage=url)
    (trial,) = study.ask()
    holder = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(10.0, holder.execute, ["COMMIT"])
    release.start()
    hasty = bi.Study.open("s", SqlStore(url, patience=0.5), problem())
    with pytest.raises(
        StorageBusyError, match=r"runs\.db stayed locked by another program for 0\.5 seconds"
    ):
        hasty.tell(trial, 2.0)
    assert hasty.trials[0].state.open, "readers do not wait"
    assert study.tell(trial, 1.0).loss == 1.0, "the default patience outlasts the lock"
    release.join()
    holder.close()
    assert [t.loss for t in hasty.trials] == [1.0]


LOCKED = """
import signal, sys
from bo_invert.errors import StorageBusyError
from bo_invert.storage.sql import SqlStore

signal.signal(signal.SIGALRM, lambda *_: sys.exit(7))
signal.setitimer(signal.ITIMER_REAL, 1.0)
SqlStore(sys.argv[1], patience=600.0).append("s", [{"kind": "x"}], 0)
"""


def test_whoever_waits_for_a_lock_still_hears_signals(tmp_path: Path) -> None:
    SqlStore(tmp_path / "runs.db").create("s", {})
    holder = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    url = f"sqlite:///{tmp_path}/runs.db"
    waiting = subprocess.run(
        [sys.executable, "-c", LOCKED, url], capture_output=True, text=True, timeout=30
    )
    holder.close()
    assert waiting.returncode == 7, waiting.stderr


FULL = """
import os, resource, sys
import bo_invert as bi
from bo_invert.testing import consistent
from bo_invert.errors import StorageError

folder = sys.argv[1]
problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), lambda x: float(x.sum()), bi.Minimize())
study = bi.Study.create("s", problem, "random", storage=f"sqlite:///{folder}/runs.db").run(5)
(trial,) = study.ask()
full = os.path.getsize(f"{folder}/runs.db-wal") + 1000  # part of what is to be written fits
resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
for refused in (lambda: study.tell(trial, 1.0), lambda: study.ask(3), lambda: study.run(20)):
    try:
        refused()
    except StorageError as error:
        assert "the disk may be full" in str(error), error
    else:
        raise AssertionError("written to a full disk")
for reader in (study, bi.Study.open("s", f"sqlite:///{folder}/runs.db", problem)):
    assert len(reader.trials) == 6 and reader.trials[5].state.open, reader
    consistent(reader)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
study.tell(trial, 1.0)
study.run(10)
consistent(study)
assert study.spent.values == 10 and study.trials[5].loss == 1.0
"""


def test_a_full_disk_leaves_all_outcomes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_turn_that_cannot_be_written_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    here, there = (
        bi.Study.create("s", problem(), "random", storage=url, exist_ok=True) for _ in range(2)
    )
    here.ask()
    turn = SqlStore.turn

    @contextmanager
    def broken(store: SqlStore, name: str) -> Iterator[None]:
        with turn(store, name):
            yield
            raise StorageError("the disk is full")

    monkeypatch.setattr(SqlStore, "turn", broken)
    here.journal.read()
    there.tell(0, 1.0)  # so that what comes now needs a turn
    with pytest.raises(StorageError, match="full"):
        here.enqueue(point=[0.5, 0.5])
    monkeypatch.setattr(SqlStore, "turn", turn)
    assert [t.state for t in here.trials] == [State.COMPLETED]
    here.run(4)
    consistent(here)
    assert here.spent.values == 4


class Failing(MemoryStore):
    """Refuses outcomes while ``broken``."""

    broken = False

    def append(self, name: str, events: Any, after: int) -> int:
        if self.broken and any(
            event["kind"] in ("finished", "lost", "released") for event in events
        ):
            raise StorageError("no room")
        return super().append(name, events, after)


@pytest.mark.slow
def test_a_database_that_is_restarted_under_a_server_is_waited_for(tmp_path: Path) -> None:
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    answered: list[float] = []

    def oracle(x: Any) -> float:
        time.sleep(0.02)
        answered.append(float(x.sum()))
        return answered[-1]

    def restart() -> None:
        while len(answered) < 10:
            time.sleep(0.01)
        with postgres.stopped(url):
            time.sleep(1.0)

    with postgres.server() as url:
        served = Served(tmp_path, url)
        restarting = threading.Thread(target=restart)
        try:
            whole = bi.Problem(SPACE, oracle, bi.Minimize())
            study = bi.Study.create("s", whole, "random", storage=served.url, token=served.token)
            restarting.start()
            study.run(40, batch=3, executor="threads")
            assert sorted(t.loss for t in study.trials if t.loss is not None) == sorted(answered)
            assert str(study.spent) == "40 values"
        finally:
            restarting.join()
            served.kill()


def asking_processes(served: Served) -> list[int]:
    children = psutil.Process(served.process.pid).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in alive if "worker_main" in " ".join(child.cmdline())]


def seconds(pids: list[int]) -> float:
    """CPU time of processes so far."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def thinking(served: Served) -> tuple[list[httpx.Response], threading.Thread]:
    """Begin an ask that takes seconds, and return once a process computes it, with its answer."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        headers = {"Authorization": f"Bearer {served.token}"}
        with suppress(httpx.TransportError):
            url = f"{served.url}/v1/studies/heavy/ask"
            answers.append(httpx.post(url, json={"count": 16}, headers=headers, timeout=120.0))

    pids = asking_processes(served)
    before = seconds(pids)
    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: asking_processes(served) != pids or seconds(pids) > before + 0.1)
    assert not answers
    return answers, thread


@pytest.mark.slow
def test_an_ask_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path, f"sqlite:///{tmp_path}/runs.db")
    try:
        heavy = bi.Problem(bi.Box([0.0] * 20, [1.0] * 20), None, bi.Minimize())
        # Many samples of an acquisition function without a closed form take seconds.
        slow = {"name": "gp", "options": {"noisy": True, "samples": 8192}}
        study = bi.Study.create("heavy", heavy, slow, 0, served.url, token=served.token)
        points = np.random.default_rng(0).random((120, 20))
        study.add(points, [float((x**2).sum()) for x in points])
        study.ask()  # the process is warm
        before = study.journal.read().seq
        answers, thread = thinking(served)
        pids = asking_processes(served)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        thread.join()
        assert [answer.status_code for answer in answers] == [503], "the client must ask again"
        assert study.journal.read().seq == before
        answers, thread = thinking(served)
        served.kill()
        thread.join()
        served.start()
        assert not answers
        assert study.journal.read().seq == before
        assert [t.number for t in study.ask()] == [121]
        consistent(study)
    finally:
        served.kill()


@pytest.mark.parametrize("executor", [None, "threads"])
def test_an_answer_that_cannot_be_written_is_shown(executor: str | None) -> None:
    store, answered = Failing(), []

    def oracle(x: Any) -> float:
        store.broken = len(answered) >= 3
        answered.append(float(x.sum()))
        return answered[-1]

    study = bi.Study.create("s", bi.Problem(SPACE, oracle, bi.Minimize()), "random", storage=store)
    with pytest.raises(StorageError, match="no room") as caught:
        study.run(8, batch=1 if executor else 4, executor=executor)
    notes = "\n".join(caught.value.__notes__)
    untold = {
        int(number): float(value)
        for number, value in re.findall(r"tell\((\d+), \[(.+)\], attempt=0\)", notes)
    }
    assert set(answered) == {t.loss for t in study.trials if t.loss is not None} | set(
        untold.values()
    )
    assert untold
    store.broken = False
    assert study.history.pending, "their outcomes are unknown"
    for number, value in untold.items():
        study.tell(number, value, attempt=0)
    consistent(study)
    assert sorted(t.loss for t in study.trials if t.loss is not None) == sorted(answered)


def test_what_could_not_be_written_is_begun_again_by_the_next_run() -> None:
    store = Failing()
    store.broken = True
    study = bi.Study.create("s", problem(), "random", storage=store)
    with pytest.raises(StorageError, match="no room"):
        study.run(8, batch=2)
    store.broken = False
    assert [t.state for t in study.run(8, batch=2).trials] == [State.COMPLETED] * 8
    assert str(study.spent).startswith("9 values, 1 lost"), study.spent
    consistent(study)


def test_a_log_that_was_put_back_is_not_written_to() -> None:
    store = MemoryStore()
    study = bi.Study.create("s", problem(), "random", storage=store).run(3)
    yesterday = store.events("s")[:4]
    store.delete("s")
    store.create("s", study.journal.header, yesterday)
    with pytest.raises(
        StudyNotFoundError, match="lost events: an older copy of it was put back; open it again"
    ):
        study.run(5)
    assert store.events("s") == yesterday
    assert bi.Study.open("s", store, problem()).run(5).spent.values == 5
