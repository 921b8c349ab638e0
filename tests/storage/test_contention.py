"""Many processes on one study: unique numbers, no lost outcome, no visible lock errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.storage.open import open_store
from bo_invert.types import State

PROCESSES, EACH = 3, 25

WORKER = """
import sys
import bo_invert as bi
import bo_invert.storage.sql, bo_invert.strategies.sampling

url, each = sys.argv[1], int(sys.argv[2])
problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize())
print("ready", flush=True)
input()
study = bi.Study.create("shared", problem, "random", storage=url, exist_ok=True)
for _ in range(each):
    (trial,) = study.ask()
    study.tell(trial, float(trial.number))
    print(trial.number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_begin_at_the_same_instant_share_a_study(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = (
        f"sqlite:///{tmp_path}/runs.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    if kind == "postgresql":
        store = open_store(url)
        for name in store.names():
            store.delete(name)
    command = [sys.executable, "-c", WORKER, url, str(EACH)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    workers = [subprocess.Popen(command, text=True, **pipes) for _ in range(PROCESSES)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.communicate()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    printed = [worker.communicate(timeout=240) for worker in workers]
    assert [errors for _, errors in printed if errors] == []
    numbers = sorted(int(line) for out, _ in printed for line in out.splitlines())
    assert numbers == list(range(PROCESSES * EACH))
    study = bi.Study.open("shared", url)
    assert all(
        trial.state is State.COMPLETED and trial.loss == trial.number for trial in study.trials
    )
    assert study.spent.values == study.spent.attempts == PROCESSES * EACH
    points = {trial.point.tobytes() for trial in study.trials}
    assert len(points) == PROCESSES * EACH, "a second ask of the same number was repeated"
