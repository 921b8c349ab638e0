"""Two-sample scores of generated against held-out designs: energy distance, precision, coverage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from bo_invert.types import Array

# Nearest neighbour that sets the radius of each ball: the default of Naeem et al. 2020.
_NEIGHBOURS = 5
COLLAPSED = 0.5
"""Ratio of the coverage by draws to that by real designs below which modes count as lost."""


def energy_distance(one: ArrayLike, other: ArrayLike) -> float:
    """Estimate the energy distance of two samples (Székely and Rizzo 2013).

        2 E|X - Y| - E|X - X'| - E|Y - Y'|

    It is 0 for equal distributions. The estimate is unbiased, so it may be slightly negative.

    Args:
        one: sample of X, shape ``(n, ...)``, n >= 2.
        other: sample of Y, shape ``(m, ...)``, m >= 2.
    """
    a, b = _rows(one), _rows(other)
    # cdist has zeros on its diagonal: dividing by n (n - 1) averages over pairs of different rows.
    within = sum(float(cdist(x, x).sum()) / (len(x) * (len(x) - 1)) for x in (a, b))
    return 2.0 * float(cdist(a, b).mean()) - within


def fidelity(real: ArrayLike, made: ArrayLike) -> dict[str, float]:
    """Compute ``precision`` and ``coverage`` of generated designs.

    Each real design is the centre of a ball that reaches to its fifth nearest real neighbour.
    Precision is the share of generated designs inside at least one ball (Kynkäänniemi et al.
    2019). Coverage is the share of balls that hold a generated design (Naeem et al. 2020). For
    two samples of one size from one distribution, the expected coverage is about 1 - 2^-5 = 0.97.

    Args:
        real: real designs, shape ``(n, ...)``, n > 5.
        made: generated designs, shape ``(m, ...)``. For m > n, coverage is the mean over parts of
            n designs.
    """
    known, drawn = _rows(real), _rows(made)
    neighbours = min(_NEIGHBOURS, len(known) - 1)
    # Index k of a sorted row is the k-th neighbour: index 0 is the design itself at distance 0.
    reach = np.partition(cdist(known, known), neighbours, axis=1)[:, neighbours]
    inside = cdist(drawn, known) <= reach  # shape (m, n): design i in ball j
    parts = [
        inside[i : i + len(known)]
        for i in range(0, max(len(drawn) - len(known), 0) + 1, len(known))
    ]
    return {
        "precision": float(inside.any(axis=1).mean()),
        "coverage": float(np.mean([part.any(axis=0).mean() for part in parts])),
    }


def lost_modes(figures: Mapping[str, float]) -> tuple[str, ...]:
    """Return a remark if ``coverage`` is far below ``coverage_of_real``, else no remark."""
    coverage, possible = figures["coverage"], figures["coverage_of_real"]
    if coverage >= COLLAPSED * possible:
        return ()
    remark = (
        f"mode collapse: draws cover {coverage:.0%} of the held-out designs; an equal number of "
        f"real designs covers {possible:.0%}. The generator may not reach some targets."
    )
    return (remark,)


def _rows(designs: ArrayLike) -> Array:
    array = np.asarray(designs, dtype=np.float64)
    return array.reshape(len(array), -1)
