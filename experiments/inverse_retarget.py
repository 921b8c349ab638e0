"""Calls to new targets after logs of old ones; input of docs/retargeting.md.

    python experiments/inverse_retarget.py run --problems sine,arm --targets 50
    python experiments/inverse_retarget.py table

A log is a chain of studies, each retargeted from the one before, for targets y = f(x) with x from
the reference measure. New targets are drawn in the same way. Rows are appended to
docs/benchmarks/inverse_retarget.jsonl; the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.report.statistical_tests import wilcoxon
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_retarget.jsonl"
OLD = (1, 3, 10)
PER_CHAIN = 10  # new targets of each log
SHARE = 1e-3  # tolerance as a share of the range of an output
RANGE_DRAWS = 1000
SHELL_LOSS = 1e-6


@dataclass(frozen=True)
class Case:
    """Outputs of the target, options of the ready problem, and the calls of a run."""

    outputs: tuple[str, ...]
    options: dict[str, Any]
    calls: int = 100


PROBLEMS = {
    "sine": Case(("y",), {"differentiable": False}),
    "arm": Case(("across", "along"), {"differentiable": False}),
    "digits": Case(("slant",), {"target": 0.5, "oracle": "network"}),
    "airfoil": Case(("CL", "CM"), {}),
    "shell": Case((), {}, 200),
}


@cache
def ready(name: str) -> bi.Problem:
    return bi.ready_problem(name, **PROBLEMS[name].options)


def outputs_of(name: str, points: Array) -> Array:
    """Return the outputs ``(n, k)`` of the target at points ``(n, d)``."""
    made = ready(name)
    y = np.array([one.y for one in made.evaluate([bi.Query(point) for point in points])])
    names = PROBLEMS[name].outputs or made.outputs
    return np.asarray(y[:, [made.outputs.index(one) for one in names]])


@cache
def ranges(name: str) -> Array:
    """Return the range of each output over draws of the reference measure."""
    points = ready(name).domain.sample(np.random.default_rng(0), RANGE_DRAWS)
    return np.asarray(np.ptp(outputs_of(name, points), axis=0))


def target(name: str, *seed: int) -> bi.Target:
    """Return a reachable target, with the tolerance of the case."""
    points = ready(name).domain.sample(np.random.default_rng(seed), 1)
    value = outputs_of(name, points)[0]
    if name == "shell":
        return bi.Target(value)
    names = PROBLEMS[name].outputs
    tolerance = dict(zip(names, SHARE * ranges(name), strict=True))
    scale = dict(zip(names, ranges(name).tolist(), strict=True))
    return bi.Target(dict(zip(names, value.tolist(), strict=True)), tolerance, scale)


def cold_study(name: str, objective: bi.Target, seed: int) -> bi.Study:
    """Return a study without observations."""
    known = ready(name)
    made = bi.Problem(
        known.space, known.oracle, objective, outputs=known.output_names.oracle, name=name,
        realism=known.realism,
    )  # fmt: skip
    return bi.Study.create(name, made, "auto", seed)


def finish(name: str, study: bi.Study) -> bool:
    """Run until the target is reached or the calls are spent; return whether it is reached."""

    def reached() -> bool:
        best = study.best
        if best is None or best.loss is None or best.y is None:
            return False
        if name == "shell":
            return best.loss <= SHELL_LOSS
        return bool(study.statement.objective.satisfied(best.y))

    if not reached():
        study.run(PROBLEMS[name].calls, stop=reached)
    return reached()


@cache
def chain(name: str, number: int, old: int) -> bi.Study:
    """Return the study that ends a chain of this many targets."""
    objective = target(name, 1, number, old)
    if old == 1:
        study = cold_study(name, objective, number)
    else:
        study = chain(name, number, old - 1).retarget(objective)
    finish(name, study)
    return study


def new_run(name: str, old: int, number: int) -> dict[str, Any]:
    """Return the row of one new target after this many old ones; 0 for none."""
    objective = target(name, 2, number)
    row: dict[str, Any] = {"problem": name, "old": old, "target": number}
    if old == 0:
        study = cold_study(name, objective, 100 + number)
    else:
        study = chain(name, number // PER_CHAIN, old).retarget(objective, seed=100 + number)
        found = study.predicted_solution(tolerance=SHARE if name == "shell" else None)
        y = outputs_of(name, found.point[None])[0]
        gap = np.abs(y - np.array(objective.value))
        limit = SHARE if name == "shell" else SHARE * ranges(name)
        row |= {
            "data": len(study.trials), "predicted": round(found.hit, 4),
            "met": bool((gap <= limit).all()), "gap": float((gap / ranges(name)).max()),
        }  # fmt: skip
    began = time.process_time()
    row["reached"] = finish(name, study)
    row["calls"] = study.spent.calls
    row["by"] = [trial.origin for trial in study.trials if trial.ask is not None][:12]
    row["cpu_seconds"] = round(time.process_time() - began, 2)
    return row


def run(problems: list[str], numbers: range, olds: list[int]) -> None:
    """Run what is missing and append a row for each run."""
    done = {(row["problem"], row["old"], row["target"]) for row in rows()}
    for number in numbers:
        for name in problems:
            for old in olds:
                if (name, old, number) in done:
                    continue
                row = new_run(name, old, number)
                ROWS.parent.mkdir(exist_ok=True)
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(*row.values(), flush=True)


def rows() -> list[dict[str, Any]]:
    """Return the recorded rows."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [json.loads(line) for line in lines]


def tables() -> tuple[Table, Table]:
    """Return calls beside those of cold starts, and the calibration of the first answers."""
    every, lines, quality = rows(), [], []
    for name in PROBLEMS:
        cold = {row["target"]: row for row in every if (row["problem"], row["old"]) == (name, 0)}
        for old in OLD:
            own = {
                row["target"]: row for row in every if (row["problem"], row["old"]) == (name, old)
            }
            if not own:
                continue
            calls = [row["calls"] for row in own.values()]
            both = sorted(set(own) & set(cold))
            pairs = [[log[one]["calls"] for one in both] for log in (own, cold)]
            p = round(wilcoxon(*pairs), 4) if len(both) > 1 else None
            lines.append((
                name, old, len(own), f"{np.median(calls):g}", f"{np.quantile(calls, 0.9):g}",
                sum(not row["reached"] for row in own.values()),
                f"{np.median(pairs[1]):g}" if both else None, p,
            ))  # fmt: skip
            predicted = float(np.mean([row["predicted"] for row in own.values()]))
            met = float(np.mean([row["met"] for row in own.values()]))
            quality.append((
                name, old, f"{predicted:.2f}", f"{met:.2f}",
                f"{np.median([row['gap'] for row in own.values()]):.1e}",
            ))  # fmt: skip
    columns = ("problem", "old targets", "new targets", "median calls", "90 % quantile",
               "not reached", "median calls, cold", "p")  # fmt: skip
    note = "p: Wilcoxon signed-rank test of the calls of the same targets with and without a log."
    about = ("problem", "old targets", "mean predicted probability", "share of hits",
             "median gap in ranges")  # fmt: skip
    return Table(columns, tuple(lines), notes=(note,)), Table(about, tuple(quality))


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--old", default="0,1,3,10")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--targets", type=int, default=50)
    given = parser.parse_args()
    if given.command == "run":
        numbers, olds = (
            range(given.first, given.targets),
            [int(one) for one in given.old.split(",")],
        )
        run(given.problems.split(","), numbers, olds)
        return
    found = "\n\n".join(one.markdown().strip() for one in tables())
    replace_marked(ROOT / "docs" / "retargeting.md", "further targets", found)
    print(found)


if __name__ == "__main__":
    main()
