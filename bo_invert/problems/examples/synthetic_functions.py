"""Synthetic test functions with known minima: Ackley, Branin, Hartmann, Levy and Rosenbrock.

Formulas map inputs ``(..., d)`` to values ``(..., 1)``. Their argument ``xp`` is the array library
of the inputs, numpy or torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from bo_invert.objectives.single_output import Minimize
from bo_invert.oracles.function import Function
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.types import Array

Batch: TypeAlias = Any
"""Numpy array or torch tensor, shape ``(..., d)``; formulas use both without importing torch."""

BRANIN_DIMENSION = 25
# Global minimum 0.397887..., dimensionless; ``branin_optimizer`` returns its designs.
BRANIN_OPTIMUM = 10.0 / (8.0 * math.pi)
# Coordinates of the three global minima in [-5, 10] x [0, 15]; exact for the Branin function.
_BRANIN_OPTIMA = ((-math.pi, 12.275), (math.pi, 2.275), (3.0 * math.pi, 2.475))

# Global minimum, dimensionless, and its design.
HARTMANN6_OPTIMUM = -3.322368011415514
HARTMANN6_OPTIMIZER = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)
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


def ackley(x: Batch, xp: ModuleType = np, *, centre: Sequence[float]) -> Batch:
    """Compute the Ackley function: a funnel with a regular grid of local minima (Ackley 1987).

    ``f = 20 - 20 exp(-0.2 sqrt(mean z^2)) + e - exp(mean cos(2 pi z))`` with ``z = x - centre``.
    """
    z = [x[..., i : i + 1] - c for i, c in enumerate(centre)]
    bowl = sum(part * part for part in z) / len(z)
    ripple = sum(xp.cos(2.0 * math.pi * part) for part in z) / len(z)
    return 20.0 - 20.0 * xp.exp(-0.2 * xp.sqrt(bowl)) + math.e - xp.exp(ripple)


def levy(x: Batch, xp: ModuleType = np, *, centre: Sequence[float]) -> Batch:
    """Compute the Levy function: a bowl with waves along each coordinate (Levy, Montalvo 1985).

    With ``w = 1 + (x - centre) / 4``: ``f = sin^2(pi w_1) + sum_{i<d} (w_i - 1)^2
    (1 + 10 sin^2(pi w_i + 1)) + (w_d - 1)^2 (1 + sin^2(2 pi w_d))``.
    """
    w = [(x[..., i : i + 1] - c) / 4.0 for i, c in enumerate(centre)]  # w - 1 of the formula
    waves = sum(
        part**2 * (1.0 + 10.0 * xp.sin(math.pi * (part + 1.0) + 1.0) ** 2) for part in w[:-1]
    )
    last = w[-1] ** 2 * (1.0 + xp.sin(2.0 * math.pi * w[-1]) ** 2)
    return xp.sin(math.pi * w[0]) ** 2 + waves + last


def rosenbrock(x: Batch, xp: ModuleType = np, *, centre: Sequence[float]) -> Batch:
    """Compute the Rosenbrock function: a long curved valley with steep walls (Rosenbrock 1960).

    ``f = sum_{i<d} 100 (z_{i+1} - z_i^2)^2 + (1 - z_i)^2`` with ``z = x - centre + 1``.
    """
    z = [x[..., i : i + 1] - c + 1.0 for i, c in enumerate(centre)]
    return sum(100.0 * (after - here**2) ** 2 + (1.0 - here) ** 2 for here, after in pairwise(z))


def branin(x: Batch, xp: ModuleType = np, *, active: tuple[int, int]) -> Batch:
    """Compute the Branin function of two coordinates in the unit cube.

    ``f = (b - 5.1 a^2 / (4 pi^2) + 5 a / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos a + 10``, where ``a``
    in [-5, 10] and ``b`` in [0, 15] are the scaled coordinates with the indices ``active``.
    """
    first, second = active
    a, b = 15.0 * x[..., first : first + 1] - 5.0, 15.0 * x[..., second : second + 1]
    bend = b - 5.1 / (4.0 * math.pi**2) * a**2 + 5.0 / math.pi * a - 6.0
    return bend**2 + 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * xp.cos(a) + 10.0


def hartmann6(x: Batch, xp: ModuleType = np) -> Batch:
    """Compute the Hartmann function, with one global and five local minima (Hartman 1973).

    ``f = -sum_k alpha_k exp(-sum_i A_ki (x_i - P_ki)^2)``.
    """
    value = 0.0
    for height, widths, centres in zip(_HEIGHTS, _WIDTHS, _CENTRES, strict=True):
        terms = (
            w * (x[..., i : i + 1] - c) ** 2
            for i, (w, c) in enumerate(zip(widths, centres, strict=True))
        )
        value = value - height * xp.exp(-sum(terms))
    return value


def formula_oracle(
    formula: Callable[..., Batch], outputs: Sequence[str], differentiable: bool
) -> Callable[..., object]:
    """Convert a formula to an oracle.

    Args:
        formula: map from vectors ``(n, d)`` to outputs ``(n, m)``.
        outputs: m names.
        differentiable: if True, the oracle is a torch module with gradients; else a plain function
            without torch.
    """
    if not differentiable:
        return Function(formula, outputs=list(outputs))
    from bo_invert.problems.examples.closed_form import Analytic

    return Analytic(formula)


def generator(name: str, seed: int) -> np.random.Generator:
    """Create the random generator of a problem.

    The name is part of the seed, so a search with the same seed draws different numbers.
    """
    return np.random.default_rng([seed, *name.encode()])


def spot(rng: np.random.Generator, size: int, lower: float, upper: float) -> Array:
    """Sample coordinates ``(size,)`` at 15 to 40 % or at 60 to 85 % of an interval.

    The centre of the box is excluded: many strategies evaluate it first and would find an optimum
    there by chance.
    """
    return lower + (upper - lower) * (
        0.5 + rng.choice((-1.0, 1.0), size) * rng.uniform(0.1, 0.35, size)
    )


@dataclass(frozen=True)
class Shifted:
    """Test function on a cube with the global minimum 0 at a seeded design.

    Args:
        name: name of the problem.
        dimension: dimension of the cube.
        lower: lower bound of every coordinate.
        upper: upper bound of every coordinate.
        textbook: value of every coordinate of the optimum in the literature.
        formula: formula whose argument ``centre`` is the design of the optimum.
    """

    name: str
    dimension: int
    lower: float
    upper: float
    textbook: float
    formula: Callable[..., Batch]

    def optimizer(self, seed: int | None = 0) -> tuple[float, ...]:
        """Return the design of the global minimum; ``seed`` as in ``problem``."""
        if seed is None:
            return (self.textbook,) * self.dimension
        rng = generator(self.name, seed)
        return tuple(spot(rng, self.dimension, self.lower, self.upper).tolist())

    def problem(self, seed: int | None = 0, differentiable: bool = True) -> Problem:
        """Minimise Ackley, Levy or Rosenbrock with a seeded optimum; the minimum is 0.

        Args:
            seed: seed of the optimum inside the cube; None for the optimum of the literature.
            differentiable: if True, the oracle is a torch module with gradients; else a plain
                function without torch.
        """
        box = Box([self.lower] * self.dimension, [self.upper] * self.dimension)
        formula = partial(self.formula, centre=self.optimizer(seed))
        return _minimisation(self.name, box, formula, differentiable)


ACKLEY10 = Shifted("ackley10", 10, -5.0, 10.0, textbook=0.0, formula=ackley)
LEVY16 = Shifted("levy16", 16, -10.0, 10.0, textbook=1.0, formula=levy)
ROSENBROCK8 = Shifted("rosenbrock8", 8, -5.0, 10.0, textbook=1.0, formula=rosenbrock)


def branin_active(seed: int | None = 0) -> tuple[int, int]:
    """Return the indices of the two active coordinates; ``seed`` as in ``branin25_problem``."""
    if seed is None:
        return 0, 1
    first, second = generator("branin25", seed).choice(BRANIN_DIMENSION, 2, replace=False).tolist()
    return first, second


def branin_optimizer(seed: int | None = 0, which: int = 0) -> tuple[float, ...]:
    """Return a design of the global minimum, 25 numbers; inactive coordinates are 0.5.

    Args:
        seed: as in ``branin25_problem``.
        which: index of the minimum, 0 to 2.
    """
    a, b = _BRANIN_OPTIMA[which]
    first, second = branin_active(seed)
    scaled = {first: (a + 5.0) / 15.0, second: b / 15.0}
    return tuple(scaled.get(i, 0.5) for i in range(BRANIN_DIMENSION))


def branin25_problem(seed: int | None = 0, differentiable: bool = True) -> Problem:
    """Minimise Branin in two active coordinates of 25; the minimum is 0.398.

    The problem with inactive coordinates is that of Wang et al. 2016, "Bayesian optimization in a
    billion dimensions via random embeddings". There are three global minima.

    Args:
        seed: seed of the active coordinates; None for the first two.
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    box = Box([0.0] * BRANIN_DIMENSION, [1.0] * BRANIN_DIMENSION)
    formula = partial(branin, active=branin_active(seed))
    return _minimisation("branin25", box, formula, differentiable)


def hartmann6_problem(differentiable: bool = True) -> Problem:
    """Minimise Hartmann-6 in the unit cube; the minimum is -3.322.

    Args:
        differentiable: if True, the oracle is a torch module with gradients; else a plain
            function without torch.
    """
    return _minimisation("hartmann6", Box([0.0] * 6, [1.0] * 6), hartmann6, differentiable)


def _minimisation(
    name: str, box: Box, formula: Callable[..., Batch], differentiable: bool
) -> Problem:
    return Problem(
        box, formula_oracle(formula, ["y"], differentiable), Minimize(), outputs=["y"], name=name
    )
