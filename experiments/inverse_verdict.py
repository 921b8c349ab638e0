"""Verdicts on targets: false alarms, power, calibration, nearest attainable outputs.

    python experiments/inverse_verdict.py run                     # resumes
    python experiments/inverse_verdict.py run --problems branin,forest --targets 6
    python experiments/inverse_verdict.py reachable               # many targets, one log
    python experiments/inverse_verdict.py table                   # writes docs/reachability.md

Thirteen functions, chosen before any run, with one or two outputs, whose attainable outputs are
known from 100,000 draws and local optimisation. Five are stepwise, two noisy, two have a latent,
one fails in a part of its domain. The tolerance is 2 % of the range of the first output. The
standard deviation of noise is half a tolerance. Half of the targets of a problem are outputs of
designs. Of four of them, two maximise the outputs in a random direction, one is nearest to a random
point between the least and largest outputs, and one is the output of a random design. The other
half lies outside: 0.1 to 5 tolerances, log-uniform, beyond the tolerance of all attainable outputs.

Targets from number 1000 on are for development. The method was developed with targets 1001 to 1004
and 1010, the schedule of estimates also with earlier targets of "forest arm", "latent forest" and
"rounded branin".

A run has 200 calls and the rule ``verdict``; its asks are for its own target. The score of a target
is its latest estimate within 100 calls; 1 after a hit, and before the first estimate. The command
``reachable`` estimates all 50 targets of a problem from a log of 60 Sobol points.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from marked_page import replace_marked

import bo_invert as bi
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_verdict.jsonl"
MANY_ROWS = ROOT / "docs" / "benchmarks" / "inverse_reachable.jsonl"
FIGURE = ROOT / "docs" / "images" / "inverse_verdict.png"
CALLS = 200
LOG = 60
DRAWN = 100_000
TARGETS = 50
LOW, HIGH = 0.1, 5.0
OUTWARD = 4
SHARE = 0.02

Function = Callable[[Array], Array]
"""Function from inputs ``(n, d)``, in [0, 1] or a latent, to outputs ``(n, m)``."""


def branin(u: Array) -> Array:
    x, y = 15.0 * u[:, 0] - 5.0, 15.0 * u[:, 1]
    bent = y - 5.1 / (4.0 * np.pi**2) * x**2 + 5.0 / np.pi * x - 6.0
    found = bent**2 + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(x) + 10.0
    return np.asarray(found)[:, None]


def hartmann(u: Array) -> Array:
    a = np.array([[3.0, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
    p = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743,
                        8828]])  # fmt: skip
    inside = (a * (u[:, None] - p) ** 2).sum(-1)
    return -(np.exp(-inside) @ np.array([1.0, 1.2, 3.0, 3.2]))[:, None]


def friedman(u: Array) -> Array:
    found = 10.0 * np.sin(np.pi * u[:, 0] * u[:, 1]) + 20.0 * (u[:, 2] - 0.5) ** 2
    return np.asarray(found + 10.0 * u[:, 3] + 5.0 * u[:, 4])[:, None]


def arm(u: Array) -> Array:
    """Return the position of an arm of three links whose joints turn by at most 60 degrees."""
    angles = np.cumsum((u - 0.5) * 2.0 * np.pi / 3.0, axis=1)
    return np.stack([np.cos(angles) @ [1.0, 0.8, 0.6], np.sin(angles) @ [1.0, 0.8, 0.6]], axis=1)


def mixing(u: Array) -> Array:
    """Return two saturated mixtures of four inputs."""
    weights = np.array([[1.0, 0.4, -0.7, 0.2], [-0.3, 0.9, 0.5, -0.8]])
    return np.tanh((u - 0.5) @ weights.T * 1.5) + 0.2 * np.stack(
        [np.sin(3.0 * u[:, 0] * u[:, 1]), np.cos(2.0 * u[:, 2])], axis=1
    )


def latent_shape(z: Array) -> Array:
    """Return an output of designs that a small decoder makes."""
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((4, 24)) / 2.0, rng.standard_normal((24, 12)) / 4.0
    design = np.tanh(np.tanh(z @ first) @ second)
    return np.asarray((design**2).mean(1) + 0.5 * design[:, :3].sum(1))[:, None]


@cache
def forest(name: str) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    function, dim = {"friedman": (friedman, 5), "arm": (arm, 3), "latent": (latent_shape, 4)}[name]
    rng = np.random.default_rng(11)
    x = rng.standard_normal((800, dim)) if name == "latent" else rng.random((800, dim))
    return RandomForestRegressor(60, min_samples_leaf=3, random_state=0).fit(
        x, function(x).squeeze()
    )


def forest_of(name: str) -> Function:
    return lambda u: np.asarray(forest(name).predict(u)).reshape(len(u), -1)


@dataclass(frozen=True)
class Case:
    """Problem: function, number of inputs, and its kinds."""

    function: Function
    dim: int
    kinds: frozenset[str] = frozenset()


def case(function: Function, dim: int, *kinds: str) -> Case:
    return Case(function, dim, frozenset(kinds))


CASES = {
    "branin": case(branin, 2),
    "hartmann": case(hartmann, 3),
    "friedman": case(friedman, 5),
    "arm": case(arm, 3),
    "rounded branin": case(lambda u: 4.0 * np.round(branin(u) / 4.0), 2, "stepwise"),
    "rounded mixing": case(lambda u: 0.02 * np.round(mixing(u) / 0.02), 4, "stepwise"),
    "forest friedman": case(forest_of("friedman"), 5, "stepwise"),
    "forest arm": case(forest_of("arm"), 3, "stepwise"),
    "noisy friedman": case(friedman, 5, "noisy"),
    "noisy mixing": case(mixing, 4, "noisy"),
    "latent": case(latent_shape, 4, "latent"),
    "latent forest": case(forest_of("latent"), 4, "latent", "stepwise"),
    "failing branin": case(branin, 2, "failing"),
}


def valid(one: Case, inputs: Array) -> Array:
    """Return a mask of the inputs at which the oracle returns outputs and that a run may try."""
    if "latent" in one.kinds:
        return np.linalg.norm(inputs, axis=1) <= 3.64  # the radius of the domain, 99 %
    inside = ((inputs >= 0.0) & (inputs <= 1.0)).all(1)
    if "failing" in one.kinds:
        inside &= ((inputs - [0.9, 0.8]) ** 2).sum(1) > 0.35**2
    return inside


@cache
def draws(name: str) -> tuple[Array, Array]:
    """Return dense inputs and their outputs."""
    one, rng = CASES[name], np.random.default_rng(5)
    if "latent" in one.kinds:
        inputs = rng.standard_normal((DRAWN, one.dim)) * rng.uniform(0.5, 2.0, (DRAWN, 1))
    else:
        # Corners hold the extremes of monotone functions.
        inputs = np.clip(rng.uniform(-0.1, 1.1, (DRAWN, one.dim)), 0.0, 1.0)
    inputs = inputs[valid(one, inputs)]
    return inputs, one.function(inputs)


def least_distance(name: str, distance: Callable[[Array], Array]) -> tuple[float, Array]:
    """Minimise a function of outputs over the valid inputs; return it and the outputs."""
    one, rng = CASES[name], np.random.default_rng(7)
    inputs, outputs = draws(name)
    order = np.argsort(distance(outputs))[:24]
    points, values = inputs[order], distance(outputs)[order]
    for scale in 0.2 * 0.8 ** np.arange(40):
        moved = points[:, None] + scale * rng.standard_normal((len(points), 60, one.dim))
        flat = moved.reshape(-1, one.dim)
        flat = flat if "latent" in one.kinds else np.clip(flat, 0.0, 1.0)
        found = distance(one.function(flat))
        found = np.where(valid(one, flat), found, np.inf).reshape(len(points), -1)
        best = found.argmin(1)
        rows = np.arange(len(points))
        better = found[rows, best] < values
        moved = flat.reshape(len(points), -1, one.dim)
        points = np.where(better[:, None], moved[rows, best], points)
        values = np.minimum(values, found[rows, best])
    least = values.argmin()
    return float(values[least]), one.function(points[[least]])[0]


@dataclass(frozen=True)
class Wanted:
    """Target: values, tolerance, true distance beyond the tolerance, nearest true outputs."""

    value: Array
    tolerance: float
    excess: float
    nearest: Array


@cache
def wanted(name: str, number: int) -> Wanted:
    """Return target ``number``: even ones are reachable, odd ones are not."""
    outputs = draws(name)[1]
    rng = np.random.default_rng([2, number, *name.encode()])
    tolerance = SHARE * float(np.ptp(outputs[:, 0]))
    direction = rng.standard_normal(outputs.shape[1])
    direction /= np.abs(direction).max()
    if number % 2:
        return outside(name, tolerance, direction, rng)
    if number % 4 == 2:
        _, value = least_distance(name, lambda y: -(y @ direction))
    elif number % 8 == 4:
        # A design for a random point between the least and largest outputs: rare outputs as well.
        low, high = outputs.min(0), outputs.max(0)
        value = outputs[np.abs(outputs - rng.uniform(low, high)).max(1).argmin()]
    else:
        one = CASES[name]
        fresh = rng.standard_normal((64, one.dim)) if "latent" in one.kinds else rng.random(
            (64, one.dim)
        )  # fmt: skip
        value = one.function(fresh[valid(one, fresh)])[0]
    return Wanted(value, tolerance, 0.0, value)


def outside(name: str, tolerance: float, direction: Array, rng: np.random.Generator) -> Wanted:
    """Return a target beyond the edge in a direction, whose excess is log-uniform."""
    beyond = float(np.exp(rng.uniform(np.log(LOW), np.log(HIGH))))
    _, edge = least_distance(name, lambda y: -(y @ direction))
    step = beyond
    for _ in range(OUTWARD):
        value = edge + (1.0 + step) * tolerance * direction
        distance, nearest = least_distance(name, partial(largest_gap, value))
        excess = distance / tolerance - 1.0
        # Outputs beside the edge may be nearer than the edge itself.
        step += beyond - excess
    return Wanted(value, tolerance, excess, nearest)


def largest_gap(value: Array, outputs: Array) -> Array:
    """Return the largest absolute difference ``(n,)`` of outputs ``(n, m)`` from a value."""
    return np.asarray(np.abs(outputs - value).max(-1))


def problem(name: str, number: int) -> bi.Problem:
    one, target = CASES[name], wanted(name, number)
    names = [f"y{j}" for j in range(len(target.value))]
    noise = np.random.default_rng([number, 1])

    def oracle(x: Any) -> Array:
        at = np.asarray(x, dtype=float).reshape(1, -1)
        if "failing" in one.kinds and not valid(one, at)[0]:
            raise RuntimeError("no convergence")
        y = one.function(at)[0]
        if "noisy" in one.kinds:
            y = y + 0.5 * target.tolerance * noise.standard_normal(len(y))
        return np.asarray(y)

    space: Any = bi.Box([0.0] * one.dim, [1.0] * one.dim)
    if "latent" in one.kinds:
        space = bi.Latent(lambda z: z, one.dim)
    goal = bi.Target(dict(zip(names, target.value.tolist(), strict=True)), target.tolerance)
    return bi.Problem(space, oracle, goal, outputs=names, name=name)


def options_of(name: str) -> dict[str, Any]:
    return {"noisy": True} if "noisy" in CASES[name].kinds else {}


def judge(name: str, number: int, strategy: str) -> dict[str, Any]:
    """Run a target and return its row."""
    began, target = time.process_time(), wanted(name, number)
    made = problem(name, number)
    study = bi.Study.create(name, made, strategy, seed=number, **options_of(name))
    study.run(CALLS, stop="verdict")
    found = study.verdict()
    estimates = [
        (trial.number + 1, trial.query.meta["reach"])
        for trial in study.trials
        if "reach" in trial.query.meta
    ]
    within = [reach for calls, reach in estimates if calls <= CALLS // 2]
    calls = study.spent.calls
    reached = found.status == "reached"
    score = 1.0 if reached and calls <= CALLS // 2 else within[-1] if within else 1.0
    error = None
    if found.nearest is not None and not reached:
        scale = np.ptp(draws(name)[1], axis=0)
        values = np.array([found.nearest.outputs[one] for one in made.outputs])
        gap = np.abs(values - target.value).max() - np.abs(target.nearest - target.value).max()
        error = float(abs(gap) / scale.max())
    return {
        "problem": name, "target": number, "strategy": strategy, "excess": target.excess,
        "status": found.status, "probability": found.probability, "calls": calls, "score": score,
        "error": error, "limited_by": list(found.limited_by), "estimates": estimates,
        "why": found.why, "seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def run(names: list[str], targets: range, strategy: str, rows: Path) -> None:
    known = {(row["problem"], row["target"], row["strategy"]) for row in read(rows)}
    rows.parent.mkdir(exist_ok=True)
    for number in targets:
        for name in names:
            if (name, number, strategy) in known:
                continue
            row = judge(name, number, strategy)
            with rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print({key: value for key, value in row.items() if key != "estimates"}, flush=True)


def reachable(names: list[str], targets: range, rows: Path) -> None:
    """Estimate many targets of each problem from one log that was made for none of them."""
    known = {row["problem"] for row in read(rows)}
    for name in names:
        if name in known:
            continue
        made, some = problem(name, 0), [wanted(name, number) for number in targets]
        outputs = draws(name)[1]
        far = outputs.max(0) + np.ptp(outputs, axis=0)
        goal = bi.Target(dict(zip(made.outputs, far.tolist(), strict=True)), some[0].tolerance)
        away = bi.Problem(made.space, made.oracle, goal, outputs=made.outputs, name=name)
        study = bi.Study.create(name, away, "sobol", seed=0).run(LOG)
        began = time.process_time()
        found = study.reachable(np.array([one.value for one in some]))
        row = {
            "problem": name, "targets": list(targets), "excess": [one.excess for one in some],
            "probability": found.probability.tolist(), "verified": found.verified.tolist(),
            "why": found.why, "seconds": round(time.process_time() - began, 1),
        }  # fmt: skip
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({key: row[key] for key in ("problem", "why", "seconds")}, flush=True)


def read(rows: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []


def auroc(inside: list[float], outside: list[float]) -> float:
    """Return the probability that a reachable target has a higher score, ties count half."""
    a, b = np.array(inside)[:, None], np.array(outside)[None]
    return float(((a > b) + 0.5 * (a == b)).mean()) if a.size and b.size else float("nan")


def unreachable(row: dict[str, Any], calls: int) -> bool:
    return bool(row["status"] == "unreachable" and row["calls"] <= calls)


def share(count: int, some: Sequence[object]) -> str:
    return f"{count} of {len(some)}" if some else "-"


def summary(rows: list[dict[str, Any]]) -> tuple[object, ...]:
    inside = [row for row in rows if row["excess"] <= 0.0]
    outside = [row for row in rows if row["excess"] > 0.0]
    clear = [row for row in outside if row["excess"] >= 1.0]
    errors = [row["error"] for row in outside if row["error"] is not None]
    scores = [row["score"] for row in inside], [row["score"] for row in outside]
    return (
        share(sum(unreachable(row, CALLS) for row in inside), inside),
        share(sum(unreachable(row, CALLS // 2) for row in clear), clear),
        share(sum(unreachable(row, CALLS // 2) for row in outside), outside),
        f"{auroc(*scores):.3f}",
        f"{np.median(errors):.1%}, {np.quantile(errors, 0.9):.1%}" if errors else "-",
        f"{np.median([row['calls'] for row in outside]):.0f}" if outside else "-",
    )


COLUMNS = ("problems", "false alarms", "unreachable, from 1 tolerance", "unreachable, all", "AUROC",
           "error of nearest outputs: median, 90 %", "calls")  # fmt: skip


def by_problem(rows: list[dict[str, Any]]) -> str:
    groups = {name: [row for row in rows if row["problem"] == name] for name in CASES}
    kinds = sorted({kind for one in CASES.values() for kind in one.kinds})
    groups |= {
        f"all {kind} ones": [row for row in rows if kind in CASES[row["problem"]].kinds]
        for kind in kinds
    }
    groups["all"] = rows
    lines = tuple((name, *summary(some)) for name, some in groups.items() if some)
    return Table(COLUMNS, lines).markdown()


def by_distance(rows: list[dict[str, Any]]) -> str:
    lines = []
    for low, high in itertools.pairwise([LOW, 0.25, 0.5, 1.0, 2.0, HIGH]):
        some = [row for row in rows if low <= row["excess"] < high]
        met = sum(row["status"] == "reached" for row in some)
        counts = [sum(unreachable(row, calls) for row in some) for calls in (CALLS // 2, CALLS)]
        lines.append((f"{low:g} to {high:g}", *(share(one, some) for one in (*counts, met))))
    heads = ("distance in tolerances", "unreachable in 100 calls", "in 200 calls", "met")
    return Table(heads, tuple(lines)).markdown()


Estimates = list[tuple[float, bool]]
"""Probabilities of targets that no trial meets, each with the truth."""


def pending(rows: list[dict[str, Any]]) -> Estimates:
    """Return the estimates at half of the calls or at the end of the run before."""
    return [
        (row["score"], row["excess"] <= 0.0)
        for row in rows
        if any(calls <= CALLS // 2 for calls, _ in row["estimates"])
        and not (row["status"] == "reached" and row["calls"] <= CALLS // 2)
    ]


def from_one_log(many: list[dict[str, Any]]) -> Estimates:
    """Return the estimates of ``study.reachable`` for targets that no trial meets."""
    return [
        (probability, excess <= 0.0)
        for row in many
        for probability, excess, verified in zip(
            row["probability"], row["excess"], row["verified"], strict=True
        )
        if not verified
    ]


EDGES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def binned(some: Estimates) -> list[tuple[float, float, int, int]]:
    """Return interval, number of estimates and number of reachable targets of each bin."""
    found = []
    for low, high in itertools.pairwise(EDGES):
        own = [truth for p, truth in some if low <= p < high or (p == high == 1.0)]
        found.append((low, high, len(own), sum(own)))
    return found


def calibration(groups: dict[str, Estimates]) -> str:
    heads = ("probability", *(f"reachable, {name}" for name in groups))
    columns = [binned(some) for some in groups.values()]
    lines = [
        (f"{row[0][0]:.2f} to {row[0][1]:.2f}", *(share(one[3], range(one[2])) for one in row))
        for row in zip(*columns, strict=True)
    ]
    return Table(heads, tuple(lines)).markdown()


def draw(groups: dict[str, Estimates]) -> None:
    """Save the share of reachable targets over the mean probability of each bin."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for marker, (name, some) in zip("os", groups.items(), strict=True):
        means, shares, errors = [], [], []
        for low, high, count, hits in binned(some):
            if not count:
                continue
            own = [p for p, _ in some if low <= p < high or (p == high == 1.0)]
            means.append(np.mean(own))
            shares.append(hits / count)
            errors.append(np.sqrt((hits + 0.5) * (count - hits + 0.5) / (count + 1) ** 3))
        axes.errorbar(means, shares, errors, marker=marker, linestyle="none", label=name)
    axes.set(xlabel="probability of a hit", ylabel="share of reachable targets", ylim=(-0.03, 1.03))
    axes.legend(frameon=False)
    figure.savefig(FIGURE, dpi=110)


def table(rows: list[dict[str, Any]], many: list[dict[str, Any]]) -> str:
    groups = {"runs": pending(rows), "one log of 60 calls": from_one_log(many)}
    draw(groups)
    inside, outside = ([p for p, one in groups["one log of 60 calls"] if one == is_reachable]
                       for is_reachable in (True, False))  # fmt: skip
    numbers = sorted({row["target"] for row in rows})
    cases = len({row["problem"] for row in rows})
    inside_runs = sum(row["excess"] <= 0.0 for row in rows)
    lead = (
        f"Runs so far: {len(rows)} of {len(CASES) * TARGETS} targets, up to "
        f"{len(numbers)} of each of {cases} problems; {inside_runs} are reachable. "
        "Noise can meet targets that are outside: these count as errors of the AUROC."
    )
    notes = (
        f"`study.reachable` from logs of {LOG} Sobol points: {len(inside)} reachable and "
        f"{len(outside)} other targets that no trial meets, AUROC {auroc(inside, outside):.3f}."
    )
    picture = f"![Share of reachable targets by probability](images/{FIGURE.name})"
    parts = [lead, by_problem(rows), by_distance(rows), notes, calibration(groups), picture]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "reachable", "table"))
    parser.add_argument("--problems", default=",".join(CASES))
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--first", type=int, default=0, help="number of the first target")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--rows", type=Path, help="file of the rows; default in docs/benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.problems.split(",")
    targets = range(options.first, options.first + options.targets)
    if options.command == "run":
        run(names, targets, options.strategy, options.rows or ROWS)
    elif options.command == "reachable":
        reachable(names, targets, options.rows or MANY_ROWS)
    else:
        text = table(read(options.rows or ROWS), read(MANY_ROWS))
        replace_marked(ROOT / "docs" / "reachability.md", "verdicts", text)


if __name__ == "__main__":
    main()
