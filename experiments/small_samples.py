"""Predictions of surrogates from few observations: coverage, log density and explained variance.

    python experiments/small_samples.py --seeds 2          # about 15 minutes of one core

The rule for the functions was written before any comparison. Functions: the five synthetic
functions of the public suite, ripples of one, two and four coordinates, twelve of the former with
six steps or with noise of 30 % of their standard deviation, and the first output of the twenty
frozen regressors of the development seed. The observations are drawn from the reference measure of
the domain, 10, 25, 50 or 100 of them; 300 further draws judge the predictions. Losses are warped as
in a search, outputs of targets are not.

The script compares the surrogate of ``gp`` with the most probable hyperparameters alone, with an
average over few observations (the default), and without warps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from frozen_regressors import DEVELOPMENT_SEED, sources
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.diagnostics import forecast
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.report.table import Table
from bo_invert.types import JSON, Array

ROOT = Path(__file__).parents[1]
SIZES = (10, 25, 50, 100)
SYNTHETIC = ("hartmann6", "ackley10", "levy16", "rosenbrock8", "branin25")
RIPPLES = ((1, 3.0), (1, 11.0), (2, 2.0), (2, 4.0), (4, 1.0))
"""Coordinates, and waves in the range of each."""
POOL, JUDGED = 900, 300
STEPS, NOISE = 6, 0.3
MODELS = ("most probable", "averaged", "averaged, no warp")
MIN_DENSITY = -50.0
"""Lower bound of a log density. Engineering choice: a single outlier does not decide a mean."""


class Function(NamedTuple):
    """Unit inputs, values and the direction of bad values, as of ``ModelledOutputs``."""

    inputs: Array
    values: Array
    direction: int


def functions() -> dict[str, Function]:
    """Return the drawn values of all functions by name."""
    rng, found = np.random.default_rng(5), dict[str, Function]()
    for name in SYNTHETIC:
        found[name] = _drawn(bi.ready_problem(name), 1)
    for d, waves in RIPPLES:
        x = rng.uniform(size=(POOL, d))
        values = np.cos(2.0 * np.pi * waves * x).sum(1) + 2.0 * ((x - 0.4) ** 2).sum(1)
        found[f"ripple {d}, {waves:.0f}"] = Function(x, values, 1)
    for name in (*SYNTHETIC, "ripple 2, 2"):
        plain = found[name]
        ranks = np.argsort(np.argsort(plain.values)) / POOL
        found[f"{name}, steps"] = plain._replace(values=np.floor(STEPS * ranks))
        noise = NOISE * plain.values.std() * rng.normal(size=POOL)
        found[f"{name}, noise"] = plain._replace(values=plain.values + noise)
    for name, make in sources(DEVELOPMENT_SEED).items():
        direction = 0 if "target" in name else -1 if "maximum" in name else 1
        found[name] = _drawn(make(0), direction)
    return found


def _drawn(problem: bi.Problem, direction: int) -> Function:
    points = problem.statement.domain.sample(np.random.default_rng(0), POOL)
    outcomes = problem.evaluate([bi.Query(point) for point in points])
    values = np.array([0.0 if outcome.y is None else outcome.y[0] for outcome in outcomes])
    return Function(to_unit(problem.statement.domain, points), values, direction)


def judged(function: Function, n: int, seed: int) -> Iterator[tuple[str, JSON]]:
    """Yield the scores of each model after n observations."""
    rows = np.random.default_rng([seed, n]).permutation(POOL)
    some, rest = rows[:n], rows[n : n + JUDGED]
    spread = float(function.values[rest].std())
    for name in MODELS:
        warps = None if name == MODELS[2] else (function.direction,)
        space = ModelSearchSpace.of("auto", False, warps)
        space = replace(space, averaged=name != MODELS[0])
        with one_thread():
            surrogate = fit_surrogate(
                function.inputs[some], function.values[some, None], None, space
            )
            found = forecast(surrogate, function.inputs[rest], function.values[rest, None])
        densities = found.log_densities[:, 0] + np.log(spread)
        yield (
            name,
            {
                "coverage": float(found.coverage(0.9)[0]),
                "log density": float(np.maximum(densities, MIN_DENSITY).mean()),
                "explained": max(-1.0, float(found.explained[0])),
            },
        )


def table(results: list[JSON]) -> Table:
    """Return means over functions and seeds by number of observations."""
    rows: list[tuple[Any, ...]] = []
    for n in SIZES:
        for name in MODELS:
            mine = [r for r in results if r["n"] == n and r["model"] == name]
            known = list(dict.fromkeys(r["function"] for r in mine))
            by_function = [
                float(np.mean([r["coverage"] for r in mine if r["function"] == f])) for f in known
            ]
            least = int(np.argmin(by_function))
            rows.append(
                (
                    n,
                    name,
                    round(float(np.mean(by_function)), 3),
                    round(float(np.quantile([r["coverage"] for r in mine], 0.1)), 2),
                    f"{by_function[least]:.2f} ({known[least]})",
                    *(round(float(np.mean([r[k] for r in mine])), 2) for k in _SCORES),
                )
            )
    heads = (
        "observations", "hyperparameters", "coverage", "10 % quantile", "worst function",
        "log density", "explained",
    )  # fmt: skip
    return Table(heads, tuple(rows), caption="90 % intervals of draws from the reference measure")


_SCORES = ("log density", "explained")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs", help="a folder like the project's docs"
    )
    options = parser.parse_args()
    results: list[JSON] = []
    for name, function in functions().items():
        for n in SIZES:
            for seed in range(options.seeds):
                for model, scores in judged(function, n, seed):
                    row = {"function": name, "n": n, "seed": seed, "model": model}
                    results.append({**row, **{k: round(v, 4) for k, v in scores.items()}})
        print(name, flush=True)
    text = ",\n".join(json.dumps(result) for result in results)
    path = options.out / "benchmarks" / "small_samples.json"
    path.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    found = table(results).markdown().strip()
    replace_marked(options.out / "benchmarks.md", "small samples", found)
    print(found)


if __name__ == "__main__":
    main()
