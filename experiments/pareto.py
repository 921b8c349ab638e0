"""Hypervolume of Pareto objectives, beside Ax, BoTorch and Optuna.

    python experiments/pareto.py run --methods auto,nsga2 --seeds 3   # adds rows; resumable
    python experiments/pareto.py table                                # writes docs/pareto.md

Problems: ZDT1 to ZDT3 in 6 dimensions, DTLZ2 with 3 criteria in 6 dimensions, Branin-Currin, the
welded beam with 4 constraints, and digits in a latent space of 8 principal components: the ink that
a forest predicts versus plausibility. All methods know the same reference point. One row holds the
hypervolume after 60 and 100 calls and the seconds of each ask.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from botorch.test_functions import multi_objective as functions
from marked_page import replace_marked
from scipy.stats import rankdata

import bo_invert as bi
from bo_invert.report.statistical_tests import wilcoxon
from bo_invert.report.table import Table

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "pareto.jsonl"
CALLS = (60, 100)
METHODS: dict[str, Any] = {
    "auto": "auto",
    "botorch": "botorch",
    "ax": "ax",
    "optuna_gp": {"name": "optuna", "options": {"sampler": "gp"}},
    "nsga2": {"name": "optuna", "options": {"sampler": "nsga2"}},
    "sobol": "sobol",
}


def closed_form(
    function: Any, reference: list[float], constraints: int = 0
) -> Callable[[], bi.Problem]:
    """Return a problem of a test function of BoTorch, whose slacks are constraints >= 0."""
    outputs = [f"f{i}" for i in range(function.num_objectives)]
    slacks = [f"slack{i}" for i in range(constraints)]

    def oracle(x: Any) -> Any:
        points = torch.tensor(np.asarray(x, dtype=float))[None]
        values = [function.evaluate_true(points)[0]]
        if constraints:
            values.append(function.evaluate_slack_true(points)[0])
        return torch.cat(values).numpy()

    def make() -> bi.Problem:
        low, high = function.bounds.numpy()
        criteria = bi.Pareto(*map(bi.Minimize, outputs), reference=reference)
        rules = [f"{slack} >= 0" for slack in slacks]
        return bi.Problem(
            bi.Box(low, high), oracle, criteria, outputs=[*outputs, *slacks], constraints=rules,
            name=type(function).__name__.lower(),
        )  # fmt: skip

    return make


@cache
def digits() -> bi.Problem:
    """Return ink versus plausibility of digits."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestRegressor

    images, _ = load_digits(return_X_y=True)
    model = PCA(8, random_state=0).fit(images)
    regressor = RandomForestRegressor(random_state=0).fit(images, (images > 8).sum(axis=1))
    space = bi.Latent(model.inverse_transform, dim=8, encoder=model.transform, data=images)
    criteria = bi.Pareto(bi.Maximize("ink"), bi.Plausibility(), reference=[10.0, 0.0])
    return bi.Problem(space, regressor, criteria, outputs=["ink"], name="digits")


# Reference points: the worst values of the true front plus 10 % of its range (Ishibuchi et al.
# 2011), rounded; those of BoTorch for Branin-Currin and the beam.
PROBLEMS: dict[str, Callable[[], bi.Problem]] = {
    "zdt1": closed_form(functions.ZDT1(dim=6, num_objectives=2), [1.1, 1.1]),
    "zdt2": closed_form(functions.ZDT2(dim=6, num_objectives=2), [1.1, 1.1]),
    "zdt3": closed_form(functions.ZDT3(dim=6, num_objectives=2), [1.1, 1.1]),
    "dtlz2": closed_form(functions.DTLZ2(dim=6, num_objectives=3), [1.1, 1.1, 1.1]),
    "branincurrin": closed_form(functions.BraninCurrin(), [18.0, 6.0]),
    "beam": closed_form(functions.WeldedBeam(), [40.0, 0.015], 4),
    "digits": digits,
}


def rows() -> list[dict[str, Any]]:
    """Return the recorded rows."""
    if not ROWS.exists():
        return []
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def run(problems: list[str], methods: list[str], seeds: range, calls: int) -> None:
    """Run what is missing and append a row for each run.

    Args:
        problems: names of problems.
        methods: names of methods.
        seeds: seeds.
        calls: calls of each run; fewer than 100 leave the second column empty.
    """
    done = {(row["problem"], row["method"], row["seed"]): row["calls"] for row in rows()}
    for seed in seeds:
        for problem in problems:
            for method in methods:
                if done.get((problem, method, seed), 0) >= calls:
                    continue
                began = time.process_time()
                study = bi.Study.create(method, PROBLEMS[problem](), METHODS[method], seed)
                study.run(calls)
                curve, asks = study.hypervolume, study.journal.ask_seconds
                row = {
                    "problem": problem, "method": method, "seed": seed, "calls": calls,
                    "volumes": {c: float(curve.volumes[c]) for c in CALLS if c <= calls},
                    "front": len(study.front), "ask_seconds": float(np.median(asks[-20:])),
                    "cpu_seconds": time.process_time() - began,
                }  # fmt: skip
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


def table(calls: int) -> tuple[Table, Table]:
    """Return mean hypervolumes and mean ranks, and paired tests of ``auto`` against the others."""
    found = {
        (row["problem"], row["method"], row["seed"]): row["volumes"][str(calls)]
        for row in rows()
        if str(calls) in row["volumes"]
    }
    methods = [name for name in METHODS if any(key[1] == name for key in found)]
    means, ranks = [], dict[str, list[float]]()
    tests = []
    for problem in PROBLEMS:
        cells = []
        for method in methods:
            own = [found[key] for key in found if key[:2] == (problem, method)]
            cells.append(f"{np.mean(own):.4g} ({len(own)})" if own else None)
        means.append((problem, *cells))
        for seed in sorted({key[2] for key in found if key[0] == problem}):
            present = [m for m in methods if (problem, m, seed) in found]
            placed = rankdata([-found[problem, m, seed] for m in present])
            for method, rank in zip(present, placed, strict=True):
                ranks.setdefault(method, []).append((rank - 1) / max(len(present) - 1, 1))
        for method in methods[1:]:
            pairs = [
                (found[problem, "auto", seed], found[problem, method, seed])
                for seed in range(100)
                if (problem, "auto", seed) in found and (problem, method, seed) in found
            ]
            if pairs:
                wins = sum(ours > theirs for ours, theirs in pairs)
                losses = sum(ours < theirs for ours, theirs in pairs)
                level = wilcoxon(*np.array(pairs).T)
                tests.append((problem, method, len(pairs), wins, losses, level))
    shares = [f"{np.mean(ranks[m]):.2f}" if m in ranks else None for m in methods]
    note = "Number of seeds in parentheses. Relative rank: 0 is the best of each run, 1 the worst."
    return (
        Table(("problem", *methods), (*means, ("mean relative rank", *shares)), notes=(note,)),
        Table(("problem", "against", "seeds", "wins of auto", "losses", "p"), tuple(tests)),
    )


def times(value: Callable[[dict[str, Any]], float]) -> Table:
    """Return medians over the seeds of a number of each row."""
    known = rows()
    methods = [name for name in METHODS if any(row["method"] == name for row in known)]
    lines = []
    for problem in PROBLEMS:
        cells = [
            [value(row) for row in known if (row["problem"], row["method"]) == (problem, m)]
            for m in methods
        ]
        lines.append((problem, *(f"{np.median(own):.2g}" if own else None for own in cells)))
    return Table(("problem", *methods), tuple(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=100)
    given = parser.parse_args()
    if given.command == "run":
        seeds = range(given.first, given.seeds)
        run(given.problems.split(","), given.methods.split(","), seeds, given.calls)
        return
    parts = []
    for calls in CALLS:
        volumes, tests = table(calls)
        parts += [f"After {calls} calls:", volumes.markdown(), tests.markdown()]
    wall = times(lambda row: row["ask_seconds"])
    processor = times(lambda row: row["cpu_seconds"] / row["calls"])
    parts += ["Wall-clock seconds of one ask (median of the last 20):", wall.markdown()]
    parts += ["Processor seconds of one call, the ask and all else:", processor.markdown()]
    replace_marked(ROOT / "docs" / "pareto.md", "pareto", "\n\n".join(parts))


if __name__ == "__main__":
    main()
