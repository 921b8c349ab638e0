"""Ackley function of five typed parameters: two real, two integer and one categorical.

The value is the Ackley function of z with the components ``x0 - a``, ``x1 - b``, ``0.75 (k0 - k)``,
``0.75 (k1 - l)`` and ``0.75 level``. ``x0`` and ``x1`` lie in [-5, 10]; ``k0`` and ``k1`` are
integers in [-7, 13]. The seed maps the five categories to the levels 0 to 4. The factor 0.75 is
necessary, because the cosine term has period 1 and would be constant at integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.objectives import Minimize
from bo_invert.oracles.function import Function
from bo_invert.parameters import Choice, Float, Int
from bo_invert.problems.examples.ackley import Ackley
from bo_invert.problems.examples.shifted import generator, spot
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box

LOWER, UPPER = -5.0, 10.0
LEAST, MOST = -7, 13
KINDS = ("a", "b", "c", "d", "e")
# Scale of integer and categorical steps, dimensionless; see the module docstring.
STEP = 0.75
# Global minimum, dimensionless; ``optimizer`` returns its design.
OPTIMUM = 0.0


@dataclass(frozen=True)
class MixedAckley:
    """Ackley function of a design with keys ``x0``, ``x1``, ``k0``, ``k1`` and ``kind``.

    Args:
        reals: optimum of x0 and x1.
        wholes: optimum of k0 and k1.
        kinds: categories, ordered by level.
    """

    reals: tuple[float, float]
    wholes: tuple[int, int]
    kinds: tuple[str, ...]

    def __call__(self, design: Mapping[str, Any]) -> float:
        steps = (
            *(design[f"k{i}"] - best for i, best in enumerate(self.wholes)),
            self.kinds.index(design["kind"]),
        )
        z = [
            *(design[f"x{i}"] - best for i, best in enumerate(self.reals)),
            *(STEP * step for step in steps),
        ]
        return float(Ackley((0.0,) * len(z))(np.array(z))[0])


def formula(seed: int | None = 0) -> MixedAckley:
    """Create the function; ``seed`` as in ``problem``."""
    if seed is None:
        return MixedAckley((0.0, 0.0), (0, 0), KINDS)
    rng = generator("mixed_ackley", seed)
    x0, x1 = (LOWER + (UPPER - LOWER) * spot(rng, 2)).tolist()
    k0, k1 = np.rint(LEAST + (MOST - LEAST) * spot(rng, 2)).astype(int).tolist()
    return MixedAckley((x0, x1), (k0, k1), tuple(rng.permutation(KINDS).tolist()))


def optimizer(seed: int | None = 0) -> dict[str, Any]:
    """Return the design of the global minimum; ``seed`` as in ``problem``."""
    best = formula(seed)
    (x0, x1), (k0, k1) = best.reals, best.wholes
    return {"x0": x0, "x1": x1, "k0": k0, "k1": k1, "kind": best.kinds[0]}


def problem(seed: int | None = 0) -> Problem:
    """Minimise Ackley of real, integer and categorical parameters; the minimum is 0.

    The oracle has no gradients.

    Args:
        seed: seed of the optimum and of the levels; None for the optimum 0, 0, 0, 0, "a".
    """
    reals, wholes = Float(LOWER, UPPER), Int(LEAST, MOST)
    space = Box({"x0": reals, "x1": reals, "k0": wholes, "k1": wholes, "kind": Choice(*KINDS)})
    return Problem(
        space,
        Function(formula(seed), outputs=["y"]),
        Minimize(),
        outputs=["y"],
        name="mixed_ackley",
    )
