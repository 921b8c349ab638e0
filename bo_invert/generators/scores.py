"""How near drawn designs are to real ones that the generator never saw: two samples compared. numpy and scipy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from bo_invert.types import Array

_NEIGHBOURS = 5
COLLAPSED = 0.5
"""A generator that covers less than this share of what another real sample would cover has lost modes."""


def energy_distance(one: Any, other: Any) -> float:
    """Twice the mean distance between two samples less the mean distances within each; 0 for equal distributions.

    (Székely and Rizzo, "Energy statistics", 2013.) Unbiased, so it may come out a little below 0.

    Args:
        one: shape ``(n, ...)``, n >= 2.
        other: shape ``(m, ...)``, m >= 2.
    """
    a, b = _rows(one), _rows(other)
    within = sum(float(cdist(x, x).sum()) / (len(x) * (len(x) - 1)) for x in (a, b))
    return 2.0 * float(cdist(a, b).mean()) - within


def fidelity(real: Any, made: Any) -> dict[str, float]:
    """``precision`` and ``coverage`` of made designs, in the balls that reach to the fifth neighbour of each real one.

    Precision is the share of made designs inside some ball: how many look real (Kynkäänniemi et al., 2019). Coverage is
    the share of balls with a made design inside: how much of what is real is made at all (Naeem et al., 2020). Where
    both samples come from one distribution and are of one size, coverage is about 0.97.

    Args:
        real: shape ``(n, ...)``, n > 5.
        made: shape ``(m, ...)``; more than n are compared n at a time, and the figures are means.
    """
    known, drawn = _rows(real), _rows(made)
    neighbours = min(_NEIGHBOURS, len(known) - 1)
    reach = np.partition(cdist(known, known), neighbours, axis=1)[:, neighbours]
    inside = cdist(drawn, known) <= reach
    parts = [
        inside[i : i + len(known)]
        for i in range(0, max(len(drawn) - len(known), 0) + 1, len(known))
    ]
    coverage = float(np.mean([part.any(axis=0).mean() for part in parts]))
    return {"precision": float(inside.any(axis=1).mean()), "coverage": coverage}


def lost_modes(figures: Mapping[str, float]) -> tuple[str, ...]:
    """A remark where ``coverage`` is far below ``coverage_of_real``, what other real designs of that number cover."""
    coverage, possible = figures["coverage"], figures["coverage_of_real"]
    if coverage >= COLLAPSED * possible:
        return ()
    remark = (
        f"mode collapse: draws cover {coverage:.0%} of the held-out designs, where as many real designs cover "
        f"{possible:.0%}; targets that only the rest can reach are out of reach"
    )
    return (remark,)


def _rows(designs: Any) -> Array:
    array = np.asarray(designs, dtype=np.float64)
    return array.reshape(len(array), -1)
