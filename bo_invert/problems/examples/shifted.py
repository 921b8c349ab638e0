"""Test functions with an optimum that depends on the seed."""

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
    """Create the random generator of a problem.

    The name is part of the seed, so a search with the same seed draws different numbers.
    """
    return np.random.default_rng([seed, *name.encode()])


def spot(rng: np.random.Generator, size: int) -> Array:
    """Sample unit coordinates ``(size,)``, each uniform in [0.15, 0.4] or [0.6, 0.85].

    The centre of the box is excluded: many strategies evaluate it first and would find an optimum
    there by chance.
    """
    return 0.5 + rng.choice((-1.0, 1.0), size) * rng.uniform(0.1, 0.35, size)


@dataclass(frozen=True)
class Shifted:
    """Test function on a cube with the global minimum 0 at a seeded design.

    Args:
        name: name of the problem.
        dimension: dimension of the cube.
        lower: lower bound of every coordinate.
        upper: upper bound of every coordinate.
        textbook: value of every coordinate of the optimum in the literature.
        formula: map from the design of the optimum to a formula on numpy arrays and torch tensors.
    """

    name: str
    dimension: int
    lower: float
    upper: float
    textbook: float
    formula: Callable[[tuple[float, ...]], Callable[..., Any]]

    def optimizer(self, seed: int | None = 0) -> tuple[float, ...]:
        """Return the design of the global minimum; ``seed`` as in ``problem``."""
        if seed is None:
            return (self.textbook,) * self.dimension
        drawn = self.lower + (self.upper - self.lower) * spot(
            generator(self.name, seed), self.dimension
        )
        return tuple(drawn.tolist())

    def problem(self, seed: int | None = 0, differentiable: bool = True) -> Problem:
        """Minimise Ackley, Levy or Rosenbrock with a seeded optimum; the minimum is 0.

        Args:
            seed: seed of the optimum inside the cube; None for the optimum of the literature.
            differentiable: if True, the oracle is a torch module with gradients; else a plain
                function without torch.
        """
        oracle = formula_oracle(self.formula(self.optimizer(seed)), ["y"], differentiable)
        box = Box([self.lower] * self.dimension, [self.upper] * self.dimension)
        return Problem(box, oracle, Minimize(), outputs=["y"], name=self.name)
