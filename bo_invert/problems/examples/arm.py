"""A robot arm with three joints on a rail: find joint positions that bring the tip to a target. 4 inputs, 2 outputs.

Ardizzone et al. 2019, "Analyzing inverse problems with invertible neural networks"; the numbers of Ren et al. 2020,
"Benchmarking deep inverse models over time", are for this version.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.objectives import Target
from bo_invert.problems.examples.formulas import Batch, formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array

LENGTHS = (0.5, 0.5, 1.0)
#: Standard deviations of the rail position and of the three joint angles.
SPREAD = np.array([0.25, 0.5, 0.5, 0.5])
UPPER = np.array([0.6, 1.2, 1.2, 1.2])


def tip(x: Batch, xp: ModuleType = np) -> Batch:
    """Position of the tip, ``(..., 2)``, for rail position and joint angles ``(..., 4)``.

    Args:
        x: numpy array, or torch tensor with ``xp=torch``.
        xp: the library of ``x``.
    """
    rail, t1, t2, t3 = (x[..., i] for i in range(4))
    angles = (t1, t2 - t1, t3 - t1 - t2)
    across = sum(length * xp.cos(angle) for length, angle in zip(LENGTHS, angles, strict=True))
    along = rail + sum(
        length * xp.sin(angle) for length, angle in zip(LENGTHS, angles, strict=True)
    )
    return xp.stack([across, along], -1)


def designs(n: int, seed: int = 0) -> Array:
    """``n`` draws from the arm's prior, those outside the box drawn again, shape ``(n, 4)``."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0.0, SPREAD, (n, 4))
    while (outside := (np.abs(found) > UPPER).any(axis=1)).any():
        found[outside] = rng.normal(0.0, SPREAD, (int(outside.sum()), 4))
    return found


def targets(n: int, seed: int = 0) -> Array:
    """``n`` reachable targets, shape ``(n, 2)``: a perfect method reaches a loss of 0 on each."""
    reached: Array = tip(designs(n, seed))
    return reached


def problem(
    target: ArrayLike | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    differentiable: bool = True,
) -> Problem:
    """The arm as a ready problem; the best possible loss is 0.

    Args:
        target: where the tip should be, shape ``(2,)``; default: a reachable one drawn with ``seed``.
        tolerance: how near is near enough to stop, in each coordinate.
        seed: of the drawn target.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
    """
    oracle = formula_oracle(tip, ["across", "along"], differentiable)
    goal = Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance)
    return Problem(
        Box(-UPPER, UPPER, names=["rail", "t1", "t2", "t3"]),
        oracle,
        goal,
        outputs=["across", "along"],
        name="arm",
    )
