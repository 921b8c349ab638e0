"""Suspended workers and workers in containers: a budget is neither lost nor spent twice.

python experiments/suspended_workers.py --seconds 95
python experiments/suspended_workers.py --namespaces        # needs the right to unshare

With ``--seconds`` a process evaluates two trials at once and is stopped (SIGSTOP) during both for
this time, beyond its lease of 60 s. Another process works on the same study and ends the lease.
With ``--namespaces`` three processes in PID namespaces of their own share a study of six calls, as
containers with one host name do.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interruptions import points

import bo_invert as bi
from bo_invert.storage.log_replay import LATE

RUN = """
import itertools, sys, time
import bo_invert as bi
from interruptions import note
from pathlib import Path

folder, role, budget = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
numbers = itertools.count(1)

def oracle(x):
    note(folder / "calls", f"{role} {x[0]!r}")
    number = next(numbers)
    held = number == 1 or number == 2 and role == "stopped"
    # Many short pauses: they do not pass while the process is stopped.
    pauses = 20 * number if role == "stopped" and held else 5
    while held and not (folder / ("stop" if role == "stopped" else "go")).exists():
        time.sleep(0.1)
    for _ in range(pauses):
        time.sleep(0.1)
    note(folder / "answers", f"{role} {x[0]!r}")
    return float(x[0])

problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize(), name="s")
study = bi.Study.create("s", problem, "random", 0, f"sqlite:///{folder}/runs.db", exist_ok=True)
study.run(budget, **({"batch": 2, "executor": "threads"} if role == "stopped" else {}))
"""


def begin(
    folder: Path, role: str, budget: int, calls: int, *prefix: str
) -> subprocess.Popen[bytes]:
    """Start a process and wait until it has begun some calls."""
    command = [*prefix, sys.executable, "-c", RUN, str(folder), role, str(budget)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=(folder / role).open("ab")
    )
    while process.poll() is None and begun(folder, role) < calls:
        time.sleep(0.02)
    return process


def begun(folder: Path, role: str) -> int:
    return sum(line.startswith(role) for line in points(folder / "calls").elements())


def report(folder: Path, label: str, budget: int, codes: list[int]) -> None:
    """Print a row of the table and the last line of each standard error."""
    study = bi.Study.open("s", f"sqlite:///{folder}/runs.db")
    calls, answers = (sum(points(folder / name).values()) for name in ("calls", "answers"))
    recorded = sum(a.outcome is not None for t in study.trials if t.origin != LATE
                   for a in t.attempts)  # fmt: skip
    print(
        f"| {label} | {budget} | {calls} | {answers} | {recorded} | {study.spent.values} "
        f"| {', '.join(map(str, codes))} |"
    )
    for role in ("stopped", "other", "container"):
        if (folder / role).exists() and (text := (folder / role).read_text().strip()):
            errors = [line for line in text.splitlines() if "Error" in line or "lease" in line]
            print(*(f"    {role}: {line}" for line in errors), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=95.0)
    parser.add_argument("--namespaces", action="store_true")
    options = parser.parse_args()
    print("| case | budget | calls | answers | recorded | billed | exit codes |")
    print("|---|---:|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.namespaces:
            prefix = ("unshare", "--pid", "--fork", "--mount-proc")
            processes = [begin(folder, "container", 6, i, *prefix) for i in (1, 2, 3)]
            (folder / "go").touch()
            report(folder, "namespaces", 6, [process.wait() for process in processes])
            return
        stopped = begin(folder, "stopped", 8, 2)
        other = begin(folder, "other", 8, 1)
        (folder / "stop").touch()
        time.sleep(0.5)  # after the start of both calls, outside a transaction
        os.kill(stopped.pid, signal.SIGSTOP)
        time.sleep(options.seconds)
        os.kill(stopped.pid, signal.SIGCONT)
        time.sleep(10.0)
        (folder / "go").touch()
        label = f"SIGSTOP for {options.seconds:g} s"
        report(folder, label, 8, [process.wait() for process in (stopped, other)])


if __name__ == "__main__":
    main()
