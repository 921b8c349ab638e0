"""CPU seconds of asks, posteriors and many targets: 5 outputs, and 201 through their basis.

    python experiments/inverse_times.py          # writes docs/inverse.md

Log: 200 Sobol points of 8 inputs. The 201 outputs are a curve, the sum of 5 bumps whose heights are
the 5 outputs of the other problem, so the models differ by their basis alone. The target is the
output of a design; the tolerance is 5 % of the range of an output. Each round measures both
problems on a fresh log, in turns: the first ask of the strategy ``inverse`` (fit included), the
median of four further asks, ``posterior(1000)`` and ``reachable`` for 100 targets. Rounds differ by
the weights of the function and the targets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from marked_page import replace_marked
from scipy.stats import qmc

import bo_invert as bi
from bo_invert.report.table import Table
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
INPUTS, OUTPUTS, CURVE, TRIALS = 8, 5, 201, 200
TARGETS, SAMPLES, FURTHER = 100, 1000, 4
LIMITS = {"first ask": 1.0, "further ask": 1.0, "posterior": 2.0, "reachable": 5.0}


def function(seed: int, outputs: int) -> Callable[[Array], Array]:
    """Return a random smooth function of inputs ``(8,)``, with 5 or 201 outputs."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((INPUTS, 12))
    second = rng.standard_normal((12, OUTPUTS)) / np.sqrt(12.0)
    centres = np.linspace(0.0, 1.0, OUTPUTS)
    bumps = np.exp(-0.5 * ((np.linspace(0.0, 1.0, CURVE) - centres[:, None]) / 0.12) ** 2)

    def evaluate(x: Array) -> Array:
        heights = np.tanh((np.asarray(x) - 0.5) @ first) @ second
        return heights if outputs == OUTPUTS else heights @ bumps

    return evaluate


def log(seed: int, outputs: int) -> tuple[bi.Study, Array]:
    """Return a study of the strategy ``inverse`` on 200 Sobol points, and 100 targets."""
    oracle, rng = function(seed, outputs), np.random.default_rng([seed, 1])
    designs = rng.random((1 + TARGETS, INPUTS))
    targets = np.array([oracle(x) for x in designs])
    names = [f"y{i}" for i in range(outputs)]
    tolerance = 0.05 * float(np.ptp(targets, axis=0).max())
    goal = bi.Target(dict(zip(names, targets[0].tolist(), strict=True)), tolerance)
    space = bi.Box([0.0] * INPUTS, [1.0] * INPUTS)
    problem = bi.Problem(space, oracle, goal, outputs=names)
    study = bi.Study.create("inverse", problem, "inverse", seed=seed)
    drawn = qmc.Sobol(INPUTS, rng=seed).random_base2(8)[:TRIALS]
    study.add(drawn, np.array([oracle(x) for x in drawn]))
    return study, targets[1:]


def cpu(task: Callable[[], object]) -> float:
    began = time.process_time()
    task()
    return time.process_time() - began


def measure(seed: int, outputs: int) -> dict[str, float]:
    """Return the seconds of one round of a problem."""
    study, targets = log(seed, outputs)
    oracle = function(seed, outputs)

    def step() -> None:
        for trial in study.ask():
            study.tell(trial, oracle(trial.design))

    found = {"first ask": cpu(step)}
    found["further ask"] = float(np.median([cpu(step) for _ in range(FURTHER)]))
    found["posterior"] = cpu(lambda: study.posterior(SAMPLES))
    found["reachable"] = cpu(lambda: study.reachable(targets))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    measure(1000, OUTPUTS)  # imports, and memory of the first calls
    rows: dict[int, list[dict[str, float]]] = {OUTPUTS: [], CURVE: []}
    for seed in range(rounds):
        for outputs in list(rows)[:: 1 - 2 * (seed % 2)]:
            rows[outputs].append(measure(seed, outputs))
            print(seed, outputs, rows[outputs][-1], flush=True)
    lines = []
    for name, limit in LIMITS.items():
        few, many = ([row[name] for row in rows[outputs]] for outputs in (OUTPUTS, CURVE))
        ratio = float(np.median(np.array(many) / few))
        lines.append((name, *map(cell, (few, many)), f"{ratio:.2f}", limit))
    note = f"Medians of {rounds} rounds, with the least and the largest, on one processor core."
    head = ("", f"{OUTPUTS} outputs", f"{CURVE} outputs", "ratio", "limit for 5")
    replace_marked(
        ROOT / "docs" / "inverse.md", "times", Table(head, tuple(lines), notes=(note,)).markdown()
    )


def cell(seconds: list[float]) -> str:
    return f"{np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
