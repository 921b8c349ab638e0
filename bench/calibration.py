"""Are the models' intervals true? What a strategy's model said of every point it then asked for, beside what came.

    python bench/calibration.py --storage sqlite:///calibration.db --seeds 3

Runs of the public suite are kept in the storage; only those that are missing are run. Then every ask of every run is
asked again, from its log, and interrupted as soon as the strategy has fitted its model: the hyperparameters come from
the memo in the log, so it is the very model that chose the points. Points of the initial design are left out, since no
model chose them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import bo_invert as bi
from bo_invert.bench.suite import BATCH, BUDGET, chosen_problems
from bo_invert.log import Log
from bo_invert.models import exact
from bo_invert.models.base import to_unit
from bo_invert.models.diagnostics import Forecasts, predicted
from bo_invert.models.exact import Surrogate
from bo_invert.models.outputs import Outputs
from bo_invert.report.table import Table
from bo_invert.stores.open import open_store
from bo_invert.strategies.base import Request
from bo_invert.types import JSON, Trial

ROOT = Path(__file__).parents[1]
QUARTERS = 4


class Judged(NamedTuple):
    """Trials that one ask proposed, and what its model said of them."""

    trials: list[Trial]
    forecasts: Forecasts


class _Fitted(Exception):  # noqa: N818  (no error: it carries the model out of the ask)
    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate


def replayed(study: bi.Study, events: list[JSON]) -> Iterator[Judged]:
    """Every ask that had a model, with what came of its queries."""
    final = {trial.number: trial for trial in study.history.completed}
    log = Log()
    for event in events:
        before = len(log.trials)
        surrogate = _model(study, log.trials, event) if event["kind"] == "asked" else None
        log.apply([event])
        answered = [final[t.number] for t in log.trials[before:] if t.number in final]
        if surrogate is not None and answered:
            told = [t for t in log.trials[:before] if t.y is not None]
            everything = [*told, *answered]
            outputs = Outputs(study.statement, np.array([t.y for t in everything]),
                              np.array([t.loss for t in everything], dtype=float))  # fmt: skip
            inputs = to_unit(study.statement.domain, np.array([t.point for t in answered]))
            yield Judged(answered, predicted(surrogate, inputs, outputs.values[len(told) :]))


def _model(study: bi.Study, trials: tuple[Trial, ...], event: JSON) -> Surrogate | None:
    """The first model of an ask; None where it fitted none. What the ask noted holds the hyperparameters it found."""
    request = Request(event["ask"], len(event["queries"]), study.seed, event["budget"], event["memo"])
    fit = exact.fit

    def caught(*args: Any, **options: Any) -> Surrogate:
        raise _Fitted(fit(*args, **options))

    with mock.patch.object(exact, "fit", caught):
        try:
            study.strategy.ask(study.statement, trials, request)
        except _Fitted as done:
            return done.surrogate
    return None


def judged(study: bi.Study, events: list[JSON], budget: int) -> list[JSON]:
    """One summary for each quarter of a run."""
    quarters: list[list[np.ndarray]] = [[] for _ in range(QUARTERS)]
    for trials, forecasts in replayed(study, events):
        for trial, z in zip(trials, forecasts.z, strict=True):
            quarters[trial.number * QUARTERS // budget].append(z)
    return [_summary(np.array(zs)) if zs else {"points": 0} for zs in quarters]


def _summary(z: np.ndarray) -> JSON:
    """Of errors ``(points, outputs)`` in standard deviations."""
    return {
        "points": len(z),
        "in50": round(float((np.abs(z) <= 0.67448975).mean()), 4),
        "in90": round(float((np.abs(z) <= 1.64485363).mean()), 4),
        "median_z": round(float(np.median(z)), 3),
        "median_size": round(float(np.median(np.abs(z))), 3),
    }


def table(results: list[JSON], strategy: str) -> Table:
    """Coverage by problem and quarter, all seeds together."""
    rows: list[tuple[Any, ...]] = []
    names = list(dict.fromkeys(r["problem"] for r in results if r["strategy"] == strategy))
    for name in names:
        runs = [r["quarters"] for r in results if (r["problem"], r["strategy"]) == (name, strategy)]
        by_quarter = [_share([run[q] for run in runs], "in90") for q in range(QUARTERS)]
        every = [quarter for run in runs for quarter in run]
        rows.append((name, len(runs), *by_quarter, _share(every, "in90"), _share(every, "in50"),
                     _share(every, "median_z")))  # fmt: skip
    columns = list(zip(*rows, strict=True))[2:]
    rows.append(("mean of problems", None, *(round(float(np.mean([v for v in col if v is not None])), 2)
                                             for col in columns)))  # fmt: skip
    heads = ("problem", "runs", *(f"quarter {q + 1}" for q in range(QUARTERS)), "all", "50 % interval", "mean median z")
    return Table(heads, tuple(rows), caption=f"{strategy}: share of queried outcomes inside their 90 % intervals")


def _share(quarters: list[JSON], key: str) -> float | None:
    """Mean over points."""
    some = [quarter for quarter in quarters if quarter["points"]]
    weights = [quarter["points"] for quarter in some]
    return round(float(np.average([quarter[key] for quarter in some], weights=weights)), 2) if some else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sqlite:///calibration.db", help="where the runs are kept")
    parser.add_argument("--strategies", default="gp", help="names, separated by commas")
    parser.add_argument("--problems", help="of the suite, separated by commas; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "calibration.json")
    options = parser.parse_args()
    problems = chosen_problems(options.problems.split(",") if options.problems else None)
    results: list[JSON] = []
    for seed in range(options.seeds):
        for name, make in problems.items():
            for strategy in options.strategies.split(","):
                title = f"{name} / {strategy} / seed {seed}"
                study = bi.Study.create(title, make(seed), strategy, seed, options.storage, exist_ok=True)
                study.run(BUDGET, batch=BATCH, stop_when_hit=False)
                events = open_store(options.storage).events(title)
                results.append({"problem": name, "strategy": strategy, "seed": seed,
                                "quarters": judged(study, events, BUDGET)})  # fmt: skip
                print(title, results[-1]["quarters"], flush=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for strategy in options.strategies.split(","):
        print(table(results, strategy).markdown())


if __name__ == "__main__":
    main()
