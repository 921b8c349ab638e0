"""Levy function in sixteen dimensions with a shifted optimum.

Levy and Montalvo 1985, "The tunneling algorithm for the global minimization of functions": a bowl
with waves along every coordinate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from bo_invert.problems.examples.formulas import Batch
from bo_invert.problems.examples.shifted import Shifted

# Global minimum, dimensionless; ``optimizer`` returns its design.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Levy:
    """Levy function from inputs ``(..., d)`` to values ``(..., 1)``.

    With ``w = 1 + (x - centre) / 4``: ``f = sin^2(pi w_1) + sum_{i<d} (w_i - 1)^2
    (1 + 10 sin^2(pi w_i + 1)) + (w_d - 1)^2 (1 + sin^2(2 pi w_d))``.

    Args:
        centre: design of the global minimum 0, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        w = [
            (x[..., i : i + 1] - c) / 4.0 for i, c in enumerate(self.centre)
        ]  # w - 1 of the formula
        waves = sum(
            part**2 * (1.0 + 10.0 * xp.sin(math.pi * (part + 1.0) + 1.0) ** 2) for part in w[:-1]
        )
        return (
            xp.sin(math.pi * w[0]) ** 2
            + waves
            + w[-1] ** 2 * (1.0 + xp.sin(2.0 * math.pi * w[-1]) ** 2)
        )


_SHIFTED = Shifted("levy16", 16, -10.0, 10.0, textbook=1.0, formula=Levy)
optimizer = _SHIFTED.optimizer
problem = _SHIFTED.problem
