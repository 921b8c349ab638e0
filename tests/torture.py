"""Oracle that fails in every known way in 30 % of its calls, and records each call."""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from forked import ends, start

import bo_invert as bi
from bo_invert.types import State

SHARE = 0.3
WAYS = ("raises", "NaN", "shape", "hangs", "segfaults", "exits", "eats memory")
DEADLY = ("segfaults", "exits")
FINE = "fine"
SEED = 3066
"""With this one, each way occurs once among the first 20 points of the study."""


class Torture:
    """Oracle that records each call in a file before anything else: the point and its fate.

    Args:
        path: Path of the file.
        seed: Seed of the failures; they depend on the point and on the number of its calls.
        spins: True if a call that hangs computes for ever; else it sleeps.
        appetite: Bytes that a greedy call allocates before it gives up.
    """

    def __init__(
        self, path: Path, seed: int = 0, spins: bool = True, appetite: int = 2**31
    ) -> None:
        self.path, self.seed, self.spins, self.appetite = path, seed, spins, appetite

    def __call__(self, x: Any) -> Any:
        point = x.tobytes().hex()
        before = self.path.read_text().count(point) if self.path.exists() else 0
        chance = random.Random(f"{self.seed} {before} {point}")
        way = chance.choice(WAYS) if chance.random() < SHARE else FINE
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{point} {way}\n".encode())
        os.fsync(handle)
        os.close(handle)
        time.sleep(0.01)
        if way == "raises":
            raise ValueError("bad luck")
        if way == "hangs":
            while self.spins:
                pass
            time.sleep(1e5)
        if way == "segfaults":
            ctypes.string_at(0)
        if way == "exits":
            os._exit(7)
        if way == "eats memory":
            eaten: list[Any] = []
            while 2**24 * len(eaten) < self.appetite:
                eaten.append(np.ones(2**21))
            raise MemoryError
        return {"NaN": float("nan"), "shape": [1.0, 2.0, 3.0]}.get(
            way, float(((x - 0.3) ** 2).sum())
        )


@dataclass(frozen=True)
class Account:
    """Calls as a study and its oracle report them."""

    entered: int
    billed: int
    ways: Counter[str]
    restarts: int
    lost: tuple[str, ...]
    """Fates of healthy calls without an answer."""
    best_is_healthy: bool
    seconds: float


def _fate(trial: bi.Trial) -> str:
    reason = trial.outcome.reason if trial.outcome else "no outcome"
    return f"trial {trial.number}: {trial.state}, {reason}"


def begin(folder: Path, kind: str, limit: float = 5.0, strategy: str = "sobol") -> bi.Study:
    """Create or open the study.

    The default limit is long, so that calls on a busy machine do not appear to hang.
    """
    calls = folder / "calls"
    if kind == "isolated":
        oracle: Any = bi.Isolated(
            Torture(calls, SEED, spins=False), timeout=limit, grace=0.0, memory="500MB"
        )
    else:
        oracle = Torture(calls, SEED, spins=False, appetite=2**28)
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), oracle, bi.Minimize(), name="torture")
    return bi.Study.create(
        "torture", problem, strategy, 1, f"sqlite:///{folder}/runs.db", exist_ok=True
    )


def go(folder: Path, kind: str, budget: int, limit: float, batch: int = 4) -> None:
    """Run the study to its end or to the death of the process."""
    executor = {"isolated": "threads"}.get(kind, kind)
    begin(folder, kind, limit).run(
        budget, batch=batch, executor=executor, timeout=None if kind == "isolated" else limit
    )


def tortured(folder: Path, kind: str, budget: int, limit: float = 5.0) -> Account:
    """Run the study in a process that is restarted whenever it dies; compare the records."""
    began, restarts = time.perf_counter(), 0
    while (ended := ends([start(go, folder, kind, budget, limit)])) != [0]:
        assert ended[0] in (-11, 7)
        restarts += 1
    study = begin(folder, kind)
    lines = [line.split(" ", 1) for line in (folder / "calls").read_text().splitlines()]
    fates = {trial.point.tobytes().hex(): trial for trial in study.trials}
    last = dict(lines)  # a point is called again when the study died meanwhile
    healthy = {point for point, way in last.items() if way == FINE}
    losses = [
        trial.loss for point, trial in fates.items() if point in healthy and trial.loss is not None
    ]
    assert study.best is not None
    return Account(
        len(lines),
        study.spent.values,
        Counter(way for _, way in lines),
        restarts,
        tuple(
            _fate(fates[point]) for point in healthy if fates[point].state is not State.COMPLETED
        ),
        study.best.loss == min(losses) and study.best.point.tobytes().hex() in healthy,
        time.perf_counter() - began,
    )
