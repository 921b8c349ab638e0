"""Ackley function in ten dimensions with a shifted optimum.

Ackley 1987, "A connectionist machine for genetic hillclimbing": a funnel with a regular grid of
local minima.
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
class Ackley:
    """Ackley function from inputs ``(..., d)`` to values ``(..., 1)``.

    ``f = 20 - 20 exp(-0.2 sqrt(mean z^2)) + e - exp(mean cos(2 pi z))`` with ``z = x - centre``.

    Args:
        centre: design of the global minimum 0, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        z = [x[..., i : i + 1] - c for i, c in enumerate(self.centre)]
        bowl = sum(part * part for part in z) / len(z)
        ripple = sum(xp.cos(2.0 * math.pi * part) for part in z) / len(z)
        return 20.0 - 20.0 * xp.exp(-0.2 * xp.sqrt(bowl)) + math.e - xp.exp(ripple)


_SHIFTED = Shifted("ackley10", 10, -5.0, 10.0, textbook=0.0, formula=Ackley)
optimizer = _SHIFTED.optimizer
problem = _SHIFTED.problem
