"""Referee of the suites: frozen regressors, mixed spaces, BOCoDe and COCO.

    python experiments/suites.py --suite frozen --methods auto,random,prior,cmaes,"optuna tpe" \
        --seeds 3 --calls 100 --results frozen-results
    python experiments/suites.py --suite frozen --calls 100 --results frozen-results --report

Each finished run is one line of ``RESULTS/<problem>/<method>.jsonl``: every improvement of the loss
with its number of calls, the judge's loss, billed calls, and seconds of asks. The same command
resumes after an interruption and runs what is missing. ``frozen-data`` has the boxes of ``frozen``
with the real designs as their reference measure, ``Box(data=...)``; ``bocode-few`` has twelve
problems of ``bocode``. ``--draw acceptance`` selects the problems of the published results, which
are not for development.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from marked_page import replace_marked
from suite_tables import (
    BASELINES,
    choices_table,
    gaps_table,
    judged_table,
    margins_table,
    medians_table,
)

from bo_invert.benchmark.progress import ProgressBar
from bo_invert.benchmark.results import Key, Results
from bo_invert.benchmark.resumable_runs import run_missing
from bo_invert.benchmark.single_run import ProblemSource
from bo_invert.benchmark.suite import own_labels
from bo_invert.cli.bench import parse_methods
from bo_invert.report.benchmark_tables import BenchmarkRuns, benchmark_tables
from bo_invert.report.provenance import MIXED
from bo_invert.report.runs import Run
from bo_invert.report.table import Table

CALLS = (25, 50, 100, 200)
METHODS = "auto,random,prior,cmaes,optuna tpe"
DRAWS = ("development", "acceptance")
#: Widest table on a page of the docs; wider ones have one column per problem.
MAX_COLUMNS = 14


@dataclass(frozen=True)
class Suite:
    """Problems of a suite.

    Args:
        problems: functions of the seed of a run, by name.
        optima: known optimal losses.
        limit: interquartile ranges of a baseline by which a median may be behind it.
        data: claimed and judged losses of the best of N real designs, as a function of a problem's
            name, N and the number of draws; None without judges.
        best: categories of the optimum, as a function of a problem's name and a seed.
    """

    problems: Mapping[str, ProblemSource]
    optima: Mapping[str, float | None] = field(default_factory=dict)
    limit: float = 1.0
    data: Callable[[str, int, int], list[tuple[float, float]]] | None = None
    best: Callable[[str, int], Mapping[str, str]] | None = None


def frozen(draw: str, *, measured: bool = False) -> Suite:
    from frozen_regressors import ACCEPTANCE_SEED, DEVELOPMENT_SEED, sources

    made = sources(ACCEPTANCE_SEED if draw == "acceptance" else DEVELOPMENT_SEED, measured)

    def data(name: str, calls: int, draws: int) -> list[tuple[float, float]]:
        problem = made[name](0)
        return [problem.best_of_data(calls, seed) for seed in range(draws)]

    return Suite(made, limit=0.0, data=data)


def mixed(draw: str) -> Suite:
    from mixed_tasks import ACCEPTANCE_SEED, DEVELOPMENT_SEED, sources

    made = sources(ACCEPTANCE_SEED if draw == "acceptance" else DEVELOPMENT_SEED)
    return Suite(
        made, dict.fromkeys(made, 0.0), best=lambda name, seed: made[name].categories(seed)
    )


def bocode(draw: str) -> Suite:
    from bocode_tasks import sources

    return Suite(sources())


def bocode_few(draw: str) -> Suite:
    from bocode_tasks import FEW, sources

    return Suite(sources(FEW))


def coco(draw: str) -> Suite:
    from coco_tasks import sources

    made = sources()
    return Suite(made, dict.fromkeys(made, 0.0))


SUITES: dict[str, Callable[[str], Suite]] = {
    "frozen": frozen,
    "frozen-data": partial(frozen, measured=True),
    "mixed": mixed,
    "bocode": bocode,
    "bocode-few": bocode_few,
    "coco": coco,
}


def stored(results: Results, suite: Suite, calls: int) -> list[Run]:
    """Read all stored runs of a suite with this budget, of any method."""
    keys = []
    for path in sorted(results.folder.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                value = json.loads(line)
            except ValueError:  # torn by a crash
                continue
            if value["problem"] in suite.problems and value["budget"] == calls:
                fields = ("problem", "label", "spec", "seed", "budget", "batch")
                keys.append(Key(**{name: value[name] for name in fields}))
    order = list(suite.problems)
    return sorted(results.runs(keys).values(), key=lambda run: order.index(run.problem))


def tables(suite: Suite, runs: list[Run], options: argparse.Namespace) -> list[Table]:
    """Return ranks, tests and medians, then the tables of a suite."""
    calls = (*(number for number in CALLS if number < options.calls), options.calls)
    specs = {run.label: run.strategy for run in runs}
    data = BenchmarkRuns(tuple(runs), calls, options.against, suite.optima, own_labels(specs))
    tables = [
        *benchmark_tables(data),
        medians_table(runs, calls),
        gaps_table(runs, calls, options.against, BASELINES, suite.limit),
        gaps_table(
            runs, calls, options.against,
            [label for label in specs if label not in (*BASELINES, options.against)], 0.0,
        ),
    ]  # fmt: skip
    names = dict.fromkeys(run.problem for run in runs)
    if suite.data is not None:
        best = {name: suite.data(name, options.calls, options.seeds) for name in names}
        tables.append(judged_table(runs, best))
    if suite.best is not None:
        seeds = {run.seed for run in runs}
        right = {name: {seed: suite.best(name, seed) for seed in seeds} for name in names}
        tables.append(choices_table(runs, right))
    if options.reference is not None:
        from coco_reference import best_2009, reference_table

        tables.append(reference_table(runs, best_2009(options.reference)))
    return [table for table in tables if table.rows]


def further_tables(runs: list[Run], options: argparse.Namespace) -> list[Table]:
    """Return tables that a page of the docs omits."""
    calls = (*(number for number in CALLS if number < options.calls), options.calls)
    peers = [label for label in BASELINES if label in {run.label for run in runs}]
    return [margins_table(runs, calls, options.against, peers)]


def markdown(made: list[Table]) -> str:
    return "\n\n".join(table.markdown() for table in made) + "\n"


def run(suite: Suite, options: argparse.Namespace) -> None:
    methods = parse_methods(options.methods)
    names = [name for name in suite.problems if chosen(name, options.only)]
    problems: dict[str, Any] = {name: suite.problems[name] for name in names}
    progress = ProgressBar(f"{len(problems)} problems, {len(methods)} methods")
    with closing(progress):
        account = run_missing(
            problems, methods, range(options.first, options.first + options.seeds),
            budget=options.calls, batch=1, results=Results(options.results), jobs=options.jobs,
            time_limit=options.time_limit, observer=progress,
        )  # fmt: skip
    for trouble in dict.fromkeys(account.troubles):
        print(trouble)
    print(f"{account.total - account.left} of {account.total} runs in {options.results}")


def chosen(name: str, only: list[str] | None) -> bool:
    """Return True if a problem's name holds one of the texts, or if there are none."""
    return only is None or any(text in name for text in only)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=SUITES, required=True)
    parser.add_argument("--draw", choices=DRAWS, default="development")
    parser.add_argument("--methods", default=METHODS, help="as for bo-invert bench --strategies")
    parser.add_argument("--only", nargs="+", help="parts of the names of problems")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--time-limit", type=float, help="minutes after which no run starts")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="print tables of the stored runs")
    parser.add_argument("--page", type=Path, help="page of the docs to fill, with --report")
    parser.add_argument("--reference", type=Path, help="best2009-bbob.tar.gz of cocopp")
    parser.add_argument("--against", default="auto", help="method that is tested")
    options = parser.parse_args()
    suite = SUITES[options.suite](options.draw)
    if not options.report:
        run(suite, options)
        return
    runs = stored(Results(options.results), suite, options.calls)
    runs = [one for one in runs if chosen(one.problem, options.only)]
    if not runs:
        raise SystemExit(f"{options.results} holds no runs of this suite with this budget")
    made = tables(suite, runs, options)
    print(markdown([*made, *further_tables(runs, options)]))
    if options.page is not None:
        page = [t for t in made if len(t.columns) <= MAX_COLUMNS and t.caption != MIXED]
        replace_marked(options.page, options.suite, markdown(page))


if __name__ == "__main__":
    main()
