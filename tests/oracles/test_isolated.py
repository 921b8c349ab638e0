"""Tests of oracles in separate processes: a crash costs one attempt and leaves no residue."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wild import wild

import bo_invert as bi
from bo_invert.oracles.base import MISMATCH, OracleResult

if sys.platform == "win32":
    pytest.skip("needs process groups", allow_module_level=True)
PROC = Path("/proc/self/stat").exists()


def one(oracle: bi.Oracle, design: Any) -> OracleResult:
    (answer,) = oracle.answers([design], ("y",))
    return answer


def reason(oracle: bi.Oracle, design: Any) -> str:
    answer = one(oracle, design)
    assert answer.error is not None, answer.y
    assert answer.calls == 1
    return answer.error.reason


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def ends(pid: int, patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return gone(pid)


@pytest.fixture(scope="module")
def oracle() -> bi.Isolated:
    return bi.Isolated(wild, timeout=10.0, memory="600MB", grace=0.2)


@pytest.mark.parametrize(
    ("design", "words"),
    [
        (
            "segfault",
            (
                r"its process was killed by SIGSEGV \(segmentation fault\): "
                r".*wild.py\", line \d+ in wild"
            ),
        ),
        ("exit", "its process ended with exit code 3$"),
        ("abort", "its process was killed by SIGABRT .*in wild"),
        (
            "killed",
            "its process was killed by SIGKILL, from outside or by the kernel for lack of memory$",
        ),
        ("loop", r"no answer within 0\.5 s; its process group was killed: .* in wild"),
        ("loop in C", r"no answer within 0\.5 s; its process group was killed: .* in wild"),
        ("nothing fits", "MemoryError: Unable to allocate 512. GiB"),
        ("infeasible", "^no mesh$"),
        ("interrupt", "KeyboardInterrupt"),
        ("quit", "SystemExit: 4"),
        ("raise", "ValueError: bad luck"),
        ("shape", f"^{MISMATCH}outputs must have shape"),
        ("names", f"^{MISMATCH}outputs .'y'. are missing"),
        ("nan", "not finite"),
        ("words", "its process ended with exit code 5: disk quota exceeded$"),
    ],
)
def test_failures_of_the_worker_become_errors(oracle: bi.Isolated, design: str, words: str) -> None:
    if design.startswith("loop"):  # it computes all the time
        oracle = bi.Isolated(wild, timeout=0.5, memory="600MB", grace=0.2)
    answer = one(oracle, design)
    assert answer.error is not None, answer.y
    assert answer.calls == 1
    words_of_it = answer.error.reason
    assert re.search(words, words_of_it), words_of_it
    assert len(words_of_it) < 600
    assert isinstance(answer.error, bi.InfeasibleError) is (design == "infeasible")
    assert one(oracle, "fine").y is not None, "the next call is answered"


@pytest.mark.skipif(not PROC, reason="the memory of a process is read from /proc")
def test_what_grows_beyond_its_memory_is_killed() -> None:
    greedy = bi.Isolated(wild, timeout=60.0, memory="300MB")
    message = reason(greedy, "grow")
    assert re.search("more memory than 286 MiB; its process group was killed|MemoryError", message)
    tight = bi.Isolated(wild, memory=2**20)
    assert re.match(
        f"{MISMATCH}it cannot be loaded .*: more memory than 1 MiB", reason(tight, "fine")
    )


@pytest.mark.skipif(not PROC, reason="the memory of a process is read from /proc")
def test_memory_that_grows_over_many_short_calls_is_limited() -> None:
    blocks: list[mmap.mmap] = []

    def leaks(x: Any) -> float:  # shared memory: the limit of the operating system excludes it
        blocks.append(mmap.mmap(-1, 2**22))
        blocks[-1].write(b"1" * 2**22)
        time.sleep(0.005)
        return 1.0

    leaky = bi.Isolated(leaks, memory="300MB", timeout=60.0)
    answers = (one(leaky, 0) for _ in range(200))
    errors = [answer.error for answer in answers if answer.error is not None]
    assert errors
    assert "more memory than 286 MiB" in errors[0].reason


def test_one_process_answers_many_calls_and_a_dead_one_is_replaced(oracle: bi.Isolated) -> None:
    first = one(oracle, "fine").y
    assert first is not None
    assert first == one(oracle, "fine").y
    assert first != os.getpid()
    os.kill(int(first[0]), signal.SIGKILL)  # while it is idle: no attempt is lost
    assert ends(int(first[0]))
    second = one(oracle, "fine").y
    assert second is not None
    assert second != first


def test_as_many_processes_as_callers(tmp_path: Path) -> None:
    def waits_for_others(x: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        deadline = time.monotonic() + 60.0
        while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        return float(os.getpid())

    oracle = bi.Isolated(waits_for_others)
    with ThreadPoolExecutor(3) as pool:
        answers = [answer.y for answer in pool.map(lambda _: one(oracle, 0), range(6))]
    assert len({float(y[0]) for y in answers if y is not None}) == 3
    assert None not in answers


def test_grandchildren_are_killed_too(tmp_path: Path) -> None:
    def starts(x: Any) -> float:
        child = subprocess.Popen(["sleep", "1000"])
        (tmp_path / str(x)).write_text(str(child.pid))
        if x == "exit":
            os._exit(1)
        child.wait()
        return 0.0

    oracle = bi.Isolated(starts, timeout=1.0, grace=0.0)
    for how in ("wait", "exit"):
        reason(oracle, how)
        assert ends(int((tmp_path / how).read_text()))


def test_before_the_kill_there_is_time_to_clean_up(tmp_path: Path) -> None:
    def tidy(x: Any) -> float:
        def end(*_: Any) -> None:
            (tmp_path / "scratch").unlink()
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        (tmp_path / "scratch").touch()
        time.sleep(1000.0)
        return 0.0

    assert "no answer within 0.5 s" in reason(bi.Isolated(tidy, timeout=0.5, grace=10.0), 0)
    assert not (tmp_path / "scratch").exists()


def test_a_batch_goes_as_one_and_its_killer_is_found() -> None:
    def batch(designs: Any) -> list[float]:
        if "exit" in list(designs):
            os._exit(1)
        return [float(len(designs))] * len(designs)

    oracle = bi.Isolated(bi.Function(batch, batched=True))
    assert [answer.y for answer in oracle.answers(["a", "b", "c"], ("y",))] == [3.0] * 3
    answers = oracle.answers(["a", "exit", "c"], ("y",))
    assert [None if a.y is None else a.y[0] for a in answers] == [1.0, None, 1.0]
    assert [a.calls for a in answers] == [2, 2, 2], "the batch is billed too"


@pytest.mark.slow
def test_it_stands_for_its_oracle() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 1).double()
    oracle = bi.Isolated(module, outputs=["z"])
    designs = [np.array([0.1, 0.2]), np.array([0.3, 0.4])]
    assert oracle.batched
    assert not oracle.differentiable
    assert np.allclose(oracle(designs), bi.TorchModule(module)(designs))
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), oracle, bi.Minimize("z"))
    assert bi.Study.create("s", problem, "random").run(4, batch=2).spent.values == 4
    assert oracle.to_json()["oracle"]["type"] == "torch"


def test_raised_by_a_bare_call() -> None:
    oracle = bi.Isolated(wild, grace=0.0)
    for design, error in (
        ("exit", bi.FailedError),
        ("infeasible", bi.InfeasibleError),
        ("raise", bi.FailedError),
    ):
        with pytest.raises(error):
            oracle([design])


def test_what_cannot_travel_is_refused_at_once() -> None:
    lock = threading.Lock()
    with pytest.raises(bi.InvalidInputError, match="cannot be sent to another process"):
        bi.Isolated(lambda x: lock.locked())
    assert "pickle" in reason(bi.Isolated(wild), lock), "a design that cannot costs its own attempt"


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": "1"},
        {"memory": "much"},
        {"memory": 0},
        {"grace": -1.0},
        {"startup": 0},
    ],
)
def test_limits_must_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match=next(iter(wrong))):
        bi.Isolated(wild, **wrong)


class Unloadable:
    def __call__(self, x: Any) -> float:
        return 0.0

    def __reduce__(self) -> Any:
        return (_only_in, (os.getpid(),))


def _only_in(pid: int) -> Unloadable:
    if os.getpid() != pid:
        raise ImportError("no license on this process")
    return Unloadable()


def test_what_cannot_be_loaded_there_ends_a_run() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), bi.Isolated(Unloadable()), bi.Minimize())
    study = bi.Study.create("s", problem, "random")
    with pytest.warns(UserWarning, match="no license on this process"):
        study.run(50)
    assert study.spent.failed == 3


SCRIPT = """
print("once")
import os, re, signal, sys, threading, time
import numpy as np
import bo_invert as bi

class Design:
    pass

scale = 2.0

def oracle(x):
    if mode != "run":
        open(os.environ["CALLED"], "a").write(str(os.getpid()) + "\\n")
        re.match(r"(a+)+$", "a" * 60 + "b") if mode == "C" else time.sleep(1000)
    return scale * float(x[0])

mode = sys.argv[1]
problem = bi.Problem(bi.Box([0.0], [1.0]), bi.Isolated(oracle), bi.Minimize())
study = bi.Study.create("s", problem, "random")
if mode == "interrupt":
    threading.Timer(1.5, os.kill, [os.getpid(), signal.SIGINT]).start()
study.run(4, batch=2, executor=sys.argv[2] if sys.argv[2:] else None)
print(study.spent)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def called(path: Path) -> list[int]:
    deadline = time.monotonic() + 30.0
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


def test_a_script_without_a_main_guard_runs_once(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, script, "run"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["once", "4 values"]
    assert done.stderr == ""


@pytest.mark.skipif(not PROC, reason="needs /proc")
@pytest.mark.parametrize("mode", ["sleep", "C"])
def test_children_end_with_a_parent_that_is_killed(script: Path, tmp_path: Path, mode: str) -> None:
    env = {**os.environ, "CALLED": str(tmp_path / "called")}
    with subprocess.Popen(
        [sys.executable, script, mode], env=env, stdout=subprocess.DEVNULL
    ) as parent:
        (child,) = called(tmp_path / "called")
        assert not gone(child)
        parent.kill()
    assert ends(child)


@pytest.mark.skipif(not PROC, reason="needs /proc")
@pytest.mark.parametrize("executor", [None, "threads"])
def test_an_interrupt_ends_children_and_hangs_nowhere(
    script: Path, tmp_path: Path, executor: str | None
) -> None:
    env = {**os.environ, "CALLED": str(tmp_path / "called")}
    line = [sys.executable, str(script), "interrupt", *([executor] if executor else [])]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=30)
    assert "KeyboardInterrupt" in done.stderr
    assert all(ends(pid) for pid in called(tmp_path / "called"))


@pytest.mark.skipif(not PROC, reason="needs /proc")
def test_an_interrupted_notebook_keeps_no_children(tmp_path: Path) -> None:
    def sleeps(x: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(1000)
        return 0.0

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    oracle = bi.Isolated(sleeps)
    study = bi.Study.create("s", bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize()), "random")
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        study.run(8, batch=2, executor="threads")
    assert all(ends(int(path.name)) for path in tmp_path.iterdir())
    assert str(study.spent) == "2 values, 2 lost"


@pytest.mark.slow
@pytest.mark.skipif(not PROC, reason="needs /proc")
def test_children_are_closed_with_their_oracle() -> None:
    pids = []
    for end in ("close", "forget"):
        oracle = bi.Isolated(wild)
        answer = one(oracle, "fine").y
        assert answer is not None
        pids.append(int(answer[0]))
        if end == "close":
            oracle.close()
            assert ends(pids[-1])
            assert one(oracle, "fine").y is not None, "it can be asked again"
            continue
        del oracle
        gc.collect()
        assert ends(pids[-1])


def _asked_elsewhere(oracle: bi.Isolated, answer: Any) -> None:
    found = one(oracle, "fine").y
    answer.put(None if found is None else float(found[0]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_travels(method: str) -> None:
    oracle = bi.Isolated(wild)
    here = one(oracle, "fine").y
    context = multiprocessing.get_context(method)
    answer = context.Queue()
    other = context.Process(target=_asked_elsewhere, args=(oracle, answer))
    other.start()
    there = answer.get(timeout=60)
    other.join()
    assert there is not None
    assert here is not None
    assert there != here, "it has a process of its own there"
    assert one(oracle, "fine").y == here


def test_prints_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(x: Any) -> float:
        print("working on", x)
        return 0.0

    one(bi.Isolated(chatty), 7)
    assert capsys.readouterr().out == "working on 7\n"
