"""Stop rules on the public suite: share of runs that stop too early, and share of calls saved.

    python experiments/stopping.py --storage sqlite:///stopping.db --seeds 20   # resumes
    python experiments/stopping.py --tables

The storage holds runs of ``auto`` with the budget and the batch size of the suite. Rules are judged
along these runs: the outlook of a rule is computed from the trials up to each check, as in a run
with the rule. A run of the suite that ends by itself, because its target is reached, counts with
the calls that it made.

A run *stops too early* if the remaining gain exceeds the bound that the outlook states when the
rule holds. The remaining gain is the difference to the global minimum if it is known, and to the
end of the run otherwise. The table also counts the gain of the further calls of the run alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.benchmark.suite import BATCH, BUDGET, PROBLEMS
from bo_invert.history import History, best_so_far
from bo_invert.models.prediction.fit import fit_predictor
from bo_invert.report.objective_view import Goal
from bo_invert.report.table import Table
from bo_invert.storage.log_replay import Log
from bo_invert.storage.open import open_store
from bo_invert.study.outlook import outlook
from bo_invert.study.stop import checks
from bo_invert.types import JSON, Trial

ROOT = Path(__file__).parents[1]
RULES = (
    "gain:0.1%",
    "gain:1%",
    "regret:0.1%",
    "regret:1%",
    "regret:5%",
    "patience:20",
    "patience:50",
)


def recorded(storage: str, name: str, seed: int) -> bi.Study:
    """Return a finished run of a problem of the suite."""
    made = PROBLEMS[name](seed)
    study = bi.Study.create(f"{name} {seed}", made, "auto", seed, storage, exist_ok=True)
    return study.run(BUDGET, batch=BATCH, stop_when_hit=False)


def states(study: bi.Study, storage: str) -> list[tuple[Trial, ...]]:
    """Return the trials after each answer."""
    log, found = Log(), list[tuple[Trial, ...]]()
    for event in open_store(storage).events(study.name):
        log.apply([event])
        if event["kind"] in ("finished", "added"):
            found.append(log.trials)
    return found


def judged(study: bi.Study, name: str, seed: int, storage: str) -> JSON:
    """Return the outlooks at all checks of a run, and its curve."""
    statement, rows, seen = study.statement, list[JSON](), 0
    goal = Goal(statement.objective.to_json(), statement.outputs)
    for trials in states(study, storage):
        history = History(trials)
        count = len(history.completed)
        if checks(count) <= checks(seen):
            continue
        seen = count
        noisy = history.noise_observed
        predictor = fit_predictor(statement, history, noisy=noisy)
        found = outlook(predictor, history, noisy, goal, best_so_far(history.trials))
        rows.append(found.to_json())
    calls, losses = best_so_far(study.trials)
    falls = np.flatnonzero(losses < np.concatenate([[np.inf], losses[:-1]]))
    return {
        "problem": name,
        "seed": seed,
        "calls": calls[falls].tolist(),
        "losses": losses[falls].tolist(),
        "end": int(calls[-1]),
        "outlooks": rows,
    }


def stopped(run: JSON, rule: str) -> JSON | None:
    """Return calls and bound at the first check at which a rule holds; None if it never does."""
    kind, _, number = rule.partition(":")
    if kind == "patience":
        for call in range(1, run["end"] + 1):
            last = max((c for c in run["calls"] if c <= call), default=call)
            if call - last >= int(number):
                return {"calls": call, "bound": None}
        return None
    share, key = float(number.rstrip("%")) / 100.0, "bound" if kind == "regret" else "expected"
    for one in run["outlooks"]:
        if one["decided"] and one[key] is not None and one[key] <= share * one["scale"]:
            return {"calls": one["calls"], "bound": max(one["bound"], share * one["scale"])}
    return None


def gains(run: JSON, calls: int) -> tuple[float, float]:
    """Return the remaining gain after some calls: to the global minimum, and of the run itself."""
    best = [loss for call, loss in zip(run["calls"], run["losses"], strict=True) if call <= calls][
        -1
    ]
    end, optimum = run["losses"][-1], PROBLEMS[run["problem"]].optimum
    return best - (end if optimum is None else min(optimum, end)), best - end


def table(runs: list[JSON]) -> Table:
    """Return one row for each rule."""
    rows: list[tuple[Any, ...]] = []
    for rule in RULES:
        saved = total = early = missed = ended = 0
        for run in runs:
            total += run["end"]
            found = stopped(run, rule)
            if found is None:
                continue
            ended += 1
            saved += run["end"] - found["calls"]
            every, own = gains(run, found["calls"])
            bound = found["bound"]
            if bound is None:  # patience states no bound
                scale = run["outlooks"][-1]["scale"] if run["outlooks"] else 0.0
                bound = 0.01 * (scale or 0.0)
            early += every > bound
            missed += own > bound
        rows.append(
            (rule, f"{ended} of {len(runs)}", round(early / len(runs), 3),
             round(missed / len(runs), 3), round(saved / total, 3))
        )  # fmt: skip
    heads = ("rule", "runs that stop", "too early", "too early within the run", "calls saved")
    return Table(heads, tuple(rows), caption="Stop rules along runs of auto on the public suite")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", default="sqlite:///stopping.db")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--tables", action="store_true", help="no runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    path = options.out / "benchmarks" / "stopping.jsonl"
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(run["problem"], run["seed"]) for run in runs}
    for seed in range(0 if options.tables else options.seeds):
        for name in options.problems:
            if (name, seed) in done:
                continue
            runs.append(judged(recorded(options.storage, name, seed), name, seed, options.storage))
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(name, seed, flush=True)
    found = table(runs).markdown().strip()
    if options.out == ROOT / "docs":
        replace_marked(options.out / "benchmarks.md", "stopping", found)
    print(found)


if __name__ == "__main__":
    main()
