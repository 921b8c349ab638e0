"""Inverse kinematics of a robot arm with three joints on a rail; 4 inputs, 2 outputs.

Ardizzone et al. 2019, "Analyzing inverse problems with invertible neural networks", in the version
of Ren et al. 2020, "Benchmarking deep inverse models over time".
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.objectives.target import Target
from bo_invert.problems.examples.synthetic_functions import Batch, formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array

# Lengths of the three segments, in units of the last one (Ardizzone et al. 2019).
LENGTHS = (0.5, 0.5, 1.0)
# Prior standard deviations of rail position and joint angles (radians), Ardizzone et al. 2019.
SPREAD = np.array([0.25, 0.5, 0.5, 0.5])
# Upper bounds of the symmetric box; same units.
UPPER = np.array([0.6, 1.2, 1.2, 1.2])


def tip(x: Batch, xp: ModuleType = np) -> Batch:
    """Compute tip positions ``(..., 2)`` from rail position and joint angles ``(..., 4)``.

    Args:
        x: numpy array, or torch tensor with ``xp=torch``.
        xp: array library of ``x``.
    """
    rail, t1, t2, t3 = (x[..., i] for i in range(4))
    angles = (t1, t2 - t1, t3 - t1 - t2)
    across = sum(length * xp.cos(angle) for length, angle in zip(LENGTHS, angles, strict=True))
    along = rail + sum(
        length * xp.sin(angle) for length, angle in zip(LENGTHS, angles, strict=True)
    )
    return xp.stack([across, along], -1)


def designs(n: int, seed: int = 0) -> Array:
    """Sample ``n`` designs ``(n, 4)`` from the prior, truncated to the box by rejection."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0.0, SPREAD, (n, 4))
    while (outside := (np.abs(found) > UPPER).any(axis=1)).any():
        found[outside] = rng.normal(0.0, SPREAD, (int(outside.sum()), 4))
    return found


def targets(n: int, seed: int = 0) -> Array:
    """Sample ``n`` reachable targets ``(n, 2)``; the minimum loss of each is 0."""
    return np.asarray(tip(designs(n, seed)))


def problem(
    target: ArrayLike | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    differentiable: bool = True,
) -> Problem:
    """Move the tip of a robot arm to a target position; the minimum loss is 0.

    Args:
        target: target position ``(2,)``. Default: a reachable one, sampled with ``seed``.
        tolerance: accepted deviation from the target in each coordinate.
        seed: seed of the sampled target.
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    return Problem(
        Box(-UPPER, UPPER, names=["rail", "t1", "t2", "t3"]),
        formula_oracle(tip, ["across", "along"], differentiable),
        Target(targets(1, seed)[0] if target is None else target, tolerance=tolerance),
        outputs=["across", "along"],
        name="arm",
    )
