"""Rosenbrock function in eight dimensions with a shifted optimum.

Rosenbrock 1960, "An automatic method for finding the greatest or least value of a function": a long
curved valley with steep walls.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np

from bo_invert.problems.examples.formulas import Batch
from bo_invert.problems.examples.shifted import Shifted

# Global minimum, dimensionless; ``optimizer`` returns its design.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Rosenbrock:
    """Rosenbrock function from inputs ``(..., d)`` to values ``(..., 1)``.

    ``f = sum_{i<d} 100 (z_{i+1} - z_i^2)^2 + (1 - z_i)^2`` with ``z = x - centre + 1``.

    Args:
        centre: design of the global minimum 0, d numbers.
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
