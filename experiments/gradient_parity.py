"""Parity with gradient descent: 150 calls, beside 5,000 calls of descents with gradients.

    python experiments/gradient_parity.py --seeds 3 --results parity-results
    python experiments/gradient_parity.py --seeds 3 --results parity-results --report

Ten networks of ``frozen_regressors.py``: those with the goals maximum and minimum of five seeds,
from the first seed of the draw on. Targets are left out, because descents and ``least_squares``
reach them to the last digits. Each network appears in four roles:

- ``network``: values only.
- ``network, gradients``: the same function, with gradients. A gradient counts as one call.
- ``forest``: its twin, a random forest fitted to the network's outputs at the real designs.
- ``forest, proxy``: the forest with the gradients of the network (``bi.GradientProxy``).

References are ``gradient`` with Adam and with L-BFGS at 5,000 calls, on the two roles with
gradients. A run is at parity if its loss is at most 1 % of the scale above the better reference of
the same function and seed. The scale is the distance from that reference to the median loss of
1,000 uniform draws. A search that beats the reference is at parity, too.

Finished runs are stored as in ``suites.py``; the same command resumes.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from parity_problems import Source, sources
from suites import DRAWS, chosen

import bo_invert as bi
from bo_invert.benchmark.progress import ProgressBar
from bo_invert.benchmark.results import Key, Results
from bo_invert.benchmark.resumable_runs import keys, run_missing
from bo_invert.cli.bench import parse_methods
from bo_invert.report.runs import Run
from bo_invert.report.statistical_tests import median
from bo_invert.report.table import Table
from bo_invert.types import JSON

#: Calls of the methods and of the references.
CALLS, REFERENCE_CALLS = 150, 5000
#: Share of the scale within which a run is at parity.
TOLERANCE = 0.01
SCALE_DRAWS = 1000
#: Role whose references a role is compared with.
COMPARED = {"network": "network, gradients", "forest": "forest, proxy"}
REFERENCES: dict[str, JSON] = {
    name: {"name": "gradient", "options": {"optimizer": name}} for name in ("adam", "lbfgs")
}


@cache
def typical_loss(source: Source) -> float:
    """Return the median loss of uniform draws."""
    drawn = source(0)
    points = drawn.domain.uniform(np.random.default_rng(0), SCALE_DRAWS)
    losses = [outcome.loss for outcome in drawn.evaluate([bi.Query(point) for point in points])]
    return float(np.median([loss for loss in losses if loss is not None]))


def differentiable(name: str) -> bool:
    return name not in COMPARED and name.split(" ", 1)[1] not in COMPARED


def wanted(options: argparse.Namespace) -> tuple[list[Key], list[Key]]:
    """Return the keys of the methods and of the references."""
    names = [name for name in sources(options.draw) if chosen(name, options.only)]
    seeds = range(options.first, options.first + options.seeds)
    with_gradients = [name for name in sources(options.draw) if differentiable(name)]
    return (
        keys(names, parse_methods(options.methods), seeds, CALLS, 1),
        keys(with_gradients, REFERENCES, seeds, REFERENCE_CALLS, 1),
    )


def run(options: argparse.Namespace) -> None:
    problems: dict[str, Any] = {
        name: source for name, source in sources(options.draw).items()
        if chosen(name, options.only)
    }  # fmt: skip
    with_gradients = {name: one for name, one in problems.items() if differentiable(name)}
    seeds = range(options.first, options.first + options.seeds)
    results = Results(options.results)
    rounds = (
        (problems, parse_methods(options.methods), CALLS),
        (with_gradients, REFERENCES, REFERENCE_CALLS),
    )
    for chosen_problems, methods, budget in rounds:
        with closing(ProgressBar(f"{budget} calls")) as progress:
            account = run_missing(
                chosen_problems, methods, seeds, budget=budget, batch=1, results=results,
                jobs=options.jobs, time_limit=options.time_limit, observer=progress,
            )  # fmt: skip
        for trouble in dict.fromkeys(account.troubles):
            print(trouble)
        print(f"{account.total - account.left} of {account.total} runs in {options.results}")


def excesses(runs: list[Run], references: list[Run], draw: str) -> dict[tuple[str, str], Any]:
    """Return the excesses over the reference, in scales, by role and method.

    Each entry maps a network to its excesses, one for each seed with a run of the method and both
    references.
    """
    best: dict[tuple[str, int], list[float]] = {}
    for one in references:
        best.setdefault((one.problem, one.seed), []).append(float(one.loss_at(REFERENCE_CALLS)))
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in runs:
        network, role = one.problem.split(" ", 1)
        twin = f"{network} {COMPARED.get(role, role)}"
        losses = best.get((twin, one.seed), [])
        if len(losses) == len(REFERENCES):
            typical = typical_loss(sources(draw)[one.problem])
            excess = (float(one.loss_at(CALLS)) - min(losses)) / (typical - min(losses))
            found.setdefault((role, one.label), {}).setdefault(network, []).append(excess)
    return found


def report(options: argparse.Namespace) -> str:
    results = Results(options.results)
    of_methods, of_references = wanted(options)
    runs = list(results.runs(of_methods).values())
    found = excesses(runs, list(results.runs(of_references).values()), options.draw)
    shares, details = [], []
    for (role, label), networks in found.items():
        values = [value for each in networks.values() for value in each]
        share = np.mean(np.array(values) <= TOLERANCE)
        shares.append((role, label, f"{share:.0%}", len(values), f"{median(values):+.2%}"))
        details += [
            (network, role, label, f"{np.mean(np.array(v) <= TOLERANCE):.0%}", f"{median(v):+.2%}")
            for network, v in networks.items()
        ]
    notes = (f"Excess over the better of Adam and L-BFGS with {REFERENCE_CALLS} calls.",)
    columns = ("role", "method", "within 1 %", "runs", "median excess")
    tables = (
        Table(columns, tuple(shares), f"Parity at {CALLS} calls", notes),
        Table(("network", *columns[:3], columns[4]), tuple(sorted(details)), "Each network"),
    )
    return "\n\n".join(table.markdown() for table in tables) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draw", choices=DRAWS, default="development")
    parser.add_argument("--methods", default="auto,gradient", help="as for bo-invert bench")
    parser.add_argument("--only", nargs="+", help="parts of the names of problems")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--time-limit", type=float, help="minutes after which no run starts")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="print tables of the stored runs")
    options = parser.parse_args()
    if options.report:
        print(report(options))
    else:
        run(options)


if __name__ == "__main__":
    main()
