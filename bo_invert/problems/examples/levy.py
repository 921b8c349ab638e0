"""The Levy function in sixteen dimensions, shifted: a bowl with waves along every coordinate."""

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
class Levy:
    """Values, shape ``(..., 1)``, of inputs ``(..., d)``.

    Args:
        centre: where the lowest value 0 is taken, d numbers.
    """

    centre: tuple[float, ...]

    def __call__(self, x: Batch, xp: ModuleType = np) -> Batch:
        w = [
            (x[..., i : i + 1] - c) / 4.0 for i, c in enumerate(self.centre)
        ]  # the textbook's w - 1
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
