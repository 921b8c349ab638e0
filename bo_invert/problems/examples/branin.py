"""Branin function of two of twenty-five coordinates, with three global minima.

Wang et al. 2016, "Bayesian optimization in a billion dimensions via random embeddings".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from bo_invert.objectives import Minimize
from bo_invert.problems.examples.formulas import Batch, formula_oracle
from bo_invert.problems.examples.shifted import generator
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box

DIMENSION = 25
# Global minimum 0.397887..., dimensionless; ``optimizer`` returns its designs.
OPTIMUM = 10.0 / (8.0 * math.pi)
# Coordinates of the three global minima in [-5, 10] x [0, 15]; exact for the Branin function.
_OPTIMA = ((-math.pi, 12.275), (math.pi, 2.275), (3.0 * math.pi, 2.475))


@dataclass(frozen=True)
class Branin:
    """Branin function from inputs ``(..., 25)`` in the unit cube to values ``(..., 1)``.

    ``f = (b - 5.1 a^2 / (4 pi^2) + 5 a / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos a + 10``, where ``a``
    in [-5, 10] and ``b`` in [0, 15] are the two scaled active coordinates.

    Args:
        active: indices of the two active coordinates.
    """

    active: tuple[int, int]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        first, second = self.active
        a, b = 15.0 * x[..., first : first + 1] - 5.0, 15.0 * x[..., second : second + 1]
        bend = b - 5.1 / (4.0 * math.pi**2) * a**2 + 5.0 / math.pi * a - 6.0
        return bend**2 + 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * xp.cos(a) + 10.0


def active(seed: int | None = 0) -> tuple[int, int]:
    """Return the indices of the two active coordinates; ``seed`` as in ``problem``."""
    if seed is None:
        return 0, 1
    first, second = generator("branin25", seed).choice(DIMENSION, 2, replace=False).tolist()
    return first, second


def optimizer(seed: int | None = 0, which: int = 0) -> tuple[float, ...]:
    """Return a design of the global minimum, 25 numbers; inactive coordinates are 0.5.

    Args:
        seed: as in ``problem``.
        which: index of the minimum, 0 to 2.
    """
    design = [0.5] * DIMENSION
    first, second = active(seed)
    design[first], design[second] = (_OPTIMA[which][0] + 5.0) / 15.0, _OPTIMA[which][1] / 15.0
    return tuple(design)


def problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Minimise Branin in two active coordinates of 25; the minimum is 0.398.

    Args:
        seed: seed of the active coordinates; None for the first two.
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    formula = Branin(active(seed))
    oracle = formula_oracle(formula, ["y"], differentiable)
    return Problem(
        Box([0.0] * DIMENSION, [1.0] * DIMENSION),
        oracle,
        Minimize(),
        outputs=["y"],
        name="branin25",
    )
