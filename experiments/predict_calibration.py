"""Calibration of ``study.predict``: coverage and interval score at points without observations.

    python experiments/predict_calibration.py --seeds 4          # resumes; --tables only prints

The rule for the functions was written before any run. Sixteen functions that no other experiment
uses:

1. The models of physics with one output in the section "Emulation/prediction test problems" of the
   Virtual Library of Simulation Experiments (Surjanovic & Bingham): borehole, OTL circuit, piston,
   robot arm, wing weight.
2. Of the other functions of that section, the first in the alphabet with 2, 3 and 4 inputs of those
   that are given by one formula: Currin et al. (1988), Dette & Pepelyshev (2010), Park (1991) 1.
3. Eight frozen regressors of seed 16, drawn without replacement by ``default_rng(16)``.

Observations are 25 or 80 draws of the reference measure. 200 further draws judge the predictions of
all outputs that the objective reads. Their 90 % intervals are compared with the former ones, those
of the surrogate of ``gp`` without calibration. The interval score is that of Gneiting & Raftery
(2007) in standard deviations of an output: width plus 20 times the distance of misses; lower is
better. Scores of a point are cut at 50, because former intervals of warped outputs have no bound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from frozen_regressors import problem
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.diagnostics import forecast
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.report.statistical_tests import wilcoxon
from bo_invert.report.table import Table
from bo_invert.types import JSON, Array

ROOT = Path(__file__).parents[1]
SIZES, JUDGED = (25, 80), 200
SEED = 16
MAX_SCORE = 50.0


def borehole(x: Array) -> float:
    rw, r, tu, hu, tl, hl, length, kw = x
    log = np.log(r / rw)
    flow = 2.0 * np.pi * tu * (hu - hl)
    return float(flow / (log * (1.0 + 2.0 * length * tu / (log * rw**2 * kw) + tu / tl)))


def otl_circuit(x: Array) -> float:
    rb1, rb2, rf, rc1, rc2, beta = x
    vb1 = 12.0 * rb2 / (rb1 + rb2)
    gain = beta * (rc2 + 9.0)
    total = gain + rf
    return float(
        (vb1 + 0.74) * gain / total + 11.35 * rf / total + 0.74 * rf * gain / (total * rc1)
    )


def piston(x: Array) -> float:
    m, s, v0, k, p0, ta, t0 = x
    a = p0 * s + 19.62 * m - k * v0 / s
    v = s / (2.0 * k) * (np.sqrt(a**2 + 4.0 * k * p0 * v0 * ta / t0) - a)
    return float(2.0 * np.pi * np.sqrt(m / (k + s**2 * p0 * v0 * ta / (t0 * v**2))))


def robot_arm(x: Array) -> float:
    angles = np.cumsum(x[:4])
    return float(np.hypot((x[4:] * np.cos(angles)).sum(), (x[4:] * np.sin(angles)).sum()))


def wing_weight(x: Array) -> float:
    sw, wfw, a, sweep, q, taper, tc, nz, wdg, wp = x
    cos = np.cos(np.deg2rad(sweep))
    return float(
        0.036 * sw**0.758 * wfw**0.0035 * (a / cos**2) ** 0.6 * q**0.006 * taper**0.04
        * (100.0 * tc / cos) ** -0.3 * (nz * wdg) ** 0.49 + sw * wp
    )  # fmt: skip


def currin(x: Array) -> float:
    a, b = x
    rise = 1.0 - np.exp(-0.5 / max(b, 1e-12))
    top = 2300.0 * a**3 + 1900.0 * a**2 + 2092.0 * a + 60.0
    return float(rise * top / (100.0 * a**3 + 500.0 * a**2 + 4.0 * a + 20.0))


def dette_pepelyshev(x: Array) -> float:
    a, b, c = x
    bent = 4.0 * (a - 2.0 + 8.0 * b - 8.0 * b**2) ** 2 + (3.0 - 4.0 * b) ** 2
    return float(bent + 16.0 * np.sqrt(c + 1.0) * (2.0 * c - 1.0) ** 2)


def park(x: Array) -> float:
    a, b, c, d = np.maximum(x, 1e-9)
    root = a / 2.0 * (np.sqrt(1.0 + (b + c**2) * d / a**2) - 1.0)
    return float(root + (a + 3.0 * d) * np.exp(1.0 + np.sin(c)))


FORMULAS: dict[str, tuple[Callable[[Array], float], list[tuple[float, float]]]] = {
    "borehole": (
        borehole,
        [(0.05, 0.15), (100, 50000), (63070, 115600), (990, 1110), (63.1, 116), (700, 820),
         (1120, 1680), (9855, 12045)],
    ),
    "OTL circuit": (
        otl_circuit, [(50, 150), (25, 70), (0.5, 3), (1.2, 2.5), (0.25, 1.2), (50, 300)],
    ),
    "piston": (
        piston,
        [(30, 60), (0.005, 0.02), (0.002, 0.01), (1000, 5000), (90000, 110000), (290, 296),
         (340, 360)],
    ),
    "robot arm": (robot_arm, [(0, 2 * np.pi)] * 4 + [(0, 1)] * 4),
    "wing weight": (
        wing_weight,
        [(150, 200), (220, 300), (6, 10), (-10, 10), (16, 45), (0.5, 1), (0.08, 0.18), (2.5, 6),
         (1700, 2500), (0.025, 0.08)],
    ),
    "Currin 1988": (currin, [(0, 1)] * 2),
    "Dette & Pepelyshev 2010": (dette_pepelyshev, [(0, 1)] * 3),
    "Park 1991": (park, [(0, 1)] * 4),
}  # fmt: skip


def functions() -> dict[str, Callable[[], bi.Problem]]:
    """Return functions that make the sixteen problems, by name."""
    found: dict[str, Callable[[], bi.Problem]] = {}
    for name, (formula, bounds) in FORMULAS.items():
        low, high = np.array(bounds, dtype=float).T
        box = bi.Box(low, high)
        found[name] = lambda box=box, formula=formula: bi.Problem(  # type: ignore[misc]
            box, formula, bi.Minimize(), outputs=["y"]
        )
    for number in np.random.default_rng(SEED).permutation(20)[:8]:
        number = int(number)
        found[f"regressor {number:02d}"] = lambda number=number: problem(SEED, number)  # type: ignore[misc]
    return found


def judged(made: bi.Problem, n: int, seed: int) -> JSON:
    """Return coverage and interval score of the present and of the former intervals."""
    domain = made.statement.domain
    study = bi.Study.create("predictions", made, "random", seed)
    points = domain.sample(np.random.default_rng([SEED, seed, n]), n)
    outcomes = made.evaluate([bi.Query(point) for point in points])
    given = [i for i, outcome in enumerate(outcomes) if outcome.y is not None]
    study.add(points=points[given], Y=[outcomes[i].y for i in given])
    tested = domain.sample(np.random.default_rng([SEED, 999]), JUDGED)
    answers = made.evaluate([bi.Query(point) for point in tested])
    known = [i for i, answer in enumerate(answers) if answer.y is not None]
    y = np.array([answers[i].y for i in known])
    losses = np.array([answers[i].loss for i in known])
    history = study.history
    outputs = ModelledOutputs(made.statement, history.y, history.losses)
    columns = outputs.columns
    found = study.predict(points=tested[known])
    named = [found.outputs[made.outputs[j]] for j in columns]
    present = np.stack([one.low for one in named], 1), np.stack([one.high for one in named], 1)
    former = _former(made, history, tested[known], y, losses)
    spread = np.where(y.std(0) > 0, y.std(0), 1.0)[columns]
    loss = (losses >= found.loss.low) & (losses <= found.loss.high)
    return {
        "present": _scores(*present, y[:, columns], spread),
        "former": _scores(*former, y[:, columns], spread),
        "loss": round(float(loss.mean()), 4),
        "about": found.about,
    }


def _former(
    made: bi.Problem, history: History, tested: Array, y: Array, losses: Array
) -> tuple[Array, Array]:
    """Return the intervals of the surrogate of ``gp`` without calibration."""
    domain = made.statement.domain
    with one_thread():
        model = fit_model(made.statement, history, to_unit(domain, history.points))
        values = ModelledOutputs(made.statement, y, losses).values
        low, high = forecast(model.surrogate, to_unit(domain, tested), values).interval(0.9)
    first = len(model.outputs.names) - len(model.outputs.columns)
    return low[:, first:], high[:, first:]


def _scores(low: Array, high: Array, y: Array, spread: Array) -> JSON:
    missed = np.maximum(np.maximum(low - y, y - high), 0.0)
    score = np.minimum((high - low + 20.0 * missed) / spread, MAX_SCORE)
    return {
        "coverage": round(float((missed == 0.0).mean()), 4),
        "score": round(float(score.mean()), 4),
    }


def table(rows: list[JSON]) -> Table:
    """Return coverage and scores of each function, means of both kinds of intervals below."""
    lines: list[tuple[Any, ...]] = []
    names = list(dict.fromkeys(row["function"] for row in rows))
    for name in names:
        cells: list[Any] = [name]
        for n in SIZES:
            mine = [row for row in rows if row["function"] == name and row["n"] == n]
            cells += _cells(mine)
        lines.append(tuple(cells))
    columns = list(zip(*lines, strict=True))[1:]
    means = [round(float(np.mean(column)), 3) for column in columns]
    # The least coverage is of interest, and no least score.
    least = [
        round(min(column), 3) if j % 5 in (0, 1, 3) else None for j, column in enumerate(columns)
    ]
    heads = [
        f"{n}: {head}" for n in SIZES
        for head in ("former", "present", "former score", "loss", "present score")
    ]  # fmt: skip
    lines += [("mean", *means), ("least", *least)]
    return Table(("function", *heads), tuple(lines), caption="Coverage of 90 % intervals")


def paired(rows: list[JSON]) -> Table:
    """Return ratios of the scores of present and former intervals, and paired tests."""
    lines = []
    for n in SIZES:
        mine = [row for row in rows if row["n"] == n]
        present, former = (
            np.array([row[kind]["score"] for row in mine]) for kind in ("present", "former")
        )
        ratio = float(np.exp(np.log(present / former).mean()))
        lower = f"{int((present < former).sum())} of {len(mine)}"
        lines.append((n, round(ratio, 3), lower, round(wilcoxon(present, former), 3)))
    heads = ("observations", "ratio of scores (geometric mean)", "lower in", "p")
    return Table(heads, tuple(lines), caption="Interval scores, present against former")


def _cells(rows: list[JSON]) -> list[float]:
    pairs = (
        ("former", "coverage"), ("present", "coverage"), ("former", "score"), ("loss", None),
        ("present", "score"),
    )  # fmt: skip
    values = [[row[a] if b is None else row[a][b] for row in rows] for a, b in pairs]
    return [round(float(np.mean(one)), 3) for one in values]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tables", action="store_true", help="no runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    path = options.out / "benchmarks" / "predict_calibration.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["function"], row["n"], row["seed"]) for row in rows}
    for seed in range(0 if options.tables else options.seeds):
        for name, make in functions().items():
            for n in SIZES:
                if (name, n, seed) in done:
                    continue
                rows.append({"function": name, "n": n, "seed": seed, **judged(make(), n, seed)})
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        print(f"seed {seed}", flush=True)
    found = "\n\n".join(one.markdown().strip() for one in (table(rows), paired(rows)))
    replace_marked(options.out / "benchmarks.md", "predictions", found)
    print(found)


if __name__ == "__main__":
    main()
