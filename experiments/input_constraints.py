"""Measure input constraints: feasibility and ask times of all strategies, and regret on mixtures.

    python experiments/input_constraints.py asks OUT.jsonl [STRATEGY ...]
    python experiments/input_constraints.py mixtures OUT.jsonl [METHOD ...]
    python experiments/input_constraints.py tables OUT.jsonl ...

``asks`` runs every strategy on six sets, with and without their constraints in turns, and records
the share of feasible points and the processor time of the asks. ``mixtures`` runs 40 calls of 10
seeds on three mixtures with the optimum on the boundary; ``baybe`` needs the variable
``MIXTURE_PYTHON``, a Python with BayBE. Each run is a line of OUT; existing ones are not repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mixture_problems import CALLS, MIXTURES, SEEDS
from scipy.optimize import minimize

import bo_invert as bi
from bo_invert import registry

METHODS = ("gp", "auto", "ax", "baybe")
MODEL_BASED = ("gp", "auto", "turbo", "polish", "forest", "spherical", "pcn")
_OBSERVED, _ASKS = 20, 25
EIGHT = [f"x{i}" for i in range(8)]


def _reals(count: int) -> dict[str, Any]:
    return {name: bi.Float(0, 1) for name in EIGHT[:count]}


SETS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "simplex in 5-d": (_reals(5), ["x0 + x1 + x2 + x3 + x4 == 1"]),
    "sum <= 1": (_reals(5), ["x0 + x1 + x2 + x3 + x4 <= 1"]),
    "order chain": (_reals(6), ["x0 <= x1 <= x2 <= x3 <= x4 <= x5"]),
    "3 of 8": (_reals(8), [bi.AtMost(3, EIGHT)]),
    "slab of 0.1 %": (_reals(5), ["2.4992 <= x0 + x1 + x2 + x3 + x4 <= 2.5008"]),
    "integers and choices": (
        {
            "a": bi.Float(0, 1), "b": bi.Float(0, 1), "n": bi.Int(0, 6), "m": bi.Int(0, 6),
            "s": bi.Choice("water", "acid", "oil"), "o": bi.Choice(1, 2, 4, ordered=True),
        },
        ["a + b + n + m == 5", "o + n >= 3"],
    ),
}  # fmt: skip


def _loss(design: dict[str, Any]) -> float:
    return sum(
        (i + 1) * (float(value) - 0.4) ** 2
        for i, value in enumerate(design.values())
        if not isinstance(value, str)
    )


def asks(name: str, key: str) -> dict[str, Any] | None:
    """Return feasibility and ask times of a strategy with and without the constraints of a set."""
    parameters, constraints = SETS[key]
    boxes = {"free": bi.Box(parameters), "constrained": bi.Box(parameters, constraints=constraints)}
    try:
        studies = {
            kind: bi.Study.create(kind, bi.Problem(box, _loss, bi.Minimize()), name, seed=1)
            for kind, box in boxes.items()
        }
    except bi.UnsuitableStrategyError:
        return None
    domain = boxes["constrained"].domain
    points = domain.sample(np.random.default_rng(0), _OBSERVED)
    designs: Any = boxes["constrained"].decode(points)
    for study in studies.values():
        study.add(points=points, Y=[_loss(design) for design in designs])
    seconds: dict[str, list[float]] = {kind: [] for kind in studies}
    feasible = count = 0
    for _ in range(_ASKS):
        for kind, study in studies.items():
            began = time.process_time()
            trials = study.ask()
            seconds[kind].append(time.process_time() - began)
            for trial in trials:
                if kind == "constrained":
                    feasible += int(domain.satisfied(trial.point[None])[0])
                    count += 1
                study.tell(trial, _loss(trial.design))
    return {"feasible": feasible, "count": count, **seconds}


def mixture(method: str, name: str, seed: int) -> list[float]:
    """Return the losses of all calls of a run."""
    here = Path(__file__).parent
    if method == "baybe":
        command = [os.environ["MIXTURE_PYTHON"], "baybe_mixtures.py", name, str(seed)]
        ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return list(json.loads(ran.stdout.splitlines()[-1]))
    one = MIXTURES[name]
    constraints = [" + ".join(one.names) + " == 1"]
    constraints += [f"{a} <= {factor} {b}" for a, b, factor in one.orders]
    box = bi.Box(
        {n: bi.Float(0, high) for n, high in zip(one.names, one.upper, strict=True)},
        constraints=constraints,
    )
    problem = bi.Problem(box, lambda d: one.loss(np.array([*d.values()])), bi.Minimize())
    made = bi.Study.create("s", problem, method, seed=seed)
    made.run(CALLS)
    return [float(t.loss) for t in made.trials if t.loss is not None]


def optimum(name: str) -> float:
    """Return the least loss, by SLSQP from 200 starts."""
    one, rng = MIXTURES[name], np.random.default_rng(0)
    limits: list[dict[str, Any]] = [{"type": "eq", "fun": lambda x: x.sum() - 1.0}]
    for a, b, factor in one.orders:
        i, j = one.names.index(a), one.names.index(b)
        limits.append({"type": "ineq", "fun": lambda x, i=i, j=j, f=factor: f * x[j] - x[i]})
    bounds = [(0.0, high) for high in one.upper]
    found = [
        minimize(one.loss, rng.dirichlet(np.ones(len(bounds))), bounds=bounds, constraints=limits)
        for _ in range(200)
    ]
    return min(float(r.fun) for r in found if r.success)


def _record(path: Path, key: list[Any], value: object) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"key": key, "value": value}) + "\n")
    print(*key, flush=True)


def _known(path: Path) -> dict[str, Any]:
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {json.dumps(row["key"]): row["value"] for row in rows}


def _tables(rows: dict[str, Any]) -> None:
    found = [(json.loads(key), value) for key, value in rows.items()]
    times = {tuple(key): value for (kind, *key), value in found if kind == "asks" and value}
    print("| strategy | set | feasible | ask, free (ms) | ask, constrained (ms) | ratio "
          "| median of ratios |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for (strategy, name), value in times.items():
        # The first ask also prepares the sampler of the set, once per process.
        free, held = (1e3 * np.array(value[one][1:]) for one in ("free", "constrained"))
        share = 100 * value["feasible"] / max(1, value["count"])
        print(f"| {strategy} | {name} | {share:.0f} % | {free.mean():.1f} | {held.mean():.1f} "
              f"| {held.mean() / free.mean():.2f} | {np.median(held / free):.2f} |")  # fmt: skip
    strategies = [one for one in MODEL_BASED if any(key[0] == one for key in times)]
    print("\n| set |", " | ".join(f"`{one}`" for one in strategies), "|")
    print("|---|" + "---|" * len(strategies))
    for name in SETS:
        cells = []
        for strategy in strategies:
            value = times[strategy, name]
            ratio = np.mean(value["constrained"][1:]) / np.mean(value["free"][1:])
            cells.append(f"{ratio:.2f}")
        print("|", " | ".join([name, *cells]), "|")
    print("\n| mixture | method | seeds | median regret after 20 | after 40 | worst after 40 |")
    print("|---|---|---|---|---|---|")
    for name in MIXTURES:
        least = optimum(name)
        for method in METHODS:
            runs = [
                v for (kind, *key), v in found if kind == "mixture" and key[:2] == [method, name]
            ]
            if runs:
                best = np.minimum.accumulate([run[:CALLS] for run in runs], axis=1) - least
                print(f"| {name} | {method} | {len(runs)} | {np.median(best[:, 19]):.2g} "
                      f"| {np.median(best[:, -1]):.2g} | {best[:, -1].max():.2g} |")  # fmt: skip


def main(action: str, *arguments: str) -> None:
    """Run ``asks`` or ``mixtures``, or print tables."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if action == "tables":
        _tables({key: one for path in arguments for key, one in _known(Path(path)).items()})
        return
    path = Path(arguments[0])
    known = _known(path)
    if action == "asks":
        for name in arguments[1:] or registry.names("strategies"):
            for key in SETS:
                if json.dumps(["asks", name, key]) not in known:
                    _record(path, ["asks", name, key], asks(name, key))
        return
    for seed in range(SEEDS):
        for name in MIXTURES:
            for method in arguments[1:] or METHODS:
                key = ["mixture", method, name, seed]
                if json.dumps(key) not in known:
                    _record(path, key, mixture(method, name, seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
