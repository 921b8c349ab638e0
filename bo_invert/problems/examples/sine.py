"""A sum of waves: find inputs with a given sum. 2 inputs, 1 output, many solutions (Ren et al. 2020)."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.objectives import Target
from bo_invert.problems.examples.formulas import Batch, formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array


def waves(x: Batch, xp: ModuleType = np) -> Batch:
    """``sin(3 pi x0) + cos(3 pi x1)``, shape ``(..., 1)``, of inputs ``(..., 2)``.

    Args:
        x: numpy array, or torch tensor with ``xp=torch``.
        xp: the library of ``x``.
    """
    return xp.sin(3 * math.pi * x[..., :1]) + xp.cos(3 * math.pi * x[..., 1:])


def targets(n: int, seed: int = 0) -> Array:
    """``n`` reachable targets, shape ``(n, 1)``: outputs of designs drawn evenly from the box."""
    reached: Array = waves(np.random.default_rng(seed).uniform(-1.0, 1.0, (n, 2)))
    return reached


def problem(
    target: ArrayLike | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    differentiable: bool = True,
) -> Problem:
    """The waves as a ready problem; the best possible loss is 0.

    Args:
        target: the wanted sum, between -2 and 2; default: a reachable one drawn with ``seed``.
        tolerance: how near is near enough to stop.
        seed: of the drawn target.
        differentiable: give the oracle as a torch module, so that gradient methods can run; otherwise as a
            plain function, without importing torch.
    """
    oracle = formula_oracle(waves, ["y"], differentiable)
    goal = Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance)
    return Problem(Box([-1.0, -1.0], [1.0, 1.0]), oracle, goal, outputs=["y"], name="sine")
