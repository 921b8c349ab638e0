"""Crash test: kill -9 of drivers, workers and server; no tell is lost, each call billed once.

python experiments/kills.py --kills 250 --storage sqlite --mode driver
python experiments/kills.py --kills 250 --storage postgres --mode served

In mode "driver" three processes run one study on a database. In mode "served" three
``bo-invert worker`` processes with two worker processes each use a server, which is killed too.
The oracle first writes its point to a file and waits for the disk. The caller of each completed
tell does the same in a second file. In the end the script compares the log with both files.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import postgres
from servers import Served

import bo_invert as bi
from bo_invert.storage.log_replay import LATE
from bo_invert.testing import consistent
from bo_invert.types import State, Trial

PROBLEM = """
import os, random, time
import bo_invert as bi

FOLDER = {folder!r}

def note(file, line):
    handle = os.open(os.path.join(FOLDER, file), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (line + "\\n").encode())
    os.fsync(handle)
    os.close(handle)

def oracle(x):
    note("calls", repr(float(x[0])))
    time.sleep(random.uniform(0.0, 0.04))
    return float(x.sum())

problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), oracle, bi.Minimize(), name="kills")
"""
#: Driver process: runs a study and notes each tell that returned.
DRIVER = """
import sys
sys.path.insert(0, {folder!r})
from problem import note, problem
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.service.client import RemoteJournal

def noted(kind):
    finish = kind.finish
    def finishing(journal, number, outcome, attempt=None):
        trial = finish(journal, number, outcome, attempt)
        note("tells", f"{{trial.number}} {{float(outcome.y[0])!r}}")
        return trial
    kind.finish = finishing

noted(Journal)
noted(RemoteJournal)
if sys.argv[1] == "driver":
    from bo_invert.study.study import Study
    Study.create("kills", problem, "random", 0, sys.argv[2], exist_ok=True).run(10**9)
else:
    from bo_invert.cli.main import main
    sys.argv[1:] = ["worker", sys.argv[2], "kills", {folder!r} + "/problem.py:problem", "-j", "2",
                    "--create", "--strategy", "random", "--token", sys.argv[3]]
    main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--mode", choices=("driver", "served"), default="driver")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "problem.py").write_text(PROBLEM.format(folder=str(folder)))
        (folder / "driver.py").write_text(DRIVER.format(folder=str(folder)))
        url = f"sqlite:///{folder}/runs.db"
        if options.storage == "postgres":
            url = stack.enter_context(postgres.server())
        served = Served(folder, url) if options.mode == "served" else None
        where = [url] if served is None else [served.url, served.token]

        def driver() -> subprocess.Popen[bytes]:
            command = [sys.executable, str(folder / "driver.py"), options.mode, *where]
            return subprocess.Popen(command, stderr=(folder / "stderr").open("a"))

        drivers = [driver() for _ in range(3)]
        killed: collections.Counter[str] = collections.Counter()
        died: list[int] = []
        try:
            for _ in range(options.kills):
                time.sleep(rng.uniform(0.3, 2.5))
                which = rng.randrange(4 if served is not None else 3)
                if which == 3:
                    assert served is not None
                    served.kill()
                    served.start()
                    killed["server"] += 1
                    continue
                if drivers[which].poll() is not None:
                    died.append(drivers[which].returncode)
                drivers[which].kill()
                drivers[which].wait()
                drivers[which] = driver()
                killed["driver"] += 1
            time.sleep(10.0)  # the remaining processes continue
        finally:
            for one in drivers:
                one.kill()
                one.wait()
            if served is not None:
                served.kill()
        time.sleep(1.0)  # worker processes notice the death of their parents
        if died:
            sys.exit(
                f"{len(died)} drivers ended by themselves: "
                f"{(folder / 'stderr').read_text()[-3000:]}"
            )
        report(options, url, folder, killed)


def report(
    options: argparse.Namespace, url: str, folder: Path, killed: collections.Counter[str]
) -> None:
    """Compare the log with the notes of the oracle and the drivers."""
    study = bi.Study.open(
        "kills", url, bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize(), name="kills")
    )
    consistent(study)
    every = study.trials
    trials = [trial for trial in every if trial.origin != LATE]
    called = collections.Counter(read(folder / "calls"))
    known = {repr(float(trial.point[0])): trial for trial in trials}
    assert len(known) == len(trials), "two trials of one point"
    assert set(called) <= set(known), "a call that the log does not know of"
    tells = read(folder / "tells")
    lost = sum(every[int(number)].loss != float(value) for number, value in map(str.split, tells))
    unbilled = sum(max(0, calls - len(known[point].attempts)) for point, calls in called.items())
    twice = sum(max(0, answered(trial) - called[point]) for point, trial in known.items())
    spent = study.spent
    calls = sum(called.values())
    running = sum(trial.state is State.RUNNING for trial in trials)
    idle = sum(len(trial.attempts) - called[point] for point, trial in known.items())
    assert spent.values + running == calls + idle, "the bill is not the sum of the calls"
    study.tell(study.ask()[0], 1.0)
    late = len(every) - len(trials)
    print(
        f"| {options.mode} | {options.storage} | {sum(killed.values())} ({killed['server']} of the "
        f"server) | {calls} | {len(tells)} | {lost} | {unbilled} | {twice} "
        f"| {spent.values} + {running} open = {calls} + {idle} killed before the call | {late} |",
        flush=True,
    )
    assert lost == twice == unbilled == 0


def answered(trial: Trial) -> int:
    """Count the attempts that are billed because of their outcome."""
    return sum(attempt.outcome is not None for attempt in trial.attempts)


def read(file: Path) -> list[str]:
    """Return the whole lines of a file; a kill may truncate the last one."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(
        "| mode | storage | kills | calls | tells | tells lost | calls unbilled | billed twice "
        "| bill | late |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---|---:|")
    main()
