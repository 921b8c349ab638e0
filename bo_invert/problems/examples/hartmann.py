"""Hartmann function in six dimensions, with one global and five local minima.

Hartman 1973, "Some experiments in global optimization"; coefficients as in Dixon and Szego 1978.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from bo_invert.objectives import Minimize
from bo_invert.problems.examples.formulas import Batch, formula_oracle
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box

# Global minimum, dimensionless, and its design.
OPTIMUM = -3.322368011415514
OPTIMIZER = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)

# Coefficients alpha, dimensionless, Dixon and Szego 1978.
_HEIGHTS = (1.0, 1.2, 3.0, 3.2)
# Coefficients A, shape (4, 6), Dixon and Szego 1978.
_WIDTHS = (
    (10.0, 3.0, 17.0, 3.5, 1.7, 8.0),
    (0.05, 10.0, 17.0, 0.1, 8.0, 14.0),
    (3.0, 3.5, 1.7, 10.0, 17.0, 8.0),
    (17.0, 8.0, 0.05, 10.0, 0.1, 14.0),
)
# Coefficients P, shape (4, 6), in the unit cube, Dixon and Szego 1978.
_CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(x: Batch, xp: ModuleType = np) -> Batch:
    """Compute values ``(..., 1)`` of inputs ``(..., 6)``.

    ``f = -sum_k alpha_k exp(-sum_i A_ki (x_i - P_ki)^2)``.

    Args:
        x: numpy array, or torch tensor with ``xp=torch``.
        xp: array library of ``x``.
    """
    value = 0.0
    for height, widths, centres in zip(_HEIGHTS, _WIDTHS, _CENTRES, strict=True):
        terms = (
            w * (x[..., i : i + 1] - c) ** 2
            for i, (w, c) in enumerate(zip(widths, centres, strict=True))
        )
        value = value - height * xp.exp(-sum(terms))
    return value


def problem(differentiable: bool = True) -> Problem:
    """Minimise Hartmann-6 in the unit cube; the minimum is -3.322.

    Args:
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    oracle = formula_oracle(hartmann6, ["y"], differentiable)
    return Problem(Box([0.0] * 6, [1.0] * 6), oracle, Minimize(), outputs=["y"], name="hartmann6")
