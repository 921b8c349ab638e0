"""The Ackley function in ten dimensions, shifted: a funnel under a regular pattern of thousands of local minima."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.examples.shifts import generator, spot
from bo_invert.objectives import Minimize
from bo_invert.oracles.function import Function
from bo_invert.problem import Problem
from bo_invert.spaces.box import Box

DIMENSION = 10
LOWER, UPPER = -5.0, 10.0
#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Ackley:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Any, xp: Any = np) -> Any:
        z = [x[..., i : i + 1] - c for i, c in enumerate(self.centre)]
        bowl = sum(part * part for part in z) / len(z)
        ripple = sum(xp.cos(2.0 * math.pi * part) for part in z) / len(z)
        return 20.0 - 20.0 * xp.exp(-0.2 * xp.sqrt(bowl)) + math.e - xp.exp(ripple)


def optimizer(seed: int | None = 0) -> tuple[float, ...]:
    """The design with value ``OPTIMUM``, ten numbers. See ``problem``."""
    if seed is None:
        return (0.0,) * DIMENSION
    drawn = LOWER + (UPPER - LOWER) * spot(generator("ackley10", seed), DIMENSION)
    return tuple(drawn.tolist())


def problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Ackley on ``[-5, 10]^10`` as a ready problem; the best possible loss is 0.

    Args:
        seed: each draws another optimum inside the box; None for the textbook function with its optimum at 0.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
    """
    formula = Ackley(optimizer(seed))
    oracle: Any = Function(formula, outputs=["y"])
    if differentiable:
        from bo_invert.examples.analytic import Analytic

        oracle = Analytic(formula)
    return Problem(Box([LOWER] * DIMENSION, [UPPER] * DIMENSION), oracle, Minimize(), outputs=["y"], name="ackley10")
