"""The Rosenbrock function in eight dimensions, shifted: a long bent valley under walls a million high."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bo_invert.examples.shifts import generator, spot
from bo_invert.objectives import Minimize
from bo_invert.oracles.function import Function
from bo_invert.problem import Problem
from bo_invert.spaces.box import Box

DIMENSION = 8
LOWER, UPPER = -5.0, 10.0
#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Rosenbrock:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Any, xp: Any = np) -> Any:
        z = [x[..., i : i + 1] - c + 1.0 for i, c in enumerate(self.centre)]
        return sum(100.0 * (after - here**2) ** 2 + (1.0 - here) ** 2 for here, after in pairwise(z))


def optimizer(seed: int | None = 0) -> tuple[float, ...]:
    """The design with value ``OPTIMUM``, eight numbers. See ``problem``."""
    if seed is None:
        return (1.0,) * DIMENSION
    drawn = LOWER + (UPPER - LOWER) * spot(generator("rosenbrock8", seed), DIMENSION)
    return tuple(drawn.tolist())


def problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Rosenbrock on ``[-5, 10]^8`` as a ready problem; the best possible loss is 0.

    Args:
        seed: each draws another optimum inside the box; None for the textbook function with its optimum at 1.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
    """
    formula = Rosenbrock(optimizer(seed))
    oracle: Any = Function(formula, outputs=["y"])
    if differentiable:
        from bo_invert.examples.analytic import Analytic

        oracle = Analytic(formula)
    return Problem(Box([LOWER] * DIMENSION, [UPPER] * DIMENSION), oracle, Minimize(), outputs=["y"], name="rosenbrock8")
