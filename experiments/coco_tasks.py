"""COCO's functions (PyPI ``coco-experiment`` 2.8.2, BSD): bbob and bbob-mixint.

    pip install --no-deps --target SITE coco-experiment==2.8.2    # pyproject: extra "suites"
    PYTHONPATH=SITE python experiments/coco_tasks.py

The rule: all 24 functions of bbob in 5 and 10 dimensions and of bbob-mixint in 5, instances 1 to 5,
each once. The seed of a run selects the instance, ``instance = 1 + seed mod 5``, and seeds the
method. Tests stratified by problem therefore compare over functions. Losses are differences from
the known optimum. The box is COCO's region of interest, [-5, 5] for floats.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi

FUNCTIONS, INSTANCES = 24, 5
SUITES = (("bbob", 5), ("bbob", 10), ("bbob-mixint", 5))


@cache
def _suite(name: str, dimension: int) -> Any:
    import cocoex

    return cocoex.Suite(name, f"instances: 1-{INSTANCES}", f"dimensions: {dimension}")


@cache
def original(suite: str, function: int, dimension: int, instance: int) -> Any:
    """Create a problem of COCO."""
    return _suite(suite, dimension).get_problem_by_function_dimension_instance(
        function, dimension, instance
    )


@cache
def optimum(suite: str, function: int, dimension: int, instance: int) -> float:
    """Return the least value; COCO writes the optimum to a file in the current folder."""
    problem = original(suite, function, dimension, instance)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            problem._best_parameter("print")
        finally:
            os.chdir(here)
        (written,) = Path(folder).iterdir()
        best = np.loadtxt(written)
    return float(problem(best))


@dataclass(frozen=True)
class Task:
    """Picklable oracle: difference of a COCO function from its optimum."""

    suite: str
    function: int
    dimension: int
    instance: int

    def __call__(self, design: Mapping[str, float]) -> float:
        key = (self.suite, self.function, self.dimension, self.instance)
        return float(original(*key)(np.array(list(design.values())))) - optimum(*key)


@dataclass(frozen=True)
class Source:
    """Picklable function of the seed of a run: an instance of one function."""

    suite: str
    function: int
    dimension: int

    @property
    def name(self) -> str:
        return f"{self.suite} f{self.function:02d} d{self.dimension}"

    def __call__(self, run: int) -> bi.Problem:
        instance = 1 + run % INSTANCES
        problem = original(self.suite, self.function, self.dimension, instance)
        whole = problem.number_of_integer_variables  # they come first
        parameters = {
            f"x{i}": bi.Int(round(low), round(high)) if i < whole else bi.Float(low, high)
            for i, (low, high) in enumerate(
                zip(problem.lower_bounds.tolist(), problem.upper_bounds.tolist(), strict=True)
            )
        }
        task = Task(self.suite, self.function, self.dimension, instance)
        return bi.Problem(
            bi.Box(parameters), bi.Function(task, outputs=["y"]), bi.Minimize(), name=self.name
        )


def sources() -> dict[str, Source]:
    """Return all functions by name."""
    made = [
        Source(suite, function, dimension)
        for suite, dimension in SUITES
        for function in range(1, FUNCTIONS + 1)
    ]
    return {source.name: source for source in made}


def main() -> None:
    for name, source in sources().items():
        problem = source(0)
        points = problem.space.sample(np.random.default_rng(0), 100)
        losses = [one.loss for one in problem.evaluate([bi.Query(point) for point in points])]
        print(f"{name}: {problem.domain.dim} variables; best of 100 draws {min(losses):.4g}")


if __name__ == "__main__":
    main()
