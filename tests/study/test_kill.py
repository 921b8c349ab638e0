"""A study that is killed again and again: no recorded outcome is lost, every call is billed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forked import command_line, ends, start

import bo_invert as bi
from bo_invert.problems.examples.synthetic_functions import hartmann6
from bo_invert.storage.open import open_store
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.worker_id import is_gone
from bo_invert.types import Attempt, State, Trial

if sys.platform == "win32":
    pytest.skip("needs kill -9", allow_module_level=True)

BUDGET = 28
CALLS = [2, 2, 0, 3, 2, 0, 2, 1, 2, 3]
"""Number of calls that each process may start before it is killed.

With two or more, every process completes a trial, so no trial reaches the limit of losses.
"""


def search(folder: Path, strategy: str) -> None:
    """Start or resume the study."""

    def oracle(x: np.ndarray) -> float:
        with (folder / "calls").open("a") as calls:
            calls.write("call\n")
            calls.flush()
            os.fsync(calls.fileno())
        time.sleep(0.03)
        return float(hartmann6(x)[0])

    problem = bi.Problem(bi.Box([0.0] * 6, [1.0] * 6), oracle, bi.Minimize(), name="hartmann6")
    study = bi.Study.create(
        "killed", problem, strategy, seed=7, storage=f"sqlite:///{folder}/runs.db", exist_ok=True
    )
    study.run(BUDGET)


def calls(folder: Path) -> int:
    path = folder / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def trials(folder: Path) -> tuple[Trial, ...]:
    store = open_store(f"sqlite:///{folder}/runs.db")
    return Journal(store, "killed").trials if "killed" in store.names() else ()


def attempts(log: tuple[Trial, ...]) -> list[Attempt]:
    return [attempt for trial in log for attempt in trial.attempts]


def outcomes(log: tuple[Trial, ...]) -> dict[int, tuple[bytes, float]]:
    return {
        t.number: (t.point.tobytes(), float(t.y[0]))
        for t in log
        if t.state is State.COMPLETED and t.y is not None
    }


def kill_after(folder: Path, strategy: str, begun: int, delay: float) -> None:
    before = calls(folder)
    process = start(search, folder, strategy)
    deadline = time.monotonic() + 120.0
    while calls(folder) < before + begun:
        assert process.is_alive(), "the search ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    strike = time.monotonic() + delay
    while time.monotonic() < strike and calls(folder) <= before + begun:
        time.sleep(
            0.002
        )  # one more call at most: however fast the machine, ten kills do not outlive the budget
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "gp"])
def test_killed_ten_times(tmp_path: Path, strategy: str) -> None:
    killed, quiet = tmp_path / "killed", tmp_path / "quiet"
    killed.mkdir()
    quiet.mkdir()
    chance = random.Random(f"{strategy} 1")
    known: dict[int, tuple[bytes, float]] = {}
    for begun in CALLS:
        entered, before = calls(killed), len(known)
        # A short delay hits the call itself, a long one the next ask.
        kill_after(killed, strategy, begun, delay=chance.uniform(0.0, chance.choice([0.04, 0.4])))
        recorded = outcomes(trials(killed))
        # Recorded outcomes stay. A process calls the oracle again only after the last outcome is in
        # the log, so all of its calls but the last must be there.
        assert known.items() <= recorded.items()
        assert len(recorded) - before >= calls(killed) - entered - 1
        known = recorded
    last = start(search, killed, strategy)
    last.join(240)
    assert last.exitcode == 0

    ended = trials(killed)
    assert known.items() <= outcomes(ended).items()
    assert [trial.state for trial in ended] == [State.COMPLETED] * BUDGET

    # Every call is billed. An attempt is billed from its start, so a kill between the start of an
    # attempt and its call leaves one more bill than calls. No kill leaves more than one.
    store = open_store(f"sqlite:///{killed}/runs.db")
    spent = Journal(store, "killed").ledger
    assert spent.running == 0
    assert spent.attempts == spent.values == len(attempts(ended)) == BUDGET + spent.lost
    assert 0 <= spent.attempts - calls(killed) <= len(CALLS)
    assert 1 <= spent.lost <= len(CALLS)

    baseline = start(search, quiet, strategy)
    baseline.join(240)
    assert baseline.exitcode == 0
    assert calls(quiet) == BUDGET
    undisturbed = trials(quiet)
    assert [t.query.point.tobytes() for t in ended] == [
        t.query.point.tobytes() for t in undisturbed
    ]
    assert [t.query.to_json() for t in ended] == [t.query.to_json() for t in undisturbed]
    assert outcomes(ended) == outcomes(undisturbed)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_without_a_waiting_parent_has_ended() -> None:
    code = (
        "from bo_invert.storage.worker_id import this_worker; "
        "print(this_worker(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().decode().strip()
        assert not is_gone(worker)
        process.kill()
        os.waitid(
            os.P_PID, process.pid, os.WEXITED | os.WNOWAIT
        )  # it has ended, and its number is still taken
        assert is_gone(worker)


PROBLEM = """
import time
import bo_invert as bi

def oracle(x):
    with open({log!r}, "a") as log:
        log.write("call\\n")
    time.sleep(0.04)
    return float(((x - 0.3) ** 2).sum())

problem = bi.Problem(bi.Box([0.0] * 4, [1.0] * 4), oracle, bi.Minimize(), name="bowl")
"""


@pytest.mark.slow
def test_the_command_line_resumes_after_kills_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "bowl.py").write_text(PROBLEM.format(log=str(tmp_path / "calls")))

    def line(storage: str) -> list[str]:
        options = ["--strategy", "sobol", "--budget", "24", "--storage", storage]
        return ["run", "bowl.py", *options, "--name", "bowl", "--quiet"]

    # Before the first call, between an ask and an answer, later.
    for begun in (0, 2, 5):
        before = calls(tmp_path)
        process = start(command_line, str(tmp_path), line("killed.db"))
        while calls(tmp_path) < before + begun:
            assert process.is_alive(), "the process ended before it was killed"
            time.sleep(0.005)
        process.kill()
        assert ends([process]) == [-signal.SIGKILL]
    for storage in ("killed.db", "quiet.db"):
        assert ends([start(command_line, str(tmp_path), line(storage))]) == [0]
    ended, undisturbed = (
        Journal(open_store(tmp_path / storage), "bowl").trials
        for storage in ("killed.db", "quiet.db")
    )
    assert [t.query.to_json() for t in ended] == [t.query.to_json() for t in undisturbed]
    assert outcomes(ended) == outcomes(undisturbed)
    assert 0 <= len(attempts(ended)) - (calls(tmp_path) - 24) <= 3
