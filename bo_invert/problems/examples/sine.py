"""Inversion of a sum of two waves; 2 inputs, 1 output, many solutions.

Ren et al. 2020, "Benchmarking deep inverse models over time".
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.objectives.target import Target
from bo_invert.problems.examples.synthetic_functions import Batch, formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array


def waves(x: Batch, xp: ModuleType = np) -> Batch:
    """Compute ``sin(3 pi x0) + cos(3 pi x1)``, ``(..., 1)``, from inputs ``(..., 2)``.

    Args:
        x: numpy array, or torch tensor with ``xp=torch``.
        xp: array library of ``x``.
    """
    return xp.sin(3 * math.pi * x[..., :1]) + xp.cos(3 * math.pi * x[..., 1:])


def targets(n: int, seed: int = 0) -> Array:
    """Compute ``n`` reachable targets ``(n, 1)``: outputs of designs uniform in the box."""
    return np.asarray(waves(np.random.default_rng(seed).uniform(-1.0, 1.0, (n, 2))))


def problem(
    target: ArrayLike | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    differentiable: bool = True,
) -> Problem:
    """Find inputs whose sum of waves equals a target; the minimum loss is 0.

    Args:
        target: target sum in [-2, 2]. Default: a reachable one, sampled with ``seed``.
        tolerance: accepted deviation from the target.
        seed: seed of the sampled target.
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    return Problem(
        Box([-1.0, -1.0], [1.0, 1.0]),
        formula_oracle(waves, ["y"], differentiable),
        Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance),
        outputs=["y"],
        name="sine",
    )
