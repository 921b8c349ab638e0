"""Script that wrote the golden ledgers and ``expected.json`` with the code of commit 97e0e3f.

The files in this folder were written once, with that version of the package, and are never written
again: later versions must read what that one wrote. The script therefore uses the names of that
version and must not follow later renames. To repeat it::

    git worktree add ../old 97e0e3f
    OMP_NUM_THREADS=1 PYTHONPATH=../old python tests/golden/make.py FOLDER
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

# Worker names hold the name of the host.
socket.gethostname = lambda: "host"

import studies  # noqa: E402

import bo_invert as bi  # noqa: E402
from bo_invert.types import Cost  # noqa: E402

MAX_ATTEMPTS = 5
"""Attempts after which a trial whose workers disappear is cancelled."""
Terms = type(bi.Study.take.__defaults__[-1])
CLI = [sys.executable, "-m", "bo_invert.cli"]
LEASE = 3600.0
"""Seconds; longer than any continuation, so that none finds a worker silent."""


def every_event(study: bi.Study) -> None:
    """Write events of every kind into a study of ``process``."""
    problem, journal = study.problem, study.journal
    remote = type(journal).__name__ == "RemoteJournal"

    def value(trial: bi.Trial) -> object:
        return problem.evaluate([trial.query])[0]

    def take(
        worker: str | None, count: int = 1, key: str | None = None, retries: int = 0
    ) -> list[bi.Trial]:
        return study.take(
            count, None, retries, Terms(worker, None if worker is None else LEASE, key)
        )

    study.enqueue({"n": 3, "r": 0.1, "kind": "b"})
    study.add(
        [
            {"n": 5, "r": 1.0, "kind": "a"},
            {"n": 8, "r": 0.5, "kind": "c"},
            {"n": 1, "r": 0.02, "kind": "a"},
        ],
        [
            {"cost": 5.0, "purity": 0.9},
            bi.Infeasible("no such plant"),
            {"cost": 4.02, "purity": 0.998},
        ],
        costs=[Cost(), Cost(1), Cost(1, 0, 2.5)],
    )
    first, second, third = take("w1", 3, "key 1")
    journal.finish(first.number, value(first), 0)
    study.tell(second, bi.Failed("the simulator crashed: 'ä' 🙂"), attempt=0)
    study.tell(third, bi.Infeasible("no mesh"), attempt=0)
    (again,) = take("w1", retries=1)
    assert again.number == second.number
    journal.finish(again.number, value(again), 1)
    # A trial whose constraint does not hold, and a value that is not finite.
    study.enqueue({"n": 3, "r": 9.0, "kind": "a"})
    (broken,) = study.ask()
    study.tell(broken, {"cost": 9.0, "purity": 0.1})
    (nan,) = study.ask()
    study.tell(nan, {"cost": float("nan"), "purity": 1.0})
    # A worker disappears; another takes over; the first one answers late.
    (trial,) = take("w2")
    journal.abandon({trial.number})
    (trial,) = take("w3")
    journal.finish(trial.number, value(trial), 1)
    late = journal.finish(trial.number, value(trial), 0)
    assert late.origin == "late"
    # Attempts that are given back, without and with a bill.
    (trial,) = take("w4")
    journal.release(trial.number, 0, Cost())
    (trial,) = take("w4")
    journal.release(trial.number, 1, Cost(1))
    (trial,) = take("w4")
    journal.finish(trial.number, value(trial), 2)
    # A trial that loses all its workers.
    (trial,) = take("w5")
    for attempt in range(1, MAX_ATTEMPTS):
        journal.abandon({trial.number})
        (again,) = take("w5")
        assert (again.number, len(again.attempts)) == (trial.number, attempt + 1)
    journal.lose(lambda worker: worker == "w5")
    if not remote:  # a server watches its workers by itself
        assert study.trials[trial.number].state is bi.State.CANCELLED
    # Cancelled while running and while queued; a lost attempt that answers after all.
    (trial,) = study.ask()
    study.cancel(trial, "the sample was dropped")
    study.cancel(study.enqueue({"n": 2, "r": 3.0, "kind": "c"}))
    (trial,) = take("w6")
    journal.abandon({trial.number})
    journal.finish(trial.number, value(trial), 0)
    # What stays open: lost, running for a person, running under a lease, queued.
    (trial,) = take("w7")
    journal.abandon({trial.number})
    (given,) = take("w8")
    assert given.number == trial.number
    study.ask()
    (lost,) = take("w9", key="key 2")
    study.enqueue({"n": 4, "r": 0.2, "kind": "a"})
    journal.abandon({lost.number})
    assert study.trials[lost.number].state is bi.State.LOST


def in_process(storage: str) -> None:
    """Write the studies that one process made."""

    def create(name: str, strategy: str, **options: object) -> bi.Study:
        problem = studies.STUDIES["studies.db"][name]()
        return bi.Study.create(name, problem, strategy, seed=7, storage=storage, **options)

    every_event(create("every event", "random"))
    create("sobol", "sobol").run(6, batch=3)
    create("auto", "auto").run(14, batch=2).ask(2)
    create("gp", "gp").run(14, batch=2)
    create("turbo", "turbo").run(12, batch=2).ask(1)
    create("least squares", "least_squares").run(9, batch=2, stop_when_hit=False)
    create("descents", "gradient").run(24, stop_when_hit=False)
    create("polish", "polish").run(20, stop_when_hit=False)
    create("gradients", "amortized", batch=2).run(16, stop_when_hit=False)


def served(storage: str, folder: Path) -> None:
    """Write the studies that a server made for its clients."""
    tokens = ["--tokens", str(folder / "tokens.json")]
    made = subprocess.run(
        [*CLI, "token", "--new", "writer", *tokens], check=True, capture_output=True, text=True
    )
    token = made.stdout.strip()
    command = [*CLI, "serve", "--storage", f"sqlite:///{storage}", "--port", "0", *tokens]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            if not line:
                raise SystemExit("the server did not start")
            found = re.search(r"serving on (http://[^ ]*:\d+)", line)
        url = found[1]
        study = bi.Study.create(
            "served", studies.process(), "random", seed=8, storage=url, token=token
        )
        every_event(study)
        for _ in range(3):
            study.journal.beat("w8")
        study = bi.Study.create(
            "served auto", studies.bowl(), "auto", seed=9, storage=url, token=token
        )
        study.run(12, batch=2)
        study.ask(1)
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Write everything into a folder."""
    import torch

    torch.set_num_threads(1)
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(exist_ok=True)
    in_process(str(folder / "studies.db"))
    with tempfile.TemporaryDirectory() as secrets:
        served(str(folder / "served.db"), Path(secrets))
    export = [
        "export",
        "every event",
        str(folder / "export.jsonl"),
        "--storage",
        str(folder / "studies.db"),
    ]
    subprocess.run([*CLI, *export], check=True)
    for file in ("studies.db", "served.db"):
        with closing(sqlite3.connect(folder / file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "export.jsonl").chmod(0o644)
    studies.HERE = folder
    text = json.dumps(studies.everything(), indent=None, separators=(",", ":"))
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
