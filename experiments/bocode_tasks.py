"""Forty problems of BOCoDe (PyPI ``bocode`` 1.0.1, MIT), chosen by a rule before any run on them.

    pip install --no-deps --target SITE bocode==1.0.1        # pyproject: extra "suites"
    PYTHONPATH=SITE python experiments/bocode_tasks.py --select   # the rule, a few minutes
    PYTHONPATH=SITE python experiments/bocode_tasks.py            # the problems

The rule. A name of BOCoDe's registry is eligible if

- it has one objective and at most 60 variables;
- 20 points of the package's own ``sample(20, seed=0)`` evaluate one by one to finite numbers, two
  of them different, in less than 50 ms (median), without a network and without further packages;
- it has no equality constraints: within the package's tolerance of 1e-4, hardly any method has a
  feasible design after 200 calls, and the problem would compare nothing.

Families are the folders of the package's modules. With k = ceil(n / q) of a family's n eligible
names, in the registry's order, every k-th is taken, from the first one on. q is the largest number
for which at most 40 are taken in all. Then, from the family with the most eligible names to the one
with the fewest, and again from the first one, q of the family grows by 1 where at most 40 names are
taken, until there are 40. ``NAMES`` is the result. Slow methods run on ``FEW`` of them, twelve
names at equal distances in the list.

Variables keep the types that the package declares. A list of allowed values is a ``Choice``:
unordered if it is unsorted or holds the codes 0, 1, ..., k - 1 with k > 2, otherwise ordered.
BOCoDe maximises, and a constraint holds where its value is at most 0.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

import bo_invert as bi

COUNT = 40
MAX_DIM, SECONDS, POINTS = 60, 0.05, 20

NAMES: tuple[str, ...] = (
    "Ackley53",
    "BraninCategorical",
    "CoCaBOFunc3C",
    "HartmannCat",
    "Rosenbrock5Mixed",
    "StyblinskiTangCat",
    "AgNP",
    "CrossedBarrel",
    "P3HT",
    "Allison",
    "ColumnBuckling",
    "HeatExchanger",
    "PressureVesselContinuous",
    "SatelliteDesign",
    "ThreeTruss",
    "Bayesmark_DT_breast",
    "HPOB_5636_145804",
    "HPOB_5891_6566",
    "HPOB_5970_49",
    "HPOB_6794_10101",
    "LCBenchAdult",
    "LCBenchJungleChess2pcsRawEndgameComplete",
    "CEC2020_p10",
    "CEC2020_p15",
    "CEC2020_p19",
    "CEC2020_p25",
    "CEC2020_p29",
    "CEC2020_p32",
    "CEC2020_p11_PS",
    "CEC2020_p45_PS",
    "CEC2020_p49_PS",
    "CEC2020_p52_PS",
    "CEC2020_p6_PS",
    "ConstrainedAckley10D",
    "ConstrainedAckley6D",
    "GKXWC2",
    "JLH2",
    "MaxSAT",
    "PestControl",
    "NASBench201",
)

#: Names for methods with many seconds per ask.
FEW = tuple(NAMES[round(i * (len(NAMES) - 1) / 11)] for i in range(12))


@cache
def original(name: str) -> Any:
    """Create a problem of the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bocode

        return bocode.get_problem(name)()


def parameters(problem: Any) -> dict[str, Any]:
    """Return the typed parameters of the variables; constants are left out."""
    found = {}
    for i, (kind, (low, high)) in enumerate(
        zip(problem.resolved_variable_types(), problem.bounds, strict=True)
    ):
        if not isinstance(kind, str):
            values = list(dict.fromkeys(float(v) for v in kind))
            if len(values) > 1:
                codes = len(values) > 2 and values == list(range(len(values)))
                ordered = values == sorted(values) and not codes
                found[f"x{i}"] = bi.Choice(*values, ordered=ordered)
        elif kind == "integer" and math.ceil(low) < math.floor(high):
            found[f"x{i}"] = bi.Int(math.ceil(low), math.floor(high))
        elif kind == "continuous" and low < high:
            found[f"x{i}"] = bi.Float(float(low), float(high))
    return found


@dataclass(frozen=True)
class Task:
    """Picklable oracle of a BOCoDe problem: outputs ``f`` and ``c0``, ``c1``, ..."""

    name: str

    def __call__(self, design: Mapping[str, Any]) -> list[float]:
        problem = original(self.name)
        row = [design.get(f"x{i}", low) for i, (low, _) in enumerate(problem.bounds)]
        value, constraints = evaluated(problem, torch.tensor([row], dtype=torch.float64))
        return [value, *constraints]


def evaluated(problem: Any, points: torch.Tensor) -> tuple[float, list[float]]:
    """Return value and constraints of one point ``(1, d)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, constraints = problem.evaluate(points)
    left = [] if constraints is None else constraints.reshape(-1).tolist()
    return float(values.reshape(-1)[0]), left


@dataclass(frozen=True)
class Source:
    """Picklable function of the seed of a run; all seeds have the same problem."""

    name: str

    def __call__(self, run: int) -> bi.Problem:
        problem = original(self.name)
        low = torch.tensor([[float(bounds[0]) for bounds in problem.bounds]], dtype=torch.float64)
        count = len(evaluated(problem, problem.enforce_variable_types(low))[1])
        names = ["f", *(f"c{i}" for i in range(count))]
        return bi.Problem(
            bi.Box(parameters(problem)),
            bi.Function(Task(self.name), outputs=names),
            bi.Maximize("f"),
            constraints=[f"{name} <= 0" for name in names[1:]],
            outputs=names,
            name=self.name,
        )


def sources(names: Sequence[str] = NAMES) -> dict[str, Source]:
    """Return the problems by name."""
    return {name: Source(name) for name in names}


# ---------------------------------------------------------------------- the rule


def eligible(name: str) -> bool:
    """Apply the rule to one name."""
    try:
        problem = original(name)
        if problem.num_objectives != 1 or problem.dim > MAX_DIM or _has_equalities(problem):
            return False
        seconds, values = [], []
        for point in problem.sample(POINTS, seed=0):
            begun = time.perf_counter()
            value, constraints = evaluated(problem, point[None])
            seconds.append(time.perf_counter() - begun)
            values.append([value, *constraints])
            if len(seconds) == 3 and min(seconds) > 4 * SECONDS:
                return False
    except Exception:
        return False
    rows = np.array(values)
    varied = len(np.unique(rows[:, 0])) > 1
    return bool(np.isfinite(rows).all() and varied and np.median(seconds) < SECONDS)


def _has_equalities(problem: Any) -> bool:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        output = problem._evaluate_implementation(problem.sample(1, seed=0))
    finally:
        torch.set_default_dtype(before)
    return len(output) == 3 and output[0] is not None and output[0].numel() > 0


def families() -> dict[str, list[str]]:
    """Return the eligible names of each family, in the registry's order."""
    from bocode.registry import PROBLEM_REGISTRY

    found: dict[str, list[str]] = {}
    for name, (module, _) in PROBLEM_REGISTRY.items():
        if eligible(name):
            found.setdefault(module.split(".")[1], []).append(name)
    return found


def select(found: Mapping[str, list[str]]) -> list[str]:
    """Take every k-th name of each family."""
    most = sorted(found, key=lambda family: -len(found[family]))

    def taken(quotas: Mapping[str, int]) -> Iterator[str]:
        for family, names in found.items():
            yield from names[:: math.ceil(len(names) / quotas[family])]

    quotas = dict.fromkeys(found, 1)
    while len(list(taken({family: q + 1 for family, q in quotas.items()}))) <= COUNT:
        quotas = {family: q + 1 for family, q in quotas.items()}
    for family in itertools.islice(itertools.cycle(most), COUNT * len(most)):
        if len(list(taken(quotas))) == COUNT:
            break
        more = quotas | {family: quotas[family] + 1}
        if len(list(taken(more))) <= COUNT:
            quotas = more
    return list(taken(quotas))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--select", action="store_true", help="apply the rule; print the names")
    options = parser.parse_args()
    if options.select:
        found = families()
        for family, names in found.items():
            print(f"# {family}: {len(names)} eligible")
        print("\n".join(f'    "{name}",' for name in select(found)))
        return
    for name, source in sources().items():
        problem = source(0)
        points = problem.space.sample(np.random.default_rng(0), 200)
        outcomes = problem.evaluate([bi.Query(point) for point in points])
        feasible = [one.loss for one in outcomes if one.violation == 0.0]
        failed = sum(one.y is None for one in outcomes)
        kinds = [type(one).__name__ for one in problem.domain.parameters.values()]
        shown = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        best = f"best {min(feasible):.4g}" if feasible else "none"
        print(
            f"{name}: {shown}; {len(problem.constraints)} constraints; of 200 draws {failed} fail, "
            f"{len(feasible)} feasible, {best}"
        )


if __name__ == "__main__":
    main()
