"""The Rosenbrock function in eight dimensions, shifted: a long bent valley under walls a million high."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np

from bo_invert.problems.examples.formulas import Batch
from bo_invert.problems.examples.shifted import Shifted

#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Rosenbrock:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        z = [x[..., i : i + 1] - c + 1.0 for i, c in enumerate(self.centre)]
        return sum(
            100.0 * (after - here**2) ** 2 + (1.0 - here) ** 2 for here, after in pairwise(z)
        )


_SHIFTED = Shifted("rosenbrock8", 8, -5.0, 10.0, textbook=1.0, formula=Rosenbrock)
optimizer = _SHIFTED.optimizer
problem = _SHIFTED.problem
