"""All solutions of a target: branches found and share of the solution set covered.

    python experiments/inverse_coverage.py run --methods inverse,sobol --seeds 10   # resumes
    python experiments/inverse_coverage.py table   # writes docs/inverse.md

Problems, chosen before any run: the sine waves and the robot arm (a target each seed), F1 to F8 of
the niching suite of CEC 2013 in their lowest dimension (Li, Engelbrecht & Epitropakis 2013; the
target is the known maximum), and the forest behind the latent of digits. A method has 200 calls,
and 500 where there are 18 or more optima.

The *reference set* holds draws of the reference measure whose true outputs meet the target. At most
50 verified designs of a run, chosen greedily for coverage, are scored. A reference point is covered
if the root mean square difference to one of them is at most 0.05 in unit coordinates. A branch is a
connected component of the reference set; it is found if one of its points is covered. All
scored designs are verified by the oracle.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from marked_page import replace_marked
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

import bo_invert as bi
from bo_invert.models.base import to_unit
from bo_invert.report.statistical_tests import wilcoxon
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_coverage.jsonl"
DISTANCE = 0.05
SCORED = 50
CHECKPOINTS = (50, 100, 200, 500)
REFERENCE = 5_000
DRAWN = 4_000_000
KNOWN = 2_000  # reference points among which the best 50 are chosen
LINK = 0.4  # distance of connected reference points, as a share of the covering radius

METHODS: dict[str, Any] = {
    "inverse": {"name": "inverse", "options": {"undiscovered": 0.0}},
    "inverse to its end": "inverse",
    "gp": "gp",
    "auto": "auto",
    "cmaes": "cmaes",
    "niching": "niching_cmaes",
    "ribs": "ribs",
    "sobol": "sobol",
}


def five_uneven_peaks(x: Array) -> Array:
    knots = [0.0, 2.5, 5.0, 7.5, 12.5, 17.5, 22.5, 27.5, 30.0]
    slopes = [80.0, 64.0, 64.0, 28.0, 28.0, 32.0, 32.0, 80.0]
    starts = [(2.5, -1), (2.5, 1), (7.5, -1), (7.5, 1), (17.5, -1), (17.5, 1), (27.5, -1),
              (27.5, 1)]  # fmt: skip
    at = x[..., 0]
    found = np.zeros(at.shape)
    for low, high, slope, (zero, sign) in zip(knots, knots[1:], slopes, starts, strict=False):
        found = np.where((at >= low) & (at <= high), slope * sign * (at - zero), found)
    return found


def equal_maxima(x: Array) -> Array:
    return np.sin(5.0 * np.pi * x[..., 0]) ** 6


def uneven_decreasing(x: Array) -> Array:
    at = x[..., 0]
    fall = np.exp(-2.0 * np.log(2.0) * ((at - 0.08) / 0.854) ** 2)
    return np.asarray(fall * np.sin(5.0 * np.pi * (at**0.75 - 0.05)) ** 6)


def himmelblau(x: Array) -> Array:
    a, b = x[..., 0], x[..., 1]
    return np.asarray(200.0 - (a**2 + b - 11.0) ** 2 - (a + b**2 - 7.0) ** 2)


def six_hump_camel(x: Array) -> Array:
    a, b = x[..., 0], x[..., 1]
    return np.asarray(-((4.0 - 2.1 * a**2 + a**4 / 3.0) * a**2 + a * b + (4.0 * b**2 - 4.0) * b**2))


def shubert(x: Array) -> Array:
    j = np.arange(1, 6)
    return np.asarray(-np.prod((j * np.cos((j + 1) * x[..., None] + j)).sum(-1), axis=-1))


def vincent(x: Array) -> Array:
    return np.asarray(np.sin(10.0 * np.log(x)).mean(-1))


def modified_rastrigin(x: Array) -> Array:
    k = np.array([3.0, 4.0])
    return np.asarray(-(10.0 + 9.0 * np.cos(2.0 * np.pi * k * x)).sum(-1))


@dataclass(frozen=True)
class Case:
    """Function, its bounds, the target and its tolerance, and the calls of a method."""

    function: Callable[[Array], Array]
    low: tuple[float, ...]
    high: tuple[float, ...]
    target: float
    tolerance: float
    calls: int = 200


# Tolerances are 1 % of the range of the function.
NICHING = {
    "F1 uneven peaks": Case(five_uneven_peaks, (0.0,), (30.0,), 200.0, 2.0),
    "F2 equal maxima": Case(equal_maxima, (0.0,), (1.0,), 1.0, 0.01),
    "F3 uneven maxima": Case(uneven_decreasing, (0.0,), (1.0,), 1.0, 0.01),
    "F4 Himmelblau": Case(himmelblau, (-6.0,) * 2, (6.0,) * 2, 200.0, 21.8),
    "F5 camel": Case(six_hump_camel, (-1.9, -1.1), (1.9, 1.1), 1.031628, 0.065),
    "F6 Shubert": Case(shubert, (-10.0,) * 2, (10.0,) * 2, 186.7309, 4.0, 500),
    "F7 Vincent": Case(vincent, (0.25,) * 2, (10.0,) * 2, 1.0, 0.02, 500),
    "F8 Rastrigin": Case(modified_rastrigin, (0.0,) * 2, (1.0,) * 2, -2.0, 0.36),
}
PROBLEMS = ("sine", "arm", *NICHING, "digits")


def problem(name: str, seed: int) -> tuple[bi.Problem, int]:
    """Return a problem and the calls of a method; targets of sine, arm and digits have a seed."""
    if name == "sine":
        return bi.ready_problem("sine", seed=100 + seed, tolerance=0.05, differentiable=False), 200
    if name == "arm":
        return bi.ready_problem("arm", seed=100 + seed, tolerance=0.05, differentiable=False), 200
    if name == "digits":
        target = float(np.random.default_rng(100 + seed).uniform(0.1, 0.9))
        return bi.ready_problem("digits", target=target, tolerance=0.02), 200
    case = NICHING[name]
    return bi.Problem(
        bi.Box(list(case.low), list(case.high)), lambda x: float(case.function(np.asarray(x))),
        bi.Target({"y": case.target}, tolerance=case.tolerance), outputs=["y"], name=name,
    ), case.calls  # fmt: skip


@cache
def reference(name: str, seed: int) -> Array:
    """Return unit coordinates ``(r, d)`` of draws that meet the target."""
    made, _ = problem(name, seed)
    domain, rng, found = made.statement.domain, np.random.default_rng(7), list[Array]()
    block = 2000 if name == "digits" else 200_000
    count = drawn = 0
    while count < REFERENCE and drawn < (60_000 if name == "digits" else DRAWN):
        points = domain.sample(rng, block)
        drawn += block
        inside = points[_meets(name, made, points)]
        found.append(inside)
        count += len(inside)
    return np.asarray(to_unit(domain, np.concatenate(found)[:REFERENCE]))


def _meets(name: str, made: bi.Problem, points: Array) -> Any:
    target: Any = made.statement.objective
    if name in NICHING:
        case = NICHING[name]
        low, high = np.array(case.low), np.array(case.high)
        y = case.function(low + points * (high - low))[:, None]
    else:
        outcomes = made.evaluate([bi.Query(point) for point in points])
        y = np.array([outcome.y for outcome in outcomes])
    return target.within(y)


def score(reference_set: Array, verified: Array) -> dict[str, float]:
    """Return coverage and branch recall of verified designs, of which at most 50 are scored."""
    radius = DISTANCE * math.sqrt(reference_set.shape[1])
    tree = cKDTree(reference_set)
    # Sparse neighbours of single linkage, in blocks.
    graph = tree.sparse_distance_matrix(tree, LINK * radius, output_type="coo_matrix")
    _, labels = connected_components(graph, directed=False)
    sizes = np.bincount(labels)
    branches = np.flatnonzero(sizes >= max(3, 2e-4 * len(reference_set)))
    covered = np.zeros(len(reference_set), dtype=bool)
    if len(verified):
        near = np.zeros((len(verified), len(reference_set)), dtype=bool)
        for row, places in zip(near, tree.query_ball_point(verified, radius), strict=True):
            row[places] = True
        for _ in range(SCORED):
            gains = (near & ~covered).sum(1)
            if not gains.max():
                break
            covered |= near[gains.argmax()]
    found = np.bincount(labels, covered.astype(float))[branches] > 0
    return {
        "coverage": round(float(covered.mean()), 4), "recall": round(float(found.mean()), 4),
        "branches": len(branches), "verified": len(verified),
    }  # fmt: skip


def run(problems: list[str], methods: list[str], seeds: range) -> None:
    """Run what is missing and append a row for each run."""
    done = {(row["problem"], row["method"], row["seed"]) for row in rows()}
    for seed in seeds:
        for name in problems:
            for method in methods:
                if (name, method, seed) in done:
                    continue
                made, calls = problem(name, seed)
                study = bi.Study.create(f"{name} {method}", made, METHODS[method], seed)
                began = time.process_time()
                study.run(calls, stop_when_hit=False)
                seconds = time.process_time() - began
                history, target = study.history, made.statement.objective
                units = to_unit(made.statement.domain, history.points)
                hit = np.asarray(target.within(history.y))  # type: ignore[attr-defined]
                row = {
                    "problem": name, "method": method, "seed": seed, "calls": len(units),
                    "scores": {
                        n: score(reference(name, seed), units[:n][hit[:n]])
                        for n in CHECKPOINTS if n <= calls
                    },
                    "ask_seconds": float(np.median(study.journal.ask_seconds[-20:])),
                    "cpu_seconds": round(seconds, 2),
                }  # fmt: skip
                ROWS.parent.mkdir(exist_ok=True)
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                last = row["scores"][calls]  # type: ignore[index]
                print(name, method, seed, len(units), last, row["cpu_seconds"], flush=True)


def rows() -> list[dict[str, Any]]:
    """Return the recorded rows."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [json.loads(line) for line in lines]


def tables() -> tuple[Table, Table]:
    """Return medians of recall and coverage with ranges, and paired tests against ``inverse``."""
    every = rows()
    methods = [m for m in METHODS if any(row["method"] == m for row in every)]
    lines, tests = [], []
    for name in PROBLEMS:
        cells, last = [], {}
        for method in methods:
            own = {
                row["seed"]: row["scores"][max(row["scores"], key=int)]
                for row in every
                if (row["problem"], row["method"]) == (name, method)
            }
            last[method] = own
            cells.append(_cell(list(own.values())))
        if any(cells):
            seeds = sorted({row["seed"] for row in every if row["problem"] == name})
            best = [
                score(found, found[:KNOWN])["coverage"]
                for found in map(partial(reference, name), seeds)
            ]
            lines.append((name, f"{np.median(best):.2f} ({min(best):.2f})", *cells))
        for method in methods[1:]:
            both = sorted(set(last[methods[0]]) & set(last[method]))
            if len(both) > 1:
                first, second = (
                    [last[m][seed]["coverage"] for seed in both] for m in (methods[0], method)
                )
                tests.append((name, method, len(both), round(wilcoxon(first, second), 4)))
    note = (
        "Median branch recall / median coverage (least coverage), number of seeds. Best 50: "
        "coverage of 50 designs that are chosen greedily with knowledge of the reference set."
    )
    return (
        Table(("problem", "best 50", *methods), tuple(lines), notes=(note,)),
        Table(("problem", "inverse against", "seeds", "p of coverage"), tuple(tests)),
    )


def _cell(scores: list[dict[str, float]]) -> str | None:
    if not scores:
        return None
    recall, coverage = ([one[key] for one in scores] for key in ("recall", "coverage"))
    return (
        f"{np.median(recall):.2f} / {np.median(coverage):.2f} ({min(coverage):.2f}), {len(scores)}"
    )


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    if given.command == "run":
        seeds = range(given.first, given.seeds)
        run(given.problems.split(","), given.methods.split(","), seeds)
        return
    found = "\n\n".join(one.markdown().strip() for one in tables())
    replace_marked(ROOT / "docs" / "inverse.md", "coverage", found)
    print(found)


if __name__ == "__main__":
    main()
