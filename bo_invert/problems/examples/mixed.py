"""Problems with typed parameters: an annealing recipe with a constraint, and a mixed Ackley.

An alloy is annealed in cycles under one of four atmospheres. The objective is the hardness; the
constraint limits the grain size. Each atmosphere has its own best temperature and number of
cycles. Hydrogen reaches the greatest hardness, but violates the constraint there. The constrained
optimum is known: argon at its best recipe.

The mixed Ackley function has two real, two integer and one categorical parameter. Its argument z
has the components ``x0 - a``, ``x1 - b``, ``0.75 (k0 - k)``, ``0.75 (k1 - l)`` and ``0.75 level``.
``x0`` and ``x1`` lie in [-5, 10]; ``k0`` and ``k1`` are integers in [-7, 13]. The seed maps the
five categories to the levels 0 to 4. The factor 0.75 is necessary, because the cosine term has
period 1 and would be constant at integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.oracles.function import Function
from bo_invert.problems.examples.synthetic_functions import ackley, generator, spot
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

# Parameters of the mixed Ackley function.
REAL = Float(-5.0, 10.0)
WHOLE = Int(-7, 13)
KINDS = ("a", "b", "c", "d", "e")
# Scale of integer and categorical steps, dimensionless; see the module docstring.
STEP = 0.75


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
    return Problem(
        space,
        Function(anneal, outputs=["hardness", "grain"]),
        Maximize("hardness"),
        constraints=["grain <= 20"],
        name="mixed",
    )


@dataclass(frozen=True)
class MixedAckley:
    """Ackley function of a design with keys ``x0``, ``x1``, ``k0``, ``k1`` and ``kind``.

    Args:
        centre: optimum of x0, x1, k0 and k1.
        kinds: categories, ordered by level.
    """

    centre: Mapping[str, float]
    kinds: tuple[str, ...]

    def __call__(self, design: Mapping[str, Any]) -> float:
        off = [design[name] - best for name, best in self.centre.items()]
        steps = [STEP * step for step in (*off[2:], self.kinds.index(design["kind"]))]
        return float(ackley(np.array([*off[:2], *steps]), centre=(0.0,) * 5)[0])

    @property
    def optimizer(self) -> dict[str, Any]:
        """Design of the global minimum 0."""
        return {**self.centre, "kind": self.kinds[0]}


def mixed_ackley(seed: int | None = 0) -> MixedAckley:
    """Create the mixed Ackley function; ``seed`` as in ``mixed_ackley_problem``."""
    if seed is None:
        return MixedAckley({"x0": 0.0, "x1": 0.0, "k0": 0, "k1": 0}, KINDS)
    rng = generator("mixed_ackley", seed)
    reals = spot(rng, 2, REAL.low, REAL.high).tolist()
    wholes = np.rint(spot(rng, 2, WHOLE.low, WHOLE.high)).astype(int).tolist()
    centre = dict(zip(("x0", "x1", "k0", "k1"), reals + wholes, strict=True))
    return MixedAckley(centre, tuple(rng.permutation(KINDS).tolist()))


def mixed_ackley_problem(seed: int | None = 0) -> Problem:
    """Minimise Ackley of real, integer and categorical parameters; the minimum is 0.

    The oracle has no gradients.

    Args:
        seed: seed of the optimum and of the levels; None for the optimum 0, 0, 0, 0, "a".
    """
    return Problem(
        Box({"x0": REAL, "x1": REAL, "k0": WHOLE, "k1": WHOLE, "kind": Choice(*KINDS)}),
        Function(mixed_ackley(seed), outputs=["y"]),
        Minimize(),
        outputs=["y"],
        name="mixed_ackley",
    )
