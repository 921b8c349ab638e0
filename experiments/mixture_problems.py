"""Mixture problems whose optimum lies on the boundary of the feasible set; numpy only.

BayBE runs them in an environment of its own (``baybe_mixtures.py``), so this file imports nothing
of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CALLS, SEEDS = 40, 10


@dataclass(frozen=True)
class Mixture:
    """Mixture of fractions that sum to 1.

    Attributes:
        names: names of the fractions.
        upper: upper bounds; the lower ones are 0.
        orders: pairs ``(a, b, factor)`` of further constraints ``a <= factor b``.
        loss: function of fractions ``(d,)``.
    """

    names: tuple[str, ...]
    upper: tuple[float, ...]
    orders: tuple[tuple[str, str, float], ...]
    loss: Callable[[np.ndarray], float]


def _blend(x: np.ndarray) -> float:
    # Scheffe polynomial with synergies; components 3 and 4 are harmful.
    a, b, c, d = x
    return float(3 * a + 2 * b + 4 * c + 6 * d - 9 * a * b - 4 * a * c + 6 * b * d)


def _target(x: np.ndarray) -> float:
    goal = np.array([0.55, 0.4, 0.25, -0.1, -0.2, -0.1])
    weights = np.array([1.0, 2.0, 4.0, 1.0, 3.0, 2.0])
    return float((weights * (x - goal) ** 2).sum())


def _activity(x: np.ndarray) -> float:
    # Saturating activities with an antagonism, and a cost.
    a, b, c, d, e = x
    gain = a / (0.1 + a) + 1.5 * b / (0.4 + b) + np.exp(-(((c - 0.1) / 0.15) ** 2))
    return float(-gain + 2.0 * d * a + 1.5 * e + 0.8 * d + 0.5 * np.sin(6 * b) * c)


MIXTURES = {
    "blend": Mixture(tuple("abcd"), (1.0,) * 4, (), _blend),
    "target": Mixture(tuple("abcdef"), (1.0,) * 6, (), _target),
    "activity": Mixture(
        tuple("abcde"), (0.6, 0.5, 1.0, 1.0, 1.0), (("a", "b", 1.0), ("b", "c", 4.0)), _activity
    ),
}
