"""Recommendations from noisy and exact oracles, with and without declared noise.

    python experiments/noise.py --strategies auto,gp,cmaes,random --seeds 5

Problems: the five synthetic functions of the public suite with normal noise of 0, 0.1, 0.3 and 1
standard deviations of the function over its domain, 60 calls. The script compares the true losses
of the best observed trial, of ``recommend()`` and of ``recommend(noisy=True)``, as regrets: excess
over the best visited point in standard deviations. For an exact oracle, ``recommend()`` must return
the best observed trial. The slope is that of ``models.noise_test``, before any repeated evaluation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.models.base import to_unit
from bo_invert.models.noise_test import neighbour_slope
from bo_invert.report.table import Table
from bo_invert.types import JSON, Array

ROOT = Path(__file__).parents[1]
PROBLEMS = ("hartmann6", "ackley10", "levy16", "rosenbrock8", "branin25")
LEVELS = (0.0, 0.1, 0.3, 1.0)
"""Standard deviations of the noise, in those of the function."""
CALLS = 60


@dataclass(frozen=True)
class Truth:
    """Function without noise, in its standard deviations, and its domain."""

    function: Callable[[Any], float]
    bounds: Array


def truth(name: str) -> Truth:
    problem = bi.ready_problem(name)
    domain = problem.statement.domain
    losses = [o.loss for o in problem.evaluate([bi.Query(p) for p in _draws(domain)])]
    spread = float(np.std([loss for loss in losses if loss is not None]))

    def function(x: Any) -> float:
        (outcome,) = problem.evaluate([bi.Query(np.asarray(x, dtype=float))])
        assert outcome.loss is not None
        return float(outcome.loss / spread)

    return Truth(function, domain.bounds)


def _draws(domain: Any) -> Array:
    return np.asarray(domain.sample(np.random.default_rng(7), 200))


def judged(exact: Truth, name: str, level: float, strategy: str, seed: int) -> JSON:
    """Run a study and return the regrets of its recommendations."""
    rng = np.random.default_rng([seed, 100])

    def oracle(x: Any) -> float:
        return exact.function(x) + level * float(rng.standard_normal())

    space = bi.Box(*exact.bounds)
    problem = bi.Problem(space, oracle, bi.Minimize(), name=name)
    study = bi.Study.create("s", problem, strategy, seed=seed).run(CALLS)
    history = study.history
    points, first = np.unique(history.points, axis=0, return_index=True)
    slope, error = neighbour_slope(to_unit(study.statement.domain, points), history.y[first])
    least = min(exact.function(trial.design) for trial in study.trials)
    assert study.best is not None
    chosen = {
        "seen": study.best,
        "recommended": study.recommend().trial,
        "declared": study.recommend(noisy=True).trial,
    }
    return {
        "problem": name, "level": level, "strategy": strategy, "seed": seed,
        **{key: round(exact.function(trial.design) - least, 6) for key, trial in chosen.items()},
        "noisy": study.recommend().noisy,
        "slope": round(slope, 3) if np.isfinite(slope) else None,
        "error": round(error, 3) if np.isfinite(slope) else None,
    }  # fmt: skip


def table(results: list[JSON]) -> Table:
    """Return one row for each strategy and level of noise, over problems and seeds."""
    rows: list[tuple[Any, ...]] = []
    for strategy in dict.fromkeys(r["strategy"] for r in results):
        for level in LEVELS:
            mine = [r for r in results if r["strategy"] == strategy and r["level"] == level]
            if not mine:
                continue
            seen, *others = (
                np.array([r[key] for r in mine]) for key in ("seen", "recommended", "declared")
            )
            pairs = [f"{(o < seen).sum()} : {(o > seen).sum()}" for o in others]
            means = [round(float(v.mean()), 3) for v in (seen, *others)]
            known = sum(r["noisy"] for r in mine)
            rows.append((strategy, level, len(mine), f"{known} of {len(mine)}", *means, *pairs))
    heads = (
        "strategy", "noise", "runs", "taken as noisy", "regret: best seen", "recommended",
        "declared noisy", "better : worse than best seen", "declared",
    )  # fmt: skip
    return Table(heads, tuple(rows), caption=f"Recommendations after {CALLS} calls")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", default="auto,gp,cmaes,random")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs", help="a folder like the project's docs"
    )
    options = parser.parse_args()
    path = options.out / "benchmarks" / "noise.json"
    results: list[JSON] = json.loads(path.read_text("utf-8")) if path.exists() else []
    done = {(r["problem"], r["level"], r["strategy"], r["seed"]) for r in results}
    for name in PROBLEMS:
        exact = truth(name)
        for strategy in options.strategies.split(","):
            for seed in range(options.seeds):
                for level in LEVELS:
                    if (name, level, strategy, seed) not in done:
                        results.append(judged(exact, name, level, strategy, seed))
                text = ",\n".join(json.dumps(result) for result in results)
                path.write_text(f"[\n{text}\n]\n", encoding="utf-8")
        print(name, flush=True)
    found = table(results).markdown().strip()
    replace_marked(options.out / "benchmarks.md", "noise", found)
    print(found)


if __name__ == "__main__":
    main()
