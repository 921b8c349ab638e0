"""The Ackley function of five typed parameters: two real numbers, two whole numbers and a choice.

With ``z = (x0 - a, x1 - b, .75 (k0 - k), .75 (k1 - l), .75 level(kind))`` the value is Ackley's of z. x0 and x1 lie in
[-5, 10], k0 and k1 are whole numbers from -7 to 13. The five kinds have the levels 0 to 4 in an order nobody is told.
A whole step counts .75, as Ackley's ripple has period 1 and would vanish on whole numbers.
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
STEP = 0.75
#: The lowest value; ``optimizer`` says where it is taken.
OPTIMUM = 0.0


@dataclass(frozen=True)
class MixedAckley:
    """Value of a design, a mapping of ``x0``, ``x1``, ``k0``, ``k1`` and ``kind``.

    Args:
        reals: where x0 and x1 are best.
        wholes: where k0 and k1 are best.
        kinds: from the best, level 0, to the worst.
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
    """The function of a seed. See ``problem``."""
    if seed is None:
        return MixedAckley((0.0, 0.0), (0, 0), KINDS)
    rng = generator("mixed_ackley", seed)
    x0, x1 = (LOWER + (UPPER - LOWER) * spot(rng, 2)).tolist()
    k0, k1 = np.rint(LEAST + (MOST - LEAST) * spot(rng, 2)).astype(int).tolist()
    return MixedAckley((x0, x1), (k0, k1), tuple(rng.permutation(KINDS).tolist()))


def optimizer(seed: int | None = 0) -> dict[str, Any]:
    """The design with value ``OPTIMUM``. See ``problem``."""
    best = formula(seed)
    (x0, x1), (k0, k1) = best.reals, best.wholes
    return {"x0": x0, "x1": x1, "k0": k0, "k1": k1, "kind": best.kinds[0]}


def problem(seed: int | None = 0) -> Problem:
    """Ackley of typed parameters as a ready problem; the best possible loss is 0. Values only, no gradients.

    Args:
        seed: each draws another optimum and another order of the kinds; None for the optimum at 0, 0, 0, 0 and "a".
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
