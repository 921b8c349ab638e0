"""Tolerances of a design: true share of the stated box that meets the target.

    python experiments/inverse_tolerances.py run --seeds 10   # resumes
    python experiments/inverse_tolerances.py table            # writes docs/tolerances.md

Each of eight problems, chosen before any run, has the outputs of a random design as its target, one
for each seed, and a tolerance of 10 % of the standard deviation of each output. ``auto`` searches
a design with at most 150 calls; then ``study.tolerances`` has at most 20 calls. The share of the
box that meets the target, and that of a box of the same shape that is larger by 1.3, are those of
20,000 uniform designs under the true function.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.problems.examples.arm import UPPER, tip
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_tolerances.jsonl"
DRAWN = 20_000
WIDER = 1.3
TOLERANCE = 0.1
SEARCH, CHECKS = 150, 20

WEIGHTS = np.random.default_rng(0).normal(size=(5, 8)), np.random.default_rng(1).normal(size=(8, 2))
HARTMANN = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
     [17, 8, 0.05, 10, 0.1, 14]]
)  # fmt: skip
CENTRES = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
)  # fmt: skip


def himmelblau(x: Array) -> Array:
    a, b = x[:, 0], x[:, 1]
    return np.stack([(a**2 + b - 11.0) ** 2 + (a + b**2 - 7.0) ** 2], 1)


def branin(x: Array) -> Array:
    a, b = x[:, 0], x[:, 1]
    bend = b - 5.1 / (4.0 * np.pi**2) * a**2 + 5.0 / np.pi * a - 6.0
    return np.stack([bend**2 + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(a) + 10.0], 1)


def network(x: Array) -> Array:
    return np.asarray(np.tanh(2.0 * (x - 0.5) @ WEIGHTS[0]) @ WEIGHTS[1])


def hartmann(x: Array) -> Array:
    near = np.exp(-(HARTMANN * (x[:, None] - CENTRES) ** 2).sum(2))
    return np.stack([-near @ np.array([1.0, 1.2, 3.0, 3.2])], 1)


def reactor(x: Array) -> Array:
    """Conversion and temperature of a reactor: plates (whole), rate (log scale), heat."""
    plates, rate, heat = x.T
    grown = 1.0 - np.exp(-0.15 * plates * rate**0.5)
    return np.stack([grown, heat * (1.0 + 0.3 * grown)], 1)


def waves(x: Array) -> Array:
    return np.asarray(np.sin(3.0 * np.pi * x[:, :1]) + np.cos(3.0 * np.pi * x[:, 1:]))


def blend(x: Array) -> Array:
    a, b, c = x.T
    return np.stack([a + 2.0 * b * c, np.exp(-a) + b], 1)


@dataclass(frozen=True)
class Case:
    """Function of vectors ``(n, d)``, and its box."""

    function: Callable[[Array], Array]
    box: Callable[[], bi.Box]


def plain(low: float, high: float, d: int) -> Callable[[], bi.Box]:
    return lambda: bi.Box({f"x{i}": bi.Float(low, high) for i in range(d)})


def reactor_box() -> bi.Box:
    parameters = {"plates": bi.Int(1, 40), "rate": bi.Float(0.01, 1.0, log=True)}
    return bi.Box({**parameters, "heat": bi.Float(20.0, 80.0)})


def blend_box() -> bi.Box:
    parameters = {name: bi.Float(0, 1) for name in "abc"}
    return bi.Box(parameters, constraints=["a + b + c <= 1.5", "a <= b + 0.3"])


CASES = {
    "waves": Case(waves, plain(-1.0, 1.0, 2)),
    "arm": Case(tip, lambda: bi.Box({f"x{i}": bi.Float(-u, u) for i, u in enumerate(UPPER)})),
    "Himmelblau": Case(himmelblau, plain(-6.0, 6.0, 2)),
    "Branin": Case(branin, lambda: bi.Box({"a": bi.Float(-5, 10), "b": bi.Float(0, 15)})),
    "network": Case(network, plain(0.0, 1.0, 5)),
    "Hartmann": Case(hartmann, plain(0.0, 1.0, 6)),
    "reactor": Case(reactor, reactor_box),
    "blend": Case(blend, blend_box),
}


def vectors(designs: Any) -> Array:
    return np.array([list(design.values()) for design in designs], dtype=float)


@cache
def scale(name: str) -> Array:
    case = CASES[name]
    space = case.box()
    drawn = space.decode(space.sample(np.random.default_rng(0), 2000))
    return np.asarray(case.function(vectors(drawn)).std(0))


def problem_of(name: str, seed: int) -> bi.Problem:
    case = CASES[name]
    space = case.box()
    design = space.decode(space.sample(np.random.default_rng([seed, 7]), 1))
    wanted = case.function(vectors(design))[0]
    names = [f"y{i}" for i in range(len(wanted))]
    ends = {
        one: (value - width, value + width)
        for one, value, width in zip(names, wanted, TOLERANCE * scale(name), strict=True)
    }
    oracle = bi.Function(lambda v: case.function(vectors([v]))[0], outputs=names)
    return bi.Problem(space, oracle, bi.Target(ends), outputs=names, name=name)


def measure(name: str, seed: int) -> dict[str, Any]:
    problem, case = problem_of(name, seed), CASES[name]
    study = bi.Study.create(name, problem, "auto", seed=seed).run(SEARCH)
    best, searched = study.best, study.spent.calls
    row: dict[str, Any] = {"problem": name, "seed": seed, "searched": searched}
    if best is None or not problem.objective.satisfied(best.y):
        return {**row, "found": False}
    began = time.perf_counter()
    found = study.tolerances(best)
    seconds = time.perf_counter() - began

    def met(points: Array) -> float:
        y = case.function(vectors(problem.space.decode(points)))
        return float(np.mean(np.asarray(problem.objective.loss(y)) <= 0.0))

    box = found.box
    wide = box.scaled(WIDER)
    points = wide.points(np.random.default_rng(1).random((DRAWN, len(found.names))))
    return {
        **row, "found": True, "calls": found.calls, "expected": found.expected,
        "interval": list(found.interval), "share": met(found.draw(DRAWN, 1)),
        "wider": met(points[problem.domain.admits(points)]), "size": box.size,
        "bounded": bool((box.moves >= box.space.room - 1e-9).all()), "seconds": round(seconds, 1),
    }  # fmt: skip


def run(seeds: int, names: list[str]) -> None:
    done = {(row["problem"], row["seed"]) for row in rows()}
    for seed in range(seeds):
        for name in names:
            if (name, seed) not in done:
                row = measure(name, seed)
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


def rows() -> list[dict[str, Any]]:
    if not ROWS.exists():
        return []
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def table() -> None:
    known, cells = [row for row in rows() if row["found"]], []
    for name in CASES:
        own = [row for row in known if row["problem"] == name]
        if not own:
            continue
        share, wider = (np.array([row[key] for row in own]) for key in ("share", "wider"))
        cells.append(
            (
                name, f"{np.median(share):.1%} ({share.min():.1%} to {share.max():.1%})",
                f"{int(((share >= 0.93) & (share <= 0.97)).sum())} of {len(own)}",
                f"{np.median(wider):.1%} ({wider.max():.1%})",
                int(np.median([row["calls"] for row in own])),
            )
        )  # fmt: skip
    columns = ("problem", "share of the box", "93 to 97 %", "share of the wider box", "calls")
    missing = sum(not row["found"] for row in rows())
    note = (
        "Median share (least to largest) over the seeds; number of seeds within 93 and 97 %; "
        f"median (largest) share of the box that is larger by {WIDER}; median calls. "
        f"The search missed {missing} of {len(rows())} targets."
    )
    text = Table(columns, tuple(cells), notes=(note,)).markdown()
    replace_marked(ROOT / "docs" / "tolerances.md", "tolerances", text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--problems", default=",".join(CASES))
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.seeds, arguments.problems.split(","))
    else:
        table()
