"""The Ackley function in ten dimensions, shifted: a funnel under a regular pattern of thousands of local minima."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from bo_invert.problems.examples.formulas import Batch
from bo_invert.problems.examples.shifted import Shifted

#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class Ackley:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
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
