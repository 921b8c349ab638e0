"""Test functions whose optimum is moved to a new spot for every seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.objectives import Minimize
from bo_invert.problems.examples.formulas import formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array


def generator(name: str, seed: int) -> np.random.Generator:
    """The generator of a problem, its own by name: a search with the same seed does not draw the same numbers."""
    return np.random.default_rng([seed, *name.encode()])


def spot(rng: np.random.Generator, size: int) -> Array:
    """Unit coordinates ``(size,)`` well inside a box and away from its middle: in [.15, .4] or [.6, .85] each.

    Many searches begin with the middle, and many functions have their optimum there; neither should meet by design.
    """
    return 0.5 + rng.choice((-1.0, 1.0), size) * rng.uniform(0.1, 0.35, size)


@dataclass(frozen=True)
class Shifted:
    """A test function on a cube, its lowest value 0 taken where it is told.

    Args:
        name: of the ready problem.
        dimension: of the cube.
        lower: end of every coordinate.
        upper: end of every coordinate.
        textbook: every coordinate of the optimum in the textbook.
        formula: from the place of the optimum to a formula on numpy arrays and torch tensors.
    """

    name: str
    dimension: int
    lower: float
    upper: float
    textbook: float
    formula: Callable[[tuple[float, ...]], Callable[..., Any]]

    def optimizer(self, seed: int | None = 0) -> tuple[float, ...]:
        """The design with the lowest value. See ``problem``."""
        if seed is None:
            return (self.textbook,) * self.dimension
        drawn = self.lower + (self.upper - self.lower) * spot(
            generator(self.name, seed), self.dimension
        )
        return tuple(drawn.tolist())

    def problem(self, seed: int | None = 0, differentiable: bool = True) -> Problem:
        """A textbook function whose optimum the seed moves; the best possible loss is 0.

        Args:
            seed: each draws another optimum inside the cube; None for the textbook's.
            differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
                plain function, without importing torch.
        """
        oracle = formula_oracle(self.formula(self.optimizer(seed)), ["y"], differentiable)
        box = Box([self.lower] * self.dimension, [self.upper] * self.dimension)
        return Problem(box, oracle, Minimize(), outputs=["y"], name=self.name)
