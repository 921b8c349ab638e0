"""Overhead of this version and of another one, measured in turns.

git worktree add ../before 5311d43
python experiments/version_overhead.py --before ../before             # CPU time of calls
python experiments/version_overhead.py --before ../before --server    # throughput of servers

Each round starts a process of each version. It repeats each row and reports the fastest repetition.
With ``--server``, a server of each version runs, and clients load both for short periods in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil

import bo_invert as bi

HERE = Path(__file__).resolve().parent.parent
DIM = 6
STUDIES = 300
Figures = dict[str, list[float]]
Versions = dict[str, Figures]


class Row(NamedTuple):
    """Operation to measure.

    Args:
        text: Name in the table.
        count: Number of operations in one call of the function that ``prepare`` returns.
        prepare: Function that returns the function to measure; it receives a new folder.
    """

    text: str
    count: int
    prepare: Callable[[Path], Callable[[], object]]


def total(x: np.ndarray) -> float:
    """Return an output, as an oracle without cost."""
    return float(x.sum())


def totals(designs: Sequence[np.ndarray]) -> list[float]:
    """Return one output per design, as a batched oracle without cost."""
    return [float(x.sum()) for x in designs]


def study(oracle: Any, storage: str | None = None, space: Any = None) -> bi.Study:
    """Create a study with a strategy without cost."""
    space = bi.Box([0.0] * DIM, [1.0] * DIM) if space is None else space
    return bi.Study.create(
        "s", bi.Problem(space, oracle, bi.Minimize()), "random", 0, storage, exist_ok=True
    )


def run(oracle: Callable[[], Any], batch: int) -> Callable[[Path], Callable[[], object]]:
    """Return the preparation of a run of 200 trials."""

    def prepare(_: Path) -> Callable[[], object]:
        made = study(oracle())
        return lambda: made.run(200, batch=batch)

    return prepare


def ask_tell(database: bool) -> Callable[[Path], Callable[[], object]]:
    """Return the preparation of 200 asks and tells."""

    def prepare(folder: Path) -> Callable[[], object]:
        made = study(None, f"sqlite:///{folder}/runs.db" if database else None)

        def work() -> None:
            for _ in range(200):
                made.tell(made.ask()[0], 1.0)

        return work

    return prepare


def tell(answers: Callable[[], Any]) -> Callable[[Path], Callable[[], object]]:
    """Return the preparation of 200 tells of trials that are asked for before."""

    def prepare(_: Path) -> Callable[[], object]:
        made = study(None)
        trials, answer = made.ask(200), answers()
        return lambda: [made.tell(trial, answer) for trial in trials]

    return prepare


def add(database: bool) -> Callable[[Path], Callable[[], object]]:
    """Return the preparation of an ``add`` of 5,000 designs of 10 numbers."""

    def prepare(folder: Path) -> Callable[[], object]:
        box = bi.Box([0.0] * 10, [1.0] * 10)
        made = study(None, f"sqlite:///{folder}/runs.db" if database else None, box)
        X = np.random.default_rng(0).random((5000, 10))
        return lambda: made.add(X, X.sum(axis=1))

    return prepare


def read(folder: Path) -> Callable[[], object]:
    """Prepare the replay of 4,000 trials from a database."""
    url = f"sqlite:///{folder}/runs.db"
    study(None, url).ask(4000)
    return lambda: bi.Study.open("s", url).trials


def measured_box(_: Path) -> Callable[[], object]:
    """Prepare a box of 20,000 designs of 20 numbers."""
    X = np.random.default_rng(0).normal(size=(20_000, 20))
    return lambda: bi.Box(data=X)


def module() -> Any:
    """Return a torch module; the import is part of no measurement."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Linear(DIM, 1)


def decode(module_first: bool) -> Callable[[Path], Callable[[], object]]:
    """Return the preparation of 200 decodings of one point of a latent space, with its picture."""

    def prepare(_: Path) -> Callable[[], object]:
        weights = np.random.default_rng(0).normal(size=(DIM, 64))
        decoder = module() if module_first else lambda codes: codes @ weights
        space = bi.Latent(decoder, dim=DIM)
        draw = lambda x: np.resize(x, (8, 8))  # noqa: E731
        problem = bi.Problem(space, total, bi.Minimize(), draw=draw)
        points = space.sample(np.random.default_rng(1), 200)
        return lambda: [problem.draw(problem.decode(point)) for point in points]

    return prepare


ROWS = [
    Row("run, per trial", 200, run(lambda: total, 1)),
    Row("run with batch=8, per trial", 200, run(lambda: total, 8)),
    Row(
        "run of a batched oracle, batch=8, per trial",
        200,
        run(lambda: bi.Function(totals, batched=True), 8),
    ),
    Row("ask and tell", 200, ask_tell(False)),
    Row("ask and tell, SQLite", 200, ask_tell(True)),
    Row("tell of a number", 200, tell(lambda: 1.0)),
    Row("tell of a dict", 200, tell(lambda: {"y": 1.0})),
    Row("add of 5,000 designs of 10 numbers, each", 5000, add(False)),
    Row("the same, SQLite", 5000, add(True)),
    Row("read and replay a trial, SQLite", 4000, read),
    Row("Box(data=) of 20,000 x 20", 1, measured_box),
    Row("decode and draw of a point of a Latent, numpy", 200, decode(False)),
    Row("the same, torch module", 200, decode(True)),
    Row("run of a torch module, per trial", 200, run(module, 1)),
]


def measure(repeats: int, only: str) -> None:
    """Print the CPU microseconds per operation of each row as JSON."""
    found = {}
    for row in (row for row in ROWS if re.search(only, row.text)):
        seconds = []
        for _ in range(repeats + 1):  # the first one imports and fills caches
            with tempfile.TemporaryDirectory() as folder:
                work = row.prepare(Path(folder))
                began = time.process_time()
                work()
                seconds.append(time.process_time() - began)
        found[row.text] = 1e6 * min(seconds[1:]) / row.count
    print(json.dumps(found))


def child(code: Path, *arguments: str) -> dict[str, Any]:
    """Run this script with the package of a checkout; return its output."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *arguments]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@contextmanager
def served(code: Path, folder: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """Run the server of a checkout on a database with many studies; yield a client."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    tool = [sys.executable, "-m", "bo_invert.cli"]
    tokens = ["--tokens", str(folder / "tokens.json")]
    token = subprocess.run(
        [*tool, "token", "--new", "t", *tokens], env=environment, capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    options = ["--storage", f"sqlite:///{folder}/runs.db", "--port", "0"]
    process = subprocess.Popen(
        [*tool, "serve", *options, *tokens, "--asks-per-second", "1e6"],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        url = ""
        while not url:
            line = process.stderr.readline()
            url = line.split()[-1].rstrip(".,") if "serving on" in line else ""
        threading.Thread(target=process.stderr.read, daemon=True).start()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
            yield client, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def make_studies(folder: Path) -> None:
    """Create the studies of a server, each with some trials."""
    problem = bi.Problem(bi.Box([0.0] * DIM, [1.0] * DIM), None, bi.Minimize())
    for number in range(STUDIES):
        made = bi.Study.create(f"s{number}", problem, "random", 0, f"sqlite:///{folder}/runs.db")
        made.add(points=np.full((20, DIM), 0.5), Y=[1.0] * 20)
    print("null")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a server and its processes."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


def load(client: httpx.Client, process: psutil.Process, clients: int, seconds: float) -> Figures:
    """Ask and tell for some seconds; return figures per trial."""
    headers, url = dict(client.headers), str(client.base_url)
    counts = [0] * clients
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as own:
            while time.monotonic() < end:
                body = {"count": 1, "lease": 60.0, "worker": f"w{number}"}
                asked = own.post("/v1/studies/s0/ask", json=body).raise_for_status()
                for trial in asked.json()["trials"]:
                    outcome = {"attempt": trial["attempt"], "outputs": 1.0}
                    path = f"/v1/studies/s0/trials/{trial['number']}/tell"
                    own.post(path, json=outcome).raise_for_status()
                    counts[number] += 1

    before, began = cpu_seconds(process), time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, cpu = time.monotonic() - began, cpu_seconds(process) - before
    name = f"{clients} client{'s' * (clients > 1)}"
    return {
        f"{name}: trials per second": [sum(counts) / spent],
        f"{name}: CPU ms of the server per trial": [1e3 * cpu / sum(counts)],
    }


def listing(client: httpx.Client, process: psutil.Process) -> Figures:
    """Request the list of studies five times."""
    before, began = cpu_seconds(process), time.monotonic()
    for _ in range(5):
        answer = client.get("/v1/studies", params={"limit": STUDIES}).raise_for_status()
        assert len(answer.json()["studies"]) == STUDIES
    spent, cpu = time.monotonic() - began, cpu_seconds(process) - before
    return {
        f"list of {STUDIES} studies: ms": [1e3 * spent / 5],
        f"list of {STUDIES} studies: CPU ms": [1e3 * cpu / 5],
    }


def serve_in_turns(codes: dict[str, Path], rounds: int, seconds: float) -> Versions:
    """Load a server of each version in turns; drop the first round."""
    found: Versions = {label: {} for label in codes}
    with tempfile.TemporaryDirectory() as place:
        folders = {label: Path(place, label) for label in codes}
        for label, folder in folders.items():
            folder.mkdir()
            child(codes[label], "--studies", str(folder))
        with ExitStack() as stack:
            servers = {
                label: stack.enter_context(served(code, folders[label]))
                for label, code in codes.items()
            }
            for number in range(rounds + 1):
                for label, server in servers.items():
                    figures = {**load(*server, 1, seconds), **load(*server, 4, seconds)}
                    collect(found[label], {**figures, **listing(*server)}, number > 0)
    return found


def collect(into: Figures, figures: Figures, counts: bool = True) -> None:
    """Append figures by row."""
    for row, values in figures.items() if counts else ():
        into.setdefault(row, []).extend(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="folder of the other version")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of a row in a round")
    parser.add_argument("--only", default="", help="regular expression of the names of rows")
    parser.add_argument("--server", action="store_true", help="measure servers")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one load of a server")
    parser.add_argument("--measure", action="store_true", help="used for processes of a version")
    parser.add_argument("--studies", type=Path, help="used for processes of a version")
    options = parser.parse_args()
    if options.measure:
        measure(options.repeats, options.only)
    elif options.studies:
        make_studies(options.studies)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure both versions and print a table."""
    codes = {"before": options.before.resolve(), "now": HERE}
    if options.server:
        found = serve_in_turns(codes, options.rounds, options.seconds)
    else:
        found = {label: {} for label in codes}
        command = ["--measure", "--repeats", str(options.repeats), "--only", options.only]
        for _ in range(options.rounds):
            for label, code in codes.items():
                figures = child(code, *command)
                collect(found[label], {row: [value] for row, value in figures.items()})
    print("| operation | before: minimum, median | now: minimum, median | ratio |")
    print("|---|---:|---:|---:|")
    for row, before in found["before"].items():
        now = found["now"][row]
        middle = float(np.median(np.divide(now, before)))
        texts = [f"{min(one):.4g}, {np.median(one):.4g}" for one in (before, now)]
        print(f"| {row} | {texts[0]} | {texts[1]} | {middle:.2f} |")


if __name__ == "__main__":
    main()
