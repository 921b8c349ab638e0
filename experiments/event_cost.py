"""Cost of an event in a storage, of this version and of another one, measured in turns.

git worktree add ../before 5311d43
python experiments/event_cost.py --before ../before
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
TRIALS = """
import sys, time
import bo_invert as bi
url, count, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
problem = bi.Problem(bi.Box([0.0] * dim, [1.0] * dim), None, bi.Minimize())
study = bi.Study.create("s", problem, "random", 0, url)
study.tell(study.ask()[0], 1.0)
cpu, wall = time.process_time(), time.perf_counter()
for _ in range(count):
    study.tell(study.ask()[0], 1.0)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(1e3 * cpu / count, 1e3 * wall / count)
study.add(points=[[0.5] * dim] * 4000, Y=[1.0] * 4000)
other = bi.Study.create("many", problem, "random", 0, url)
for trial in other.ask(4000):
    pass
reader = time.process_time()
for _ in range(5):
    bi.Study.open("many", url).trials
print(1e6 * (time.process_time() - reader) / 5 / 4001)
"""
"""Program that prints CPU and wall milliseconds of an ask with its tell, and CPU microseconds to
read an event."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="folder of the other version")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--dim", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {"before": [], "now": []}
    for _ in range(options.rounds):
        for label, code in (("before", options.before.resolve()), ("now", HERE)):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-c", TRIALS, f"sqlite:///{folder}/runs.db"]
                ran = subprocess.run(
                    [*command, str(options.trials), str(options.dim)],
                    env={**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
                    capture_output=True,
                    text=True,
                    check=True,
                )
            found[label].append([float(number) for number in ran.stdout.split()])
    print("| version | ask and tell, CPU ms | ask and tell, wall ms | read an event, CPU us |")
    print("|---|---:|---:|---:|")
    for label, rows in found.items():
        cpu, wall, read = np.median(rows, axis=0)
        print(f"| {label} | {cpu:.2f} | {wall:.2f} | {read:.1f} |")


if __name__ == "__main__":
    main()
