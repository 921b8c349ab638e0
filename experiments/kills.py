"""Kill -9 at random moments, over drivers, workers and the server: what was told is there, every call is billed once.

python experiments/kills.py --kills 250 --storage sqlite --mode driver
python experiments/kills.py --kills 250 --storage postgres --mode served

In mode "driver" three processes run one study on a database; in mode "served" three ``bo-invert worker`` processes with
two evaluating processes each work for a server, which is killed too. Before it computes anything, the oracle writes its
point to a file of its own and waits for the disk; after each tell that returned, whoever told does the same in another
file. In the end the log is held against both files.
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
from bo_invert.storage.events import LATE
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
#: Whoever runs a study, with a note of each tell that returned.
DRIVER = """
import sys
sys.path.insert(0, {folder!r})
from problem import note, problem
from bo_invert.storage.journal import Journal
from bo_invert.service.client import RemoteJournal

def noted(kind):
    finish = kind.finish
    def finishing(journal, number, outcome, attempt=None):
        told = finish(journal, number, outcome, attempt)
        note("told", f"{{told.number}} {{float(outcome.y[0])!r}}")
        return told
    kind.finish = finishing

noted(Journal)
noted(RemoteJournal)
if sys.argv[1] == "driver":
    from bo_invert.study.study import Study
    Study.create("kills", problem, "random", 0, sys.argv[2], exist_ok=True).run(10**9)
else:
    from bo_invert.cli.main import main
    sys.argv[1:] = ["worker", sys.argv[2], "kills", {folder!r} + "/problem.py:problem", "-j", "2", "--create",
                    "--strategy", "random", "--token", sys.argv[3]]
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
            time.sleep(10.0)  # and whoever is left goes on
        finally:
            for one in drivers:
                one.kill()
                one.wait()
            if served is not None:
                served.kill()
        time.sleep(1.0)  # evaluating processes see that they are alone
        if died:
            sys.exit(
                f"{len(died)} drivers ended by themselves: {(folder / 'stderr').read_text()[-3000:]}"
            )
        report(options, url, folder, killed)


def report(
    options: argparse.Namespace, url: str, folder: Path, killed: collections.Counter[str]
) -> None:
    """Hold the log against what oracle and drivers wrote down themselves."""
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
    told = read(folder / "told")
    lost = sum(every[int(number)].loss != float(value) for number, value in map(str.split, told))
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
        f"| {options.mode} | {options.storage} | {sum(killed.values())} ({killed['server']} of the server) | {calls} "
        f"| {len(told)} | {lost} | {unbilled} | {twice} | {spent.values} + {running} open = {calls} + {idle} killed "
        f"before the call | {late} |",
        flush=True,
    )
    assert lost == twice == unbilled == 0


def answered(trial: Trial) -> int:
    """Attempts that are billed because somebody told what came of them."""
    return sum(attempt.outcome is not None for attempt in trial.attempts)


def read(file: Path) -> list[str]:
    """Whole lines of a file; the last one may be torn by a kill."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(
        "| mode | storage | kills | calls | told | told and lost | calls unbilled | billed twice | bill | late |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---|---:|")
    main()
