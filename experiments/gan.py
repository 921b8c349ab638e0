"""GAN benchmarks: target search in the latent and calibration of the plausibility.

    python experiments/gan.py targets --seeds 10        digits of a given slant, with every strategy
    python experiments/gan.py calibration --seeds 10    shares of samples below levels
    python experiments/gan.py page                      writes the tables into docs/generators.md

The script stores results as JSON beside the docs and runs only missing ones. A seed determines the
split of the data, both generators, the regressor, its judge and the search.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.generators.priors import NAMED
from bo_invert.problems.examples import digits
from bo_invert.problems.examples.digits import decoder_only, materials, slant
from bo_invert.report.table import Table
from bo_invert.types import JSON, Array

ROOT = Path(__file__).parents[1]
TARGETS = (0.2, 0.5, 0.8, 0.95)
"""Target slants. The forest predicts 0.1 to 0.86 (1 % and 99 % quantiles) for GAN samples."""
STRATEGIES = ("auto", "gp", "prior")
BUDGET = 100
TOLERANCE = 0.01
LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5)
DIMENSIONS = (8, 32)
_FRESH = 20_000


def reached(seed: int, known: list[JSON]) -> list[JSON]:
    """Run every target with every strategy; return calls to the tolerance and final errors.

    What is ``known`` of this seed is not done again.
    """
    made = materials(seed)
    training = decoder_only(made, seed).training
    found: list[JSON] = []
    for target in TARGETS:
        problem = digits.problem(target=target, seed=seed, tolerance=TOLERANCE, generator="gan")
        for strategy in STRATEGIES:
            if any(
                (r["seed"], r["target"], r["strategy"]) == (seed, target, strategy) for r in known
            ):
                continue
            study = bi.Study.create("s", problem, strategy=strategy, seed=seed).run(BUDGET)
            best = study.best
            assert best is not None
            assert best.y is not None
            design = problem.decode(best.point)
            (judged,), _ = problem.second_opinions([design])
            assert judged is not None
            assert judged.y is not None
            off = float(abs(best.y[0] - target))
            found.append(
                {
                    "seed": seed,
                    "target": target,
                    "strategy": strategy,
                    "off": off,
                    "calls": study.spent.calls if off <= TOLERANCE else None,
                    "judged": float(abs(judged.y[0] - target)),
                    "true": float(abs(slant(design[None])[0] - target)),
                    "realism": float(problem.plausibility([design])[0]),
                    "plausibility": float(problem.space.plausibility(best.point[None])[0]),
                    "coverage": training.figures["coverage"],
                    "possible": training.figures["coverage_of_real"],
                }
            )
            print(found[-1], flush=True)
    return found


def deviations(plausible: Array) -> list[float]:
    """Share of fresh samples below each level, less the level, in points."""
    return [round(100.0 * (float((plausible <= level).mean()) - level), 2) for level in LEVELS]


def calibrated(seed: int, dim: int) -> list[JSON]:
    """Measure calibration of plausibility for known and sampled priors and for real digits."""
    made = materials(seed, dim)
    gan = decoder_only(made, seed, dim).gan
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    fresh = rng.standard_normal((_FRESH, dim))
    found: dict[str, Array] = {}
    found["prior, known"] = bi.Latent(gan, dim).plausibility(fresh)
    for name in ("normal", "uniform"):
        carried = NAMED[name]

        def drawn(rng: np.random.Generator, n: int, prior: Any = carried) -> Array:
            codes: Array = prior.codes(rng.standard_normal((n, dim)))
            return codes

        measured = bi.Latent(gan, dim, prior=drawn, seed=seed)
        assert measured.measure is not None
        found[f"{name} prior, drawn from"] = measured.plausibility(
            measured.measure.whiten(carried.codes(fresh))
        )
    never_seen = np.concatenate([made.part("judge"), made.part("held_out")])
    found["digits encoded by the VAE"] = made.latent.plausibility(made.latent.encode(never_seen))
    taught = np.concatenate([made.part("generator"), made.part("regressors")])
    inverted = bi.Latent(gan, dim, data=taught, seed=seed)
    found["digits searched for in the GAN"] = inverted.plausibility(
        inverted.invert(made.part("held_out")).points
    )
    return [
        {"seed": seed, "dim": dim, "what": what, "samples": len(p), "points": deviations(p)}
        for what, p in found.items()
    ]


def targets_table(results: list[JSON]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for target in TARGETS:
        for strategy in STRATEGIES:
            runs = [r for r in results if r["target"] == target and r["strategy"] == strategy]
            calls = np.array([math.inf if r["calls"] is None else r["calls"] for r in runs])
            hit = int(np.isfinite(calls).sum())
            low, middle, high = np.quantile(calls, (0.25, 0.5, 0.75), method="nearest")
            spread = f"{_number(middle)} ({_number(low)} to {_number(high)})"
            medians = (
                float(np.median([r[key] for r in runs]))
                for key in ("judged", "true", "realism", "plausibility")
            )
            rows.append(
                (target, strategy, f"{hit}/{len(runs)}", spread, *(round(m, 3) for m in medians))
            )
    heads = (
        "target slant",
        "strategy",
        "reached",
        "calls: median (quartiles)",
        "judge off by",
        "formula off by",
        "realism",
        "plausibility",
    )
    return Table(heads, tuple(rows), caption=f"within {TOLERANCE} in {BUDGET} calls")


def calibration_table(results: list[JSON]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for dim in DIMENSIONS:
        for what in dict.fromkeys(r["what"] for r in results):
            runs = [r for r in results if r["dim"] == dim and r["what"] == what]
            if runs:
                points = np.array([r["points"] for r in runs])
                means = (f"{mean:+.1f}" for mean in points.mean(axis=0))
                chance = 100.0 * 0.5 / math.sqrt(runs[0]["samples"])
                rows.append(
                    (what, dim, len(runs), *means, f"{np.abs(points).max():.1f}", f"{chance:.1f}")
                )
    heads = (
        "fresh samples",
        "coordinates",
        "seeds",
        *(f"at {level}" for level in LEVELS),
        "worst",
        "s.e. at 0.5",
    )
    return Table(
        heads,
        tuple(rows),
        caption="share of fresh samples at or below a plausibility, less it, in points",
    )


def _number(calls: float) -> str:
    return f"{calls:.0f}" if math.isfinite(calls) else f"> {BUDGET}"


def page(out: Path) -> None:
    """Put the tables between their marks on the page."""
    text = (out / "generators.md").read_text(encoding="utf-8")
    tables: dict[str, Callable[[list[JSON]], Table]] = {
        "targets": targets_table,
        "calibration": calibration_table,
    }
    for name, table in tables.items():
        results = json.loads((out / "benchmarks" / f"gan-{name}.json").read_text(encoding="utf-8"))
        head, _, rest = text.partition(f"<!-- {name} -->\n")
        ends = f"<!-- end of {name} -->\n"
        body = table(results).markdown().strip()
        text = f"{head}<!-- {name} -->\n\n{body}\n\n{ends}{rest.partition(ends)[2]}"
        print(table(results).markdown())
    (out / "generators.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("targets", "calibration", "page"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMENSIONS, help="of calibration")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs", help="a folder like the project's docs"
    )
    options = parser.parse_args()
    if options.what == "page":
        page(options.out)
        return
    file = options.out / "benchmarks" / f"gan-{options.what}.json"
    results: list[JSON] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    for seed in range(options.seeds):
        started = time.perf_counter()
        if options.what == "targets":
            results += reached(seed, results)
        else:
            known = {r["dim"] for r in results if r["seed"] == seed}
            results += [
                row for dim in options.dims if dim not in known for row in calibrated(seed, dim)
            ]
        file.write_text(
            "[\n" + ",\n".join(json.dumps(row) for row in results) + "\n]\n", encoding="utf-8"
        )
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
