"""Calibration of prediction intervals: predictions at ask time against outcomes.

    python experiments/calibration.py --storage sqlite:///calibration.db --seeds 3

The storage holds the runs of the public suite; the script runs only missing ones. Queries hold
their predictions under the log key ``foretold``. Points of the initial design are excluded,
because no model chose them.

For ``gp`` the script also judges the model alone, without the widening of its intervals: on the
chosen points, on random points and by leave-one-out on the observations. The model is
conditioned again on its observations, with the hyperparameters of the memo in the log.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.benchmark.suite import BATCH, BUDGET, chosen_problems
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.diagnostics import forecast, leave_one_out
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.prediction_intervals import interval_coverage
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.table import Table
from bo_invert.storage.log_replay import Log
from bo_invert.storage.open import open_store
from bo_invert.types import JSON, Array, Query, Trial

ROOT = Path(__file__).parents[1]
QUARTERS = 4
ALONE = ("queried", "random", "left out")
_DRAWN = 64
"""Random test points per run. Their oracle calls are not billed to the run.

Engineering choice: small compared with the budget of a run.
"""
_EVERY = 4
"""Asks between two judgements on random points. Engineering choice: limits the cost."""


def models(
    study: bi.Study, events: list[JSON]
) -> Iterator[tuple[Surrogate, tuple[Trial, ...], range]]:
    """Yield each model of a ``gp`` run with its observations and the numbers it chose."""
    log = Log()
    for event in events:
        before = log.trials
        log.apply([event])
        if event["kind"] == "asked" and event["memo"]:
            yield (
                _model(study, before, event["memo"]["outputs"]),
                before,
                range(len(before), len(log.trials)),
            )


def _model(study: bi.Study, trials: tuple[Trial, ...], memo: JSON) -> Surrogate:
    """Rebuild the model of an ask from the hyperparameters in its memo."""
    history = History(trials)
    inputs = to_unit(study.statement.domain, history.points)
    with one_thread():
        return fit_model(
            study.statement, history, inputs, memo, subset=select_subset(inputs, history.order)
        ).surrogate


def judged(study: bi.Study, events: list[JSON], budget: int) -> JSON:
    """Return shares of outcomes below, inside and above their intervals, by quarter.

    For ``gp`` add the coverage of the model alone.
    """
    alone = _alone(study, events) if study.strategy.name == "gp" else {}
    return {"quarters": _by_quarter(study.statement, study.trials, budget), "alone": alone}


def _alone(study: bi.Study, events: list[JSON]) -> dict[str, float]:
    """Return the coverage of the models' own intervals."""
    assert study.problem is not None
    statement, trials = study.statement, study.trials
    drawn = [Query(p) for p in statement.domain.uniform(np.random.default_rng(0), _DRAWN)]
    outcomes = study.problem.evaluate(drawn)
    some = [i for i, outcome in enumerate(outcomes) if outcome.y is not None]
    elsewhere = _modelled(
        study, np.array([outcomes[i].y for i in some]), [outcomes[i].loss or 0.0 for i in some]
    )
    there = to_unit(statement.domain, np.array([drawn[i].point for i in some]))
    inside: dict[str, list[Array]] = {name: [] for name in ALONE}
    for i, (surrogate, known, chosen) in enumerate(models(study, events)):
        observed, answered = History(known), History([trials[number] for number in chosen])
        if answered.completed:
            values = _modelled(study, answered.y, answered.losses)
            inputs = to_unit(statement.domain, answered.points)
            inside["queried"].append(forecast(surrogate, inputs, values).coverage(0.9))
        if i % _EVERY == 0:
            inside["random"].append(forecast(surrogate, there, elsewhere).coverage(0.9))
            if len(surrogate.gp.inputs) == len(observed.points):
                values = _modelled(study, observed.y, observed.losses)
                inside["left out"].append(leave_one_out(surrogate, values).coverage(0.9))
    return {name: round(float(np.mean(shares)), 4) for name, shares in inside.items() if shares}


def _modelled(study: bi.Study, y: Array, losses: Any) -> Array:
    return ModelledOutputs(study.statement, y, np.asarray(losses, dtype=float)).values


def _by_quarter(statement: ProblemStatement, trials: Sequence[Trial], budget: int) -> list[JSON]:
    quarters = []
    for q in range(QUARTERS):
        some = [
            t for t in trials if t.number * QUARTERS // budget == q and "foretold" in t.query.meta
        ]
        records = interval_coverage(statement, some).values()
        counts = (
            np.array([(r.below, r.inside, r.above) for r in records], dtype=float)
            .reshape(-1, 3)
            .sum(0)
        )
        shares = counts / max(counts.sum(), 1.0)
        below, inside, above = (round(float(share), 4) for share in shares)
        quarters.append({"queries": len(some), "below": below, "inside": inside, "above": above})
    return quarters


def table(results: list[JSON], strategy: str) -> Table:
    """Return coverage by problem and quarter over all seeds."""
    mine = [r for r in results if r["strategy"] == strategy]
    rows: list[tuple[Any, ...]] = []
    for name in dict.fromkeys(r["problem"] for r in mine):
        runs = [r for r in mine if r["problem"] == name]
        quarters = [_inside([run["quarters"][q] for run in runs]) for q in range(QUARTERS)]
        every = _inside([quarter for run in runs for quarter in run["quarters"]])
        judged = (_mean([run["alone"].get(which) for run in runs]) for which in ALONE)
        rows.append((name, len(runs), *quarters, every, *judged))
    means = (_mean([row[j] for row in rows]) for j in range(2, len(rows[0])))
    rows.append(("mean of problems", None, *means))
    heads = (
        "problem", "runs", *(f"quarter {q + 1}" for q in range(QUARTERS)), "whole run",
        "model alone: queried", "random", "left out",
    )  # fmt: skip
    return Table(
        heads, tuple(rows), caption=f"{strategy}: share of outcomes inside their 90 % intervals"
    )


def _inside(quarters: list[JSON]) -> float | None:
    """Return the mean coverage, weighted by queries."""
    weights = [quarter["queries"] for quarter in quarters]
    shares = [quarter["inside"] for quarter in quarters]
    return round(float(np.average(shares, weights=weights)), 2) if sum(weights) else None


def _mean(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return round(float(np.mean(known)), 2) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--storage", default="sqlite:///calibration.db", help="database URL of the runs"
    )
    parser.add_argument("--strategies", default="gp", help="names, separated by commas")
    parser.add_argument("--problems", help="of the suite, separated by commas; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs", help="a folder like the project's docs"
    )
    options = parser.parse_args()
    problems = chosen_problems(options.problems.split(",") if options.problems else None)
    strategies = options.strategies.split(",")
    results: list[JSON] = []
    for seed in range(options.seeds):
        for name, make in problems.items():
            for strategy in strategies:
                title = f"{name} / {strategy} / seed {seed}"
                study = bi.Study.create(
                    title, make(seed), strategy, seed, options.storage, exist_ok=True
                )
                study.run(BUDGET, batch=BATCH, stop_when_hit=False)
                events = open_store(options.storage).events(title)
                found = judged(study, events, BUDGET)
                results.append({"problem": name, "strategy": strategy, "seed": seed, **found})
                print(title, results[-1], flush=True)
    text = ",\n".join(json.dumps(result) for result in results)
    (options.out / "benchmarks" / "calibration.json").write_text(
        f"[\n{text}\n]\n", encoding="utf-8"
    )
    tables = "\n\n".join(table(results, strategy).markdown().strip() for strategy in strategies)
    replace_marked(options.out / "benchmarks.md", "calibration", tables)
    print(tables)


if __name__ == "__main__":
    main()
