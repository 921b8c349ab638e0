"""Kill -9 at random moments, over drivers, workers and the server: what was told is there, every call is billed once.

python bench/kills.py --kills 200 --storage sqlite --mode driver
python bench/kills.py --kills 200 --storage postgres --mode served

Three processes ask, call an oracle, and tell. Before each call the oracle writes trial and attempt to a file of its own
and waits for the disk; after each tell that returned the process does the same in another file. In mode "served" they
talk to a server, which is killed too. In the end the log is held against both files.
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
from bo_invert.conformance import consistent, problem
from bo_invert.log import LATE
from bo_invert.types import State

DRIVER = """
import os, random, sys, time
from functools import partial
from bo_invert.conformance import problem
from bo_invert.decisions import Terms
from bo_invert.leases import Watch, reap
from bo_invert.study import Study
from bo_invert.types import Cost
from bo_invert.workers import this_worker

url, token, folder = sys.argv[1], sys.argv[2] or None, sys.argv[3]

def note(file, line):
    handle = os.open(os.path.join(folder, file), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (line + "\\n").encode())
    os.fsync(handle)
    os.close(handle)

study = Study.create("kills", problem(), "random", 0, url, exist_ok=True, token=token)
watch = Watch()
while True:
    reap(study.journal, watch)
    for trial in study.journal.take(partial(study.propose, None), 1, None, 0, Terms(this_worker(), 5.0)):
        attempt = len(trial.attempts) - 1
        note("calls", f"{trial.number} {attempt}")
        value = float(trial.query.point.sum())
        time.sleep(random.uniform(0.0, 0.02))
        told = study.journal.finish(trial.number, problem().outcome(value, Cost(1)), attempt)
        note("told", f"{told.number} {value!r}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--mode", choices=("driver", "served"), default="driver")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder}/runs.db"
        if options.storage == "postgres":
            url = stack.enter_context(postgres.server())
        served = Served(folder, url) if options.mode == "served" else None
        where, token = (url, "") if served is None else (served.url, served.token)

        def driver() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", DRIVER, where, token, str(folder)])

        drivers = [driver() for _ in range(3)]
        killed: collections.Counter[str] = collections.Counter()
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
                drivers[which].kill()
                drivers[which].wait()
                drivers[which] = driver()
                killed["driver"] += 1
        finally:
            for one in drivers:
                one.kill()
                one.wait()
            if served is not None:
                served.kill()
        report(options, url, folder, killed)


def report(options: argparse.Namespace, url: str, folder: Path, killed: collections.Counter[str]) -> None:
    """Hold the log against what oracle and drivers wrote down themselves."""
    study = bi.Study.open("kills", url, problem())
    consistent(study)
    trials = study.trials
    calls = collections.Counter(line for line in read(folder / "calls"))
    attempts = {f"{t.number} {i}": a for t in trials if t.origin != LATE for i, a in enumerate(t.attempts)}
    assert set(calls) <= set(attempts), "a call that the log does not know of"
    lost = 0
    for line in read(folder / "told"):
        number, value = line.split()
        lost += trials[int(number)].loss != float(value)
    unbilled = sum(attempts[call].ended is not None and attempts[call].cost.values != 1 for call in calls)
    twice = sum(count - 1 for count in calls.values())
    spent = study.spent
    idle = sum(attempt.fate is State.LOST for call, attempt in attempts.items() if call not in calls)
    told = len(read(folder / "told"))
    study.tell(study.ask()[0], 1.0)
    print(
        f"| {options.mode} | {options.storage} | {sum(killed.values())} ({killed['server']} of the server) "
        f"| {sum(calls.values())} | {told} | {lost} | {twice} | {unbilled} "
        f"| {spent.values} = {sum(calls.values())} calls + {idle} lost before the call "
        f"- {sum(a.ended is None for a in attempts.values())} open | {sum(t.origin == LATE for t in trials)} |"
    )
    assert lost == twice == unbilled == 0


def read(file: Path) -> list[str]:
    """Whole lines of a file; the last one may be torn by a kill."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| mode | storage | kills | calls | told | lost | run twice | unbilled | billed | late answers |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|---:|")
    main()
