"""Storage overhead: milliseconds per ask and tell with a free strategy, beside Optuna.

python experiments/storage_overhead.py --trials 200 --processes 1
python experiments/storage_overhead.py --trials 50 --processes 8
python experiments/storage_overhead.py --trials 200 --storage postgres
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import postgres

OURS = """
import sys, time
import bo_invert as bi
url, start, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
problem = bi.Problem(bi.Box([0.0] * 6, [1.0] * 6), None, bi.Minimize())
study = bi.Study.create("s", problem, "random", 0, url, exist_ok=True)
time.sleep(max(0.0, start - time.time()))
for _ in range(count):
    a = time.perf_counter()
    (trial,) = study.ask()
    b = time.perf_counter()
    study.tell(trial, 1.0)
    print(1e3 * (b - a), 1e3 * (time.perf_counter() - b))
"""
OPTUNA = """
import sys, time
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
url, start, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
sampler = optuna.samplers.RandomSampler(seed=None)
study = optuna.create_study(study_name="o", storage=url, sampler=sampler, load_if_exists=True)
space = {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(6)}
time.sleep(max(0.0, start - time.time()))
for _ in range(count):
    a = time.perf_counter()
    trial = study.ask(space)
    b = time.perf_counter()
    study.tell(trial, 1.0)
    print(1e3 * (b - a), 1e3 * (time.perf_counter() - b))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100, help="of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--race", action="store_true", help="the processes make tables and study, too, all at once"
    )
    options = parser.parse_args()
    print(
        "| storage | processes | library | ask, ms | tell, ms | 99 % of asks and tells, ms "
        "| seen by the user |"
    )
    print("|---|---:|---|---:|---:|---:|---|")
    seen: dict[str, list[np.ndarray]] = {"bo_invert": [], "optuna": []}
    wrong: dict[str, set[str]] = {"bo_invert": set(), "optuna": set()}
    for _ in range(options.rounds):  # in turns, so that a busy moment hits both
        for library, program in (("bo_invert", OURS), ("optuna", OPTUNA)):
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                url = f"sqlite:///{folder}/{library}.db"
                if options.storage == "postgres":
                    url = stack.enter_context(postgres.server())
                command = [sys.executable, "-c", program, url]
                if not options.race:  # Optuna's tables cannot be made by several at once
                    subprocess.run([*command, "0", "0"], check=True)
                command += [str(time.time() + 6.0), str(options.trials)]
                workers = [
                    subprocess.Popen(
                        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                    )
                    for _ in range(options.processes)
                ]
                for worker in workers:
                    out, errors = worker.communicate()
                    rows = [line.split() for line in out.splitlines()]
                    seen[library].append(np.array(rows, dtype=float).reshape(-1, 2))
                    if worker.returncode:
                        messages = [
                            line
                            for line in errors.splitlines()
                            if re.match(r"[\w.]+(Error|Exception|Busy)\b", line)
                        ]
                        wrong[library].add(
                            (messages or errors.splitlines() or ["nothing"])[-1][:120]
                        )
    for library, tables in seen.items():
        rows = np.concatenate(tables)
        ask, tell = np.median(rows, axis=0)
        late = np.quantile(rows, 0.99)
        words = "; ".join(sorted(wrong[library])).replace("|", "/") or "nothing"
        print(
            f"| {options.storage} | {options.processes} | {library} | {ask:.1f} | {tell:.1f} "
            f"| {late:.0f} | {words} |"
        )


if __name__ == "__main__":
    main()
