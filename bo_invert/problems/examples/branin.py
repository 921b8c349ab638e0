"""The Branin function in two of twenty-five coordinates; the others do nothing. Three optima in the two that count.

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
#: The lowest value, 0.397887...; ``optimizer`` says where it is taken.
OPTIMUM = 10.0 / (8.0 * math.pi)
#: Branin's own coordinates of the three optima, in [-5, 10] and [0, 15].
_OPTIMA = ((-math.pi, 12.275), (math.pi, 2.275), (3.0 * math.pi, 2.475))


@dataclass(frozen=True)
class Branin:
    """Values, shape ``(..., 1)``, of inputs ``(..., 25)`` in the unit cube.

    Args:
        active: positions of Branin's first and second coordinate among the inputs.
    """

    active: tuple[int, int]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        first, second = self.active
        a, b = 15.0 * x[..., first : first + 1] - 5.0, 15.0 * x[..., second : second + 1]
        bend = b - 5.1 / (4.0 * math.pi**2) * a**2 + 5.0 / math.pi * a - 6.0
        return bend**2 + 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * xp.cos(a) + 10.0


def active(seed: int | None = 0) -> tuple[int, int]:
    """Which two coordinates count. See ``problem``."""
    if seed is None:
        return 0, 1
    first, second = generator("branin25", seed).choice(DIMENSION, 2, replace=False).tolist()
    return first, second


def optimizer(seed: int | None = 0, which: int = 0) -> tuple[float, ...]:
    """A design with value ``OPTIMUM``, 25 numbers; what does not count is set to 0.5.

    Args:
        seed: as in ``problem``.
        which: of the three optima, 0 to 2.
    """
    design = [0.5] * DIMENSION
    first, second = active(seed)
    design[first], design[second] = (_OPTIMA[which][0] + 5.0) / 15.0, _OPTIMA[which][1] / 15.0
    return tuple(design)


def problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Branin in two of the coordinates of ``[0, 1]^25`` as a ready problem; the best possible loss is ``OPTIMUM``.

    Args:
        seed: each draws other two coordinates; None for the first two.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
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
