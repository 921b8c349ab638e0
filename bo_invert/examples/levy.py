"""The Levy function in sixteen dimensions, shifted: a bowl with waves along every coordinate."""

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

DIMENSION = 16
LOWER, UPPER = -10.0, 10.0
#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Levy:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Any, xp: Any = np) -> Any:
        w = [(x[..., i : i + 1] - c) / 4.0 for i, c in enumerate(self.centre)]  # the textbook's w - 1
        waves = sum(part**2 * (1.0 + 10.0 * xp.sin(math.pi * (part + 1.0) + 1.0) ** 2) for part in w[:-1])
        return xp.sin(math.pi * w[0]) ** 2 + waves + w[-1] ** 2 * (1.0 + xp.sin(2.0 * math.pi * w[-1]) ** 2)


def optimizer(seed: int | None = 0) -> tuple[float, ...]:
    """The design with value ``OPTIMUM``, sixteen numbers. See ``problem``."""
    if seed is None:
        return (1.0,) * DIMENSION
    drawn = LOWER + (UPPER - LOWER) * spot(generator("levy16", seed), DIMENSION)
    return tuple(drawn.tolist())


def problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Levy on ``[-10, 10]^16`` as a ready problem; the best possible loss is 0.

    Args:
        seed: each draws another optimum inside the box; None for the textbook function with its optimum at 1.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
    """
    formula = Levy(optimizer(seed))
    oracle: Any = Function(formula, outputs=["y"])
    if differentiable:
        from bo_invert.examples.analytic import Analytic

        oracle = Analytic(formula)
    return Problem(Box([LOWER] * DIMENSION, [UPPER] * DIMENSION), oracle, Minimize(), outputs=["y"], name="levy16")
