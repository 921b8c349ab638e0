"""Compare the strategies on arm, sine, Hartmann-6 and digits: the tables of docs/comparison.md.

    python experiments/strategies.py --jobs 2 --storage sqlite:///strategies.db

The storage holds the studies; the same command resumes after an interruption. Peers except CMA-ES
are excluded by default, because the benchmark compares them; ``--without ""`` includes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bo_invert as bi
from bo_invert import registry
from bo_invert.problems.examples.arm import targets as arm_targets
from bo_invert.problems.examples.sine import targets as sine_targets

ROOT = Path(__file__).parents[1]
SEEDS = range(10)
#: Calls of each run. Published results for arm and sine are for 50 calls.
BUDGETS = {"arm": 50, "sine": 50, "hartmann6": 60, "digits": 60}


def arm(seed: int) -> bi.Problem:
    return bi.ready_problem("arm", target=arm_targets(len(SEEDS), 0)[seed])


def sine(seed: int) -> bi.Problem:
    return bi.ready_problem("sine", target=sine_targets(len(SEEDS), 0)[seed])


def hartmann6(seed: int) -> bi.Problem:
    return bi.ready_problem("hartmann6")


def digits(seed: int) -> bi.Problem:
    return bi.ready_problem("digits", goal="maximize")


def digits_in_pixels(seed: int) -> bi.Problem:
    return bi.ready_problem("digits", goal="maximize", space="pixels")


PEERS = (
    "ax",
    "botorch",
    "differential_evolution",
    "dual_annealing",
    "nevergrad",
    "optuna",
    "scipy_least_squares",
    "trust_bo",
)
PROBLEMS = {"arm": arm, "sine": sine, "hartmann6": hartmann6, "digits": digits}


def methods(problem: str, without: list[str]) -> dict[str, object]:
    """Return the registered strategies, composed ones with their defaults."""
    chosen: dict[str, object] = {
        name: name for name in registry.names("strategies") if name not in without
    }
    if problem == "digits" and "gradient" not in without:
        chosen["gradient in pixels"] = (digits_in_pixels, "gradient")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--storage", default="sqlite:///strategies.db")
    parser.add_argument(
        "--without",
        default=",".join(PEERS),
        help="excluded strategies, separated by commas",
    )
    parser.add_argument("--only", default=",".join(PROBLEMS), help="problems, separated by commas")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    runs: list[object] = []
    for name in options.only.split(","):
        comparison = bi.compare(
            {name: PROBLEMS[name]},
            methods(name, options.without.split(",")),
            budget=BUDGETS[name],
            seeds=SEEDS,
            jobs=options.jobs,
            storage=options.storage,
            progress=True,
        )
        runs += comparison.runs
        write(bi.Comparison(tuple(runs)), options.out)  # type: ignore[arg-type]


def write(comparison: bi.Comparison, out: Path) -> None:
    """Write the tables into comparison.md, and one row for each run into comparison.csv."""
    page = out / "comparison.md"
    head, _, rest = page.read_text(encoding="utf-8").partition("<!-- tables -->\n")
    tail = rest.partition("<!-- end -->\n")[2]
    body = f"<!-- tables -->\n\n{comparison.markdown()}\n<!-- end -->\n"
    page.write_text(head + body + tail, encoding="utf-8")
    frame = comparison.to_dataframe().drop(columns=["ended"])
    frame.to_csv(out / "comparison.csv", index=False, float_format="%.6g")
    print(comparison.table())


if __name__ == "__main__":
    main()
