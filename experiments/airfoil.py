"""Airfoil benchmarks: regressor errors and the published search; input of docs/airfoil.md.

    python experiments/airfoil.py attack long published baseline --storage sqlite:///airfoil.db
    python experiments/airfoil.py conditions

The storage holds the runs; the same command resumes after an interruption. ``--report`` runs
nothing and writes the contents of the CSV files into the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import bo_invert as bi
from bo_invert.benchmark.compare import run_one
from bo_invert.problems.examples.airfoil import NeuralFoil, crossing, database, draw
from bo_invert.problems.examples.airfoil_shapes import CROSSING
from bo_invert.report.gallery import gallery_png
from bo_invert.report.statistical_tests import holm, wilcoxon

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "benchmarks" / "airfoil"
SEEDS = range(10)
#: Flow conditions of ``conditions``: angle of attack in degrees, Reynolds number.
CONDITIONS = ((0.0, 1e6), (2.0, 1e6), (6.0, 1e6), (4.0, 3e5), (4.0, 3e6), (5.0, 2e6))
SHOWN = ("auto", "gp, 99 %", "cmaes", "gradient in the box", "cmaes in the box", "screening")


def attack() -> tuple[bi.Problem, dict[str, Any]]:
    """Return the case with the smallest network as oracle and the largest as judge; 300 calls."""
    made = {
        space: bi.ready_problem("airfoil", space=space) for space in ("latent", "box", "database")
    }
    wide = bi.ready_problem("airfoil", realism=0.99)
    methods: dict[str, Any] = {name: name for name in ("auto", "gp", "turbo", "cmaes", "gradient")}
    methods |= {
        "best of N": "prior",
        "gp, 99 %": (wide, "gp"),
        "gradient, 99 %": (wide, "gradient"),
    }
    methods |= {f"{name} in the box": (made["box"], name) for name in ("gp", "cmaes", "gradient")}
    return made["latent"], methods | {"screening": (made["database"], "sobol")}


def long() -> tuple[bi.Problem, dict[str, Any]]:
    """Return the same case with 1,500 calls, for methods with cheap asks."""
    made = {space: bi.ready_problem("airfoil", space=space) for space in ("latent", "box")}
    careless = bi.ready_problem("airfoil", space="box", confidence=0.0)
    methods: dict[str, Any] = {name: name for name in ("cmaes", "gradient")}
    methods |= {f"{name} in the box": (made["box"], name) for name in ("cmaes", "gradient")}
    return made["latent"], methods | {"cmaes in the box, any confidence": (careless, "cmaes")}


def published() -> tuple[bi.Problem, dict[str, Any]]:
    """Return the published search: nine components within two standard deviations, 100 calls."""
    problem = bi.ready_problem("airfoil", space="modes", goal="weighted", model="medium")
    methods = {
        name: name
        for name in ("auto", "gp", "turbo", "spherical", "cmaes", "gradient", "botorch", "random")
    }
    return problem, methods | {"optuna gp": {"name": "optuna", "options": {"sampler": "gp"}}}


def baseline() -> tuple[bi.Problem, dict[str, Any]]:
    """Return the published search with displacements from NACA 4412, the centre of the box."""
    problem = bi.ready_problem(
        "airfoil", space="modes", goal="weighted", model="medium", baseline="naca4412"
    )
    return problem, {name: name for name in ("auto", "gp", "turbo", "cmaes", "random")}


CASES = {"attack": (attack, 300, 4), "long": (long, 1500, 4), "published": (published, 100, 1),
         "baseline": (baseline, 100, 1)}  # fmt: skip


def run(case: str, options: argparse.Namespace) -> pd.DataFrame:
    """Run a case; return one row per run and write the rows to a CSV file."""
    make, budget, batch = CASES[case]
    problem, methods = make()
    if options.only:
        methods = {
            label: method for label, method in methods.items() if label in options.only.split(";")
        }
    comparison = bi.compare(
        {case: problem}, methods, budget=budget, batch=batch, seeds=SEEDS, jobs=options.jobs,
        storage=options.storage, progress=True,
    )  # fmt: skip
    own = {
        label: method[0] if isinstance(method, tuple) else problem
        for label, method in methods.items()
    }
    frame = pd.DataFrame([row(one, own[one.label]) for one in comparison.runs])
    path = RESULTS / f"{case}.csv"
    if options.only and path.exists():
        old = pd.read_csv(path)
        frame = pd.concat([old[~old.method.isin(set(frame.method))], frame])
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.7g")
    if case == "attack" and not options.only:
        picture(comparison.runs, own)
    return frame


def row(one: Any, problem: bi.Problem) -> dict[str, Any]:
    """Return one run as a row: claimed and judged outputs, plausibility and shape checks."""
    found: dict[str, Any] = {
        "method": one.label,
        "seed": one.seed,
        "calls": one.bill.calls,
        "status": str(one.status),
    }
    if one.best is None:
        return found
    design = np.asarray(problem.decode(one.best.point))
    assert problem.judge is not None
    judged = dict(zip(problem.outputs, np.asarray(problem.judge([design]))[0], strict=True))
    claimed = dict(zip(problem.outputs, one.best.y, strict=True))
    name = problem.objective.names[0]
    at = {
        f"after {calls}": -float(one.loss_at([calls])[0])
        for calls in (50, 100)
        if calls < one.budget
    }
    return found | {
        "claimed": claimed[name], "judged": judged[name], "gap": claimed[name] / judged[name] - 1.0,
        "confidence": claimed["confidence"], "judged confidence": judged["confidence"],
        "realism": one.best.plausibility, "crossing": bool(crossing([design])[0] > CROSSING),
        **at, "seconds per ask": one.ask_seconds,
        "design": " ".join(f"{value:.7g}" for value in design),
    }  # fmt: skip


def picture(runs: Sequence[Any], own: Mapping[str, bi.Problem]) -> None:
    """Draw the best design of each method beside the nearest real airfoil."""
    shown = [one for label in SHOWN for one in runs if one.label == label and one.best is not None]
    designs = np.array([own[one.label].decode(one.best.point) for one in shown])
    real = database()
    nearest = sorted(set(real.nearest(designs)))
    png = gallery_png(
        shown, np.array([draw(real.designs[number]) for number in nearest]), columns=4
    )
    if png is not None:
        (DOCS / "images" / "airfoil.png").write_bytes(png)


def spread(values: pd.Series, digits: int = 1) -> str:
    low, middle, high = np.nanquantile(values.astype(float), (0.25, 0.5, 0.75))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def attack_table(frame: pd.DataFrame, ours: str = "auto") -> str:
    """Return one line per method, ordered by the judged lift-to-drag ratio.

    The paired tests score a design 0 if the judge does not trust it.
    """
    head = (
        "| method | claimed L/D | judge says | gap | judge trusts it | looks real | crossing "
        f"| against {ours} |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---|"]
    frame = frame.assign(score=frame.judged.where(frame["judged confidence"] >= 0.9, 0.0))
    tests = against(frame, ours, "score")
    for method in frame.groupby("method").judged.median().sort_values(ascending=False).index:
        runs = frame[frame.method == method]
        trusted = f"{int((runs['judged confidence'] >= 0.9).sum())} of {len(runs)}"
        crossed = f"{int(runs.crossing.fillna(False).astype(bool).sum())} of {len(runs)}"
        lines.append(
            f"| {method} | {spread(runs.claimed)} | {spread(runs.judged)} "
            f"| {spread(100 * runs.gap, 0)} % | {trusted} | {spread(runs.realism, 2)} "
            f"| {crossed} | {tests.get(method, '')} |"
        )
    return "\n".join(lines)


def published_table(frame: pd.DataFrame) -> str:
    """Return one line per method, ordered by its best output after 100 calls."""
    lines = [
        (
            "| method | after 50 calls | after 100 calls | best seed | judge says | s per ask "
            "| against auto |"
        ),
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    tests = against(frame, "auto", "claimed")
    for method in frame.groupby("method").claimed.median().sort_values(ascending=False).index:
        runs = frame[frame.method == method]
        lines.append(
            f"| {method} | {spread(runs['after 50'])} | {spread(runs.claimed)} "
            f"| {runs.claimed.max():.1f} | {spread(runs.judged)} "
            f"| {runs['seconds per ask'].median():.2g} | {tests.get(method, '')} |"
        )
    return "\n".join(lines)


def against(frame: pd.DataFrame, ours: str, column: str) -> dict[str, str]:
    """Count seeds won and lost per rival; add the Holm-adjusted exact signed-rank test."""
    pairs = frame.pivot(index="seed", columns="method", values=column)
    rivals = [name for name in pairs.columns if name != ours and ours in pairs]
    both = {name: pairs[[name, ours]].dropna() for name in rivals}
    gains = {name: (pair[name] - pair[ours]).to_numpy() for name, pair in both.items()}
    adjusted = holm([wilcoxon(pair[name], pair[ours]) for name, pair in both.items()])
    return {
        name: f"{(gains[name] > 0).sum()} won, {(gains[name] < 0).sum()} lost, p {p:.2g}"
        for name, p in zip(rivals, adjusted, strict=True)
    }


def screened() -> str:
    """Score all real airfoils; return the best by the smallest network and by the judge."""
    designs, names = torch.as_tensor(database().designs.copy()), database().names
    with torch.no_grad():
        claimed, judged = (
            NeuralFoil("xxsmall")(designs).numpy(),
            NeuralFoil("xxxlarge")(designs).numpy(),
        )
    lines = []
    for who, scores in (("xxsmall", claimed), ("xxxlarge", judged)):
        best = int(np.where(scores[:, 4] >= 0.9, scores[:, 0], -np.inf).argmax())
        lines.append(
            f"best of 2,174 by {who}: {names[best]}, claimed {claimed[best, 0]:.1f}, "
            f"judged {judged[best, 0]:.1f}, judge's confidence {judged[best, 4]:.2f}"
        )
    return "\n".join(lines)


def conditions() -> pd.DataFrame:
    """Run long gradient searches by number of components, plausibility and flow condition."""
    rows = []
    for alpha, reynolds in CONDITIONS:
        for dim in (6, 9, 12):
            for realism in (0.99, 0.95, 0.9):
                problem = bi.ready_problem(
                    "airfoil", dim=dim, realism=realism, alpha=alpha, reynolds=reynolds
                )
                strategy = {"name": "gradient", "options": {"screen": 0.05, "starts": 10}}
                found = row(run_one("gradient", problem, strategy, 3000, 200), problem)
                figures = {
                    key: found[key]
                    for key in ("claimed", "judged", "gap", "judged confidence", "realism")
                }
                rows.append(
                    {"alpha": alpha, "reynolds": reynolds, "dim": dim, "within": realism} | figures
                )
    frame = pd.DataFrame(rows)
    frame.to_csv(RESULTS / "conditions.csv", index=False, float_format="%.7g")
    return frame


def conditions_table(frame: pd.DataFrame) -> str:
    """Return one line per number of components and plausibility, over the flows."""
    lines = [
        "| components | realism | judged L/D, over flows | gap: median, worst | judge trusts it |",
        "|---:|---:|---|---|---:|",
    ]
    for (dim, within), runs in frame.groupby(["dim", "within"]):
        judged = ", ".join(f"{value:.0f}" for value in runs.judged)
        trusted = f"{int((runs['judged confidence'] >= 0.9).sum())} of {len(runs)}"
        lines.append(
            f"| {dim} | {within} | {judged} | {runs.gap.median():.0%}, {runs.gap.max():.0%} "
            f"| {trusted} |"
        )
    return "\n".join(lines)


TABLES: dict[str, Callable[[pd.DataFrame], str]] = {
    "attack": attack_table,
    "long": partial(attack_table, ours="cmaes"),
    "published": published_table,
    "baseline": published_table,
    "conditions": conditions_table,
}


def write(case: str, frame: pd.DataFrame) -> None:
    """Write the table into its marked place in airfoil.md."""
    page = DOCS / "airfoil.md"
    head, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {case} -->\n")
    if not mark:
        raise SystemExit(
            f"{page} has no place for {case}: a line <!-- {case} -->, and below it <!-- end -->"
        )
    tail = rest.partition("<!-- end -->\n")[2]
    page.write_text(
        f"{head}{mark}\n{TABLES[case](frame)}\n\n<!-- end -->\n{tail}", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=list(TABLES))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--storage", default="sqlite:///airfoil.db")
    parser.add_argument(
        "--only", default="", help="methods, separated by semicolons; rows of other methods stay"
    )
    parser.add_argument(
        "--report", action="store_true", help="run nothing, write the tables of what is there"
    )
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for case in options.cases:
        if options.report:
            frame = pd.read_csv(RESULTS / f"{case}.csv")
        else:
            frame = conditions() if case == "conditions" else run(case, options)
        write(case, frame)
        print(TABLES[case](frame))
        if case == "attack":
            print(screened())


if __name__ == "__main__":
    main()
