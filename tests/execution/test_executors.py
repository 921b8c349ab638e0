"""Every executor of the registry: the same study wherever its calls run, whatever happens there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import command_line, ends, start
from servers import wait_until
from wild import bowl, counted, entered

import bo_invert as bi
from bo_invert import registry
from bo_invert.execution.dask import DaskExecutor
from bo_invert.execution.process_group import ProcessGroup
from bo_invert.oracles.base import MISMATCH
from bo_invert.study.executor_choice import suitable
from bo_invert.study.pacing import Pacing
from bo_invert.types import State

for needed in ("loky", "distributed", "submitit"):
    pytest.importorskip(needed)
if sys.platform == "win32":
    pytest.skip("needs kill -9", allow_module_level=True)
NAMES = registry.names("executors")
APART = [name for name in NAMES if name not in ("serial", "threads")]
"""Executors whose calls run outside the process of the study."""


@pytest.fixture(scope="module", params=NAMES)
def executor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Yield an executor with two workers for all tests of the module."""
    options = {"slurm": {"folder": tmp_path_factory.mktemp("jobs"), "cluster": "local"}}.get(
        request.param, {}
    )
    made = registry.resolve("executors", request.param)(2, **options)
    made.name = request.param
    yield made
    made.shutdown(wait=True)


def problem(oracle: Any) -> bi.Problem:
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize())


def few(executor: Any, count: int) -> int:
    """Return a number of calls, smaller if each call starts an interpreter."""
    return min(count, 3) if executor.name == "slurm" else count


def begin(oracle: Any, strategy: str = "sobol") -> bi.Study:
    return bi.Study.create("s", problem(oracle), strategy)


@pytest.mark.slow
def test_the_same_trials_as_without_one(executor: Any) -> None:
    count = few(executor, 5)
    here, there = begin(bowl).run(count), begin(bowl).run(count, executor=executor)
    assert [t.query.to_json() for t in there.trials] == [t.query.to_json() for t in here.trials]
    assert [t.loss for t in there.trials] == [t.loss for t in here.trials]
    assert (there.spent.values, there.spent.attempts) == (count, count)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:study ")
def test_what_an_oracle_raises_is_a_verdict(executor: Any) -> None:
    def moody(x: Any) -> float:
        if x[0] > 0.7:
            raise bi.InfeasibleError("no mesh")
        if x[0] > 0.4:
            raise ValueError("bad luck")
        return float("nan") if x[0] > 0.3 else bowl(x)

    count = few(executor, 6)
    here, there = (
        begin(moody).run(count, batch=2),
        begin(moody).run(count, batch=2, executor=executor),
    )
    assert [t.state for t in there.trials] == [t.state for t in here.trials]
    assert {t.state for t in there.trials} >= {State.FAILED, State.INFEASIBLE}
    assert [t.outcome.reason for t in there.trials if t.outcome] == [
        t.outcome.reason for t in here.trials if t.outcome
    ]


@pytest.mark.slow
def test_a_death_costs_one_attempt(executor: Any, tmp_path: Path) -> None:
    if executor.name not in APART:
        pytest.skip("shares the process of the study")

    def deadly(x: Any) -> float:
        counted(tmp_path / "calls")
        if x[0] > 0.7:
            os._exit(3)
        if x[0] < 0.2:
            os.kill(os.getpid(), signal.SIGSEGV)
        return bowl(x)

    study = begin(deadly).run(few(executor, 8), batch=2, executor=executor)
    states = [t.state for t in study.trials]
    assert states == [
        State.FAILED if not 0.2 <= t.point[0] <= 0.7 else State.COMPLETED for t in study.trials
    ]
    assert len(set(states)) == 2, "some die and some do not"
    assert (
        study.spent.values
        == study.spent.attempts
        == entered(tmp_path / "calls")
        == few(executor, 8)
    )
    reasons = {t.outcome.reason for t in study.trials if t.outcome and t.outcome.reason}
    assert all(reason.startswith(("its process", "its worker", "its job")) for reason in reasons), (
        reasons
    )
    if executor.name == "processes":
        assert "its process ended with exit code 3" in reasons
        (crash,) = (reason for reason in reasons if "SIGSEGV" in reason)
        assert crash.startswith("its process was killed by SIGSEGV (segmentation fault): File ")
        assert crash.endswith("in deadly")


@pytest.mark.slow
def test_a_hang_costs_its_time(executor: Any, tmp_path: Path) -> None:
    def stuck(x: Any) -> float:
        counted(tmp_path / "calls")
        while x[0] > 0.7 and not (tmp_path / "over").exists():
            time.sleep(0.01)
        return bowl(x)

    study = begin(stuck)
    if executor.name == "serial":
        with pytest.raises(
            bi.InvalidInputError, match=r"cannot keep timeout=1, .* Use executor='processes'"
        ):
            study.run(4, executor=executor, timeout=1.0)
        return
    timeout = 3 if executor.name == "slurm" else 1
    study.run(few(executor, 6), batch=2, executor=executor, timeout=timeout)
    (tmp_path / "over").touch()
    assert [t.state for t in study.trials] == [
        State.FAILED if t.point[0] > 0.7 else State.COMPLETED for t in study.trials
    ]
    assert (
        study.spent.values
        == study.spent.attempts
        == entered(tmp_path / "calls")
        == few(executor, 6)
    )
    (reason,) = {t.outcome.reason for t in study.trials if t.outcome and t.outcome.reason}
    assert reason == f"no answer within {timeout} s; {executor.parting}"
    assert begin(bowl).run(2, batch=2, executor=executor).spent.failed == 0, "it goes on"


def test_it_is_an_executor(executor: Any) -> None:
    assert executor.submit(divmod, 7, 4).result(timeout=60) == (1, 3)
    error = executor.submit(divmod, 7, 0).exception(timeout=60)
    assert "division by zero" in str(error) or "modulo by zero" in str(error)


SCRIPT = """
print("once")
import os, signal, sys, threading, time
import bo_invert as bi

def oracle(x):
    open(sys.argv[2] if len(sys.argv) > 2 else CALLED, "a").write(f"{os.getpid()}\\n")
    time.sleep(1000)
    return 0.0

name, CALLED = sys.argv[1], sys.argv[2]

def interrupt():
    while not os.path.exists(CALLED) or len(open(CALLED).read().split()) < 2:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

study = bi.Study.create("s", bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize()), "random")
threading.Thread(target=interrupt, daemon=True).start()
if name == "slurm":
    from bo_invert.execution.slurm import SlurmExecutor
    jobs = SlurmExecutor(2, folder=os.path.dirname(CALLED) + "/jobs", cluster="local")
    try:
        study.run(8, batch=2, executor=jobs)
    finally:
        print(study.spent)
        jobs.shutdown(kill_workers=True)
else:
    try:
        study.run(8, batch=2, executor=name)
    finally:
        print(study.spent)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "serial"])
def test_an_interrupt_leaves_nothing_running(tmp_path: Path, name: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    line = [sys.executable, str(tmp_path / "script.py"), name, str(tmp_path / "called")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=90)
    assert "KeyboardInterrupt" in done.stderr, done.stderr
    assert done.stdout.splitlines() == ["once", "2 values, 2 lost"]
    deadline = time.monotonic() + 10.0
    pids = {int(pid) for pid in (tmp_path / "called").read_text().split()}
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_cluster_begun_here_listens_here_alone(executor: Any) -> None:
    if executor.name != "dask":
        pytest.skip("no cluster")
    psutil = pytest.importorskip("psutil")
    here = psutil.Process()
    found = [
        one
        for process in [here, *here.children(recursive=True)]
        for one in process.net_connections("inet")
    ]
    listening = [one.laddr.ip for one in found if one.status == "LISTEN"]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def gone(pid: int) -> bool:
    psutil = pytest.importorskip("psutil")
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_worker_that_was_killed_while_idle_costs_nothing() -> None:
    made = registry.resolve("executors", "processes")(1)
    try:
        (first,) = {made.submit(os.getpid).result() for _ in range(3)}
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: gone(first))
        assert made.submit(os.getpid).result() != first
    finally:
        made.shutdown(kill_workers=True)


def test_a_problem_travels_once_to_each_process(tmp_path: Path) -> None:
    class Heavy:
        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state)
            counted(self.path)

        def __call__(self, x: Any) -> float:
            return bowl(x)

    oracle = Heavy()
    oracle.path = tmp_path / "loads"  # type: ignore[attr-defined]
    begin(oracle).run(8, batch=2, executor="processes")
    assert entered(tmp_path / "loads") == 2


@pytest.mark.slow
def test_workers_have_one_numerical_thread() -> None:
    def threads() -> int:
        import torch

        return torch.get_num_threads()

    made = registry.resolve("executors", "processes")(1)
    try:
        assert made.submit(threads).result() == 1
    finally:
        made.shutdown()


def test_what_cannot_travel_ends_the_run() -> None:
    lock = threading.Lock()
    study = begin(lambda x: float(lock.locked()))
    with pytest.warns(UserWarning, match="cannot be sent to another process"):
        study.run(50, executor="processes")
    assert study.spent.failed == 3
    assert study.trials[0].outcome is not None
    assert study.trials[0].outcome.reason.startswith(MISMATCH)


@pytest.mark.parametrize(
    ("oracle", "batch", "timeout", "name"),
    [
        (bowl, 1, None, None),
        (bowl, 2, None, "processes"),
        (bowl, 1, 1.0, "processes"),
        (bi.Function(lambda x: 0.0, batched=True), 4, None, None),
        (bi.Function(lambda x: 0.0, batched=True), 4, 1.0, "processes"),
        (bi.Isolated(bowl), 4, None, "threads"),
        (bi.Isolated(bowl), 1, 1.0, "threads"),
        (threading.Lock().acquire, 2, None, "threads"),
    ],
)
def test_what_suits_an_oracle(
    oracle: Any, batch: int, timeout: float | None, name: str | None
) -> None:
    assert suitable(problem(oracle), batch, timeout) == name


def test_auto_runs() -> None:
    study = begin(lambda x: float(os.getpid())).run(4, batch=2, executor="auto")
    assert os.getpid() not in {t.loss for t in study.trials}
    assert begin(lambda x: float(os.getpid())).run(1, executor="auto").trials[0].loss == os.getpid()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "atuo"}, r"one of auto, dask.*got 'atuo'; did you mean 'auto'\?$"),
        ({"executor": object()}, "submit"),
        ({"executor": "threads", "timeout": 0}, "timeout must be"),
        ({"executor": "threads", "timeout": float("nan")}, "timeout must be"),
        ({"timeout": 1.0}, "executor=None cannot keep timeout=1"),
        ({"executor": "serial", "timeout": 1.0}, "executor='serial' cannot keep"),
        (
            {"executor": ThreadPoolExecutor(1), "timeout": 1.0},
            "executor='ThreadPoolExecutor' cannot keep",
        ),
        ({"executor": "slurm"}, "no Slurm on this machine"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    if options["executor" if "executor" in options else "timeout"] == "slurm" and os.path.exists(
        "/usr/bin/srun"
    ):
        pytest.skip("there is Slurm here")
    study = begin(bowl)
    with pytest.raises(bi.InvalidInputError, match=words):
        study.run(3, **options)
    assert not study.trials


def _exit(x: Any) -> float:
    os._exit(1)


def test_a_pool_of_the_users_that_breaks_says_what_to_do() -> None:
    study = begin(_exit)
    with ProcessPoolExecutor(2) as pool, pytest.raises(BrokenExecutor) as caught:
        study.run(8, batch=2, executor=pool)
    assert "executor='processes', which replaces workers that die" in "\n".join(
        caught.value.__notes__
    )
    assert study.spent.failed > 0


class Cancelling(Executor):
    """Executor that cancels every second call."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.count += 1
        if self.count % 2:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_cancelled_call_fails() -> None:
    study = begin(bowl).run(4, executor=Cancelling())
    assert [t.state for t in study.trials] == [State.FAILED, State.COMPLETED] * 2


def test_a_dask_client_is_an_executor() -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        for given in (client, client.get_executor(retries=3)):
            assert begin(bowl).run(4, batch=2, executor=given).spent.values == 4
        made = DaskExecutor.of(
            client, 4
        )  # more calls than there are threads: they wait for each other
        done = [made.submit(bowl, np.zeros(2)) for _ in range(8)]
        assert not wait(done, timeout=60).not_done
        made.shutdown()
        assert client.nthreads(), "the cluster stays"


def test_a_job_that_was_begun_before_refuses(tmp_path: Path) -> None:
    from bo_invert.execution.slurm import _Once

    once = _Once(bowl, tmp_path / "begun")
    assert once(np.full(2, 0.3)) == 0.0
    with pytest.raises(BrokenExecutor, match="started again, which it refused"):
        once(np.zeros(2))
    assert once.checkpoint(np.zeros(2)) is None, "submitit does not put it back"


def test_an_abandoned_thread_does_not_block_the_exit(tmp_path: Path) -> None:
    code = (
        "import time, bo_invert as bi\n"
        "p = bi.Problem(bi.Box([0.0], [1.0]), lambda x: time.sleep(1000), bi.Minimize())\n"
        "study = bi.Study.create('s', p, 'random')\n"
        "print(study.run(3, batch=2, executor='threads', timeout=0.3).spent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "3 values, 3 failed"


def test_asking_ahead_follows_the_pace() -> None:
    pace = Pacing(8)
    assert pace.ahead == 0, "nothing is known yet"
    pace._ask, pace._answer = 0.001, 1.0
    assert pace.ahead == 0, "asking costs nothing"
    pace._ask = 0.2
    assert pace.ahead == 3, "1.6 are answered meanwhile, and at times more"
    pace._ask = 100.0
    assert pace.ahead == 8, "no more than there are workers"
    alone = Pacing(1)
    alone._ask, alone._answer = 1.0, 1.0
    assert alone.ahead == 0, "one after another, each in the light of all"


def test_what_waits_in_a_queue_is_given_back_when_a_run_stops() -> None:
    stop = threading.Event()

    def oracle(x: Any) -> float:
        stop.set()
        time.sleep(0.3)
        return bowl(x)

    study = begin(oracle)
    with ThreadPoolExecutor(1) as pool:
        study.run(100, batch=4, executor=pool, stop=stop.is_set)
    states = [t.state for t in study.trials]
    done = states.count(State.COMPLETED)
    assert done in (1, 2), "the second, if the pool was faster than the run"
    assert states == [State.COMPLETED] * done + [State.QUEUED] * (4 - done)
    assert str(study.spent) == ("1 value" if done == 1 else "2 values")
    stop.clear()
    assert {t.state for t in study.run(4, batch=2, executor="threads").trials} == {State.COMPLETED}


@pytest.mark.slow
@pytest.mark.parametrize("ask", [0.0, 0.2])
def test_no_worker_waits_for_a_slow_strategy(ask: float) -> None:
    class Thinking(bi.Strategy):
        name = "thinking"

        def ask(self, statement: Any, trials: Any, request: Any) -> bi.Proposal:
            time.sleep(ask)
            points = statement.domain.sample(request.rng(), request.count)
            return bi.Proposal(tuple(bi.Query(point, origin=self.name) for point in points))

    calls: list[tuple[float, float]] = []

    def oracle(x: Any) -> float:
        began = time.perf_counter()
        time.sleep(4.0 if len(calls) == 5 else 0.4)
        calls.append((began, time.perf_counter()))
        return bowl(x)

    workers = 4
    bi.Study.create("s", problem(oracle), Thinking()).run(40, batch=workers, executor="threads")
    first, last = min(began for began, _ in calls), max(began for began, _ in calls)
    busy = sum(min(ended, last) - began for began, ended in calls)
    assert busy / (workers * (last - first)) > 0.75, "until the last call began"


STUCK = """
import time
import bo_invert as bi

def oracle(x):
    time.sleep(1000 if x[0] > 0.7 else 0)
    return float(x[0])

problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize(), name="stuck")
"""


@pytest.mark.slow
@pytest.mark.parametrize("face", ["run", "worker"])
def test_the_command_line_keeps_time_limits(tmp_path: Path, face: str) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    storage = f"sqlite:///{tmp_path}/runs.db"
    common = ["--strategy", "sobol", "--budget", "6", "--executor", "threads", "--timeout", "0.5"]
    line = {
        "run": ["run", "stuck.py", "--storage", storage, "--name", "s", "--batch", "2", "--quiet"],
        "worker": ["worker", storage, "s", "stuck.py", "--create", "-j", "2"],
    }[face]
    assert ends([start(command_line, str(tmp_path), [*line, *common])], 60.0) == [0]
    trials = bi.Study.open("s", storage).trials
    assert [t.state for t in trials] == [
        State.FAILED if t.point[0] > 0.7 else State.COMPLETED for t in trials
    ]
    assert {t.outcome.reason.split(";")[0] for t in trials if t.outcome} == {
        "",
        "no answer within 0.5 s",
    }


def closing(point: dict[str, float]) -> float:
    sys.stdout.close()
    return point["x"]


def replacing(point: dict[str, float]) -> float:
    sys.stdout = None  # type: ignore[assignment]
    return point["x"]


@pytest.mark.parametrize("oracle", [closing, replacing])
def test_an_oracle_may_close_its_standard_output(oracle: Any) -> None:
    problem = bi.Problem(bi.Box({"x": (0, 1)}), oracle, bi.Minimize())
    study = bi.Study.create("closed", problem, strategy="random", seed=0)
    study.run(budget=3, executor="processes")
    assert [trial.state for trial in study.trials] == [State.COMPLETED] * 3


class Full:
    """Stream without space."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def printing(point: dict[str, float]) -> float:
    print("x", flush=True)
    return point["x"]


def test_output_without_space_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = bi.Problem(bi.Box({"x": (0, 1)}), printing, bi.Minimize())
    study = bi.Study.create("full", problem, strategy="random", seed=0)
    monkeypatch.setattr(sys, "stdout", Full())
    study.run(budget=3, executor="processes", progress=False)
    assert [trial.state for trial in study.trials] == [State.COMPLETED] * 3


def test_a_killed_process_has_no_output_left() -> None:
    process = ProcessGroup([sys.executable, "-c", "print(1)"], dict(os.environ))
    process.run(timeout=30.0)
    assert process.output.text("stdout") == "1\n"
    assert process.wait() == ""
