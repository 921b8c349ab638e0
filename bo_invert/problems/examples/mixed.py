"""Annealing recipe with typed parameters, a multimodal response and an outcome constraint.

An alloy is annealed in cycles under one of four atmospheres. The objective is the hardness; the
constraint limits the grain size. Each atmosphere has its own best temperature and number of
cycles. Hydrogen reaches the greatest hardness, but violates the constraint there. The constrained
optimum is known: argon at its best recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bo_invert.objectives import Maximize
from bo_invert.oracles.function import Function
from bo_invert.parameters import Choice, Float, Int
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box

# By atmosphere: hardness (HRC), temperature (degrees C), number of cycles and grain size (um) of
# the hardest recipe. Engineering choice: the constraint excludes the unconstrained optimum.
_ATMOSPHERES = {
    "air": (48.0, 780.0, 2, 11.0),
    "nitrogen": (54.0, 860.0, 6, 16.0),
    "argon": (62.0, 905.0, 4, 17.5),
    "hydrogen": (67.0, 960.0, 5, 34.0),
}
# Constrained optimum and its hardness (HRC); the minimum loss is ``-OPTIMUM``.
OPTIMIZER = {"temperature": 905.0, "hours": 2.0, "cycles": 4, "atmosphere": "argon"}
OPTIMUM = 62.0


def anneal(recipe: Mapping[str, Any]) -> dict[str, float]:
    """Compute hardness (HRC) and grain size (um) of a recipe."""
    peak, best_temperature, best_cycles, fine = _ATMOSPHERES[recipe["atmosphere"]]
    heat = (recipe["temperature"] - best_temperature) / 100.0
    soak = math.log(recipe["hours"] / 2.0) + 0.5 * heat
    cycles = recipe["cycles"] - best_cycles
    ripple = 1.0 - math.cos(2.0 * math.pi * heat)
    hardness = peak - 4.0 * heat**2 - 2.5 * soak**2 - 1.2 * cycles**2 - 1.5 * ripple
    grain = fine * math.exp(0.3 * heat + 0.2 * soak + 0.05 * cycles)
    return {"hardness": hardness, "grain": grain}


def problem() -> Problem:
    """Maximise hardness subject to ``grain <= 20``; the minimum loss is -62."""
    space = Box(
        {
            "temperature": Float(600.0, 1100.0),
            "hours": Float(0.1, 40.0, log=True),
            "cycles": Int(1, 8),
            "atmosphere": Choice(*_ATMOSPHERES),
        }
    )
    oracle = Function(anneal, outputs=["hardness", "grain"])
    return Problem(space, oracle, Maximize("hardness"), constraints=["grain <= 20"], name="mixed")
