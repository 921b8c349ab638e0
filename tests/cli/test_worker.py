"""Workers: several on one study, stopped and killed; every call is in the ledger."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import Served, wait_until

import bo_invert as bi
from bo_invert.problems.loading import load_problem
from bo_invert.types import State

pytestmark = pytest.mark.service
PROBLEM = """
import os, time
import bo_invert as bi

def oracle(x):
    with open(os.environ["CALLS"], "a") as file:
        file.write("%d\\n" % os.getpid())
    time.sleep(float(os.environ.get("PAUSE", "0.05")))
    with open(os.environ["CALLS"] + ".ended", "a") as file:
        file.write(".")
    return float(((x - 0.3) ** 2).sum())

problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize(), name="slow")
"""


@dataclass(frozen=True)
class Place:
    """A study of its own on a server, and a folder with its problem and the note of its calls."""

    folder: Path
    server: Served
    study: str

    def __post_init__(self) -> None:
        (self.folder / "slow.py").write_text(PROBLEM)


@pytest.fixture
def served(tmp_path: Path, server: Served) -> Place:
    return Place(tmp_path, server, tmp_path.name)


def worker(served: Place, *options: str, pause: float = 0.05) -> subprocess.Popen[str]:
    source = f"{served.folder}/slow.py"
    command = [
        sys.executable,
        "-m",
        "bo_invert.cli",
        "worker",
        served.server.url,
        served.study,
        source,
        "--create",
        *options,
    ]
    environment = {
        "CALLS": str(served.folder / "calls"),
        "PAUSE": str(pause),
        "BO_INVERT_TOKEN": served.server.token,
    }
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


def calls(served: Place) -> int:
    file = served.folder / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def opened(served: Place) -> bi.Study:
    problem = load_problem(f"{served.folder}/slow.py", {})
    return bi.Study.open(served.study, served.server.url, problem, token=served.server.token)


@pytest.mark.slow
def test_workers_share_a_study_and_end_with_its_budget(served: Place) -> None:
    options = ["--strategy", "sobol", "--budget", "24", "-j", "2"]
    workers = [worker(served, *options, "--executor", kind) for kind in ("processes", "threads")]
    output = [one.communicate(timeout=120)[1] for one in workers]
    assert [one.returncode for one in workers] == [0, 0], output
    study = opened(served)
    assert study.spent.values == calls(served) == 24
    assert all(trial.state is State.COMPLETED for trial in study.trials)
    assert len({a.worker for t in study.trials for a in t.attempts}) == 2, (
        "both had something to do"
    )
    assert all("budget spent" in text for text in output)


def test_a_stopped_worker_finishes_its_running_trials(served: Place) -> None:
    one = worker(served, "--strategy", "sobol", "-j", "1", "--executor", "threads", pause=1.0)
    wait_until(lambda: calls(served) >= 2)
    one.send_signal(signal.SIGTERM)
    _, output = one.communicate(timeout=60)
    assert one.returncode == 0, output
    assert "stopped" in output
    study = opened(served)
    assert study.spent.values == calls(served)
    assert study.spent.lost == 0
    assert all(trial.state is State.COMPLETED for trial in study.trials)


def test_what_a_worker_cannot_finish_in_time_is_billed_and_given_back(served: Place) -> None:
    one = worker(
        served,
        "--strategy",
        "sobol",
        "-j",
        "2",
        "--executor",
        "processes",
        "--grace",
        "0.3",
        pause=30.0,
    )
    wait_until(lambda: calls(served) == 2)
    began = time.monotonic()
    one.send_signal(signal.SIGTERM)
    _, output = one.communicate(timeout=60)
    assert time.monotonic() - began < 25.0
    assert "given back" in output
    study = opened(served)
    assert study.spent.values == study.spent.lost == calls(served) == 2
    assert all(trial.state is State.LOST for trial in study.trials)


def test_a_killed_worker_loses_its_lease_and_another_goes_on(served: Place) -> None:
    first = worker(served, "--strategy", "sobol", "-j", "1", "--executor", "threads", pause=30.0)
    wait_until(lambda: calls(served) == 1)
    first.kill()
    first.communicate()
    second = worker(
        served, "--budget", "4", "-j", "1", "--executor", "threads", "--strategy", "sobol"
    )
    _, output = second.communicate(timeout=120)
    assert second.returncode == 0, output
    study = opened(served)
    assert study.spent.lost == 1
    assert study.spent.values == calls(served) == 5, (
        "the lost call is billed, but does not use up the budget"
    )
    assert [len(t.attempts) for t in study.trials] == [2, 1, 1, 1]


def test_a_worker_whose_answers_do_not_fit_ends(served: Place) -> None:
    (served.folder / "slow.py").write_text(
        PROBLEM.replace("bi.Minimize(), ", "bi.Minimize('rate'), outputs=['rate'], ").replace(
            "return float(((x - 0.3) ** 2).sum())", "return {'rte': 1.0}"
        )
    )
    one = worker(served, "--strategy", "random", "--executor", "serial", "--budget", "50")
    _, output = one.communicate(timeout=90)
    assert one.returncode == 1
    assert "Rename 'rte' to 'rate'" in output
    assert "the outputs do not fit the problem; the worker ends" in output
    assert calls(served) < 10


def test_a_worker_stopped_while_the_server_is_down_reports_unsent_results(
    tmp_path: Path,
) -> None:
    own = Served(tmp_path, f"sqlite:///{tmp_path}/runs.db")
    served = Place(tmp_path, own, "s")
    one = worker(served, "--strategy", "random", "--executor", "serial", "--grace", "1", pause=2.0)
    wait_until(lambda: calls(served) >= 2)
    own.kill()
    # One more result, without a server to receive it.
    wait_until(lambda: (tmp_path / "calls.ended").stat().st_size == calls(served))
    began = time.monotonic()
    one.send_signal(signal.SIGTERM)
    _, output = one.communicate(timeout=60)
    assert time.monotonic() - began < 20.0
    (value, number) = re.findall(
        r"not recorded: record \[(.+)\] with `bo-invert tell STUDY (\d+)`", output
    )[0]
    own.start()
    study = opened(served)
    assert study.tell(int(number), float(value), attempt=0).loss == float(value)
    assert study.spent.values == calls(served)
    own.kill()


def test_a_worker_shows_progress_and_prints_the_best_trial(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(PROBLEM)
    command = [sys.executable, "-m", "bo_invert.cli", "worker", f"sqlite:///{tmp_path}/runs.db"]
    command += ["s", f"{tmp_path}/slow.py", "--create", "--strategy", "sobol"]
    command += ["--executor", "serial", "--budget"]
    environment = {**os.environ, "CALLS": str(tmp_path / "calls"), "PAUSE": "0"}
    ran = subprocess.run([*command, "4"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "study s: 100%" in ran.stderr
    assert "4/4" in ran.stderr
    study = bi.Study.open("s", f"sqlite:///{tmp_path}/runs.db")
    assert study.best is not None
    assert re.search(rf"best\.number +{study.best.number}\n", ran.stdout)
    assert "best.x0" in ran.stdout
    quiet = subprocess.run(
        [*command, "6", "--quiet"], env=environment, capture_output=True, text=True
    )
    assert quiet.stdout == ""
    assert "6/6" not in quiet.stderr


def test_a_server_prints_its_link_at_every_start(tmp_path: Path) -> None:
    served = Served(tmp_path, f"sqlite:///{tmp_path}/runs.db")

    def tokens() -> list[str]:
        return re.findall(r"page: http://127\.0\.0\.1:\d+/#token=(\S+)", "".join(served.lines))

    wait_until(lambda: len(tokens()) == 1)
    served.stop()
    served.start()
    wait_until(lambda: len(tokens()) == 2)
    served.stop()
    assert set(tokens()) == {served.token}
