"""Largest ball inside of a polytope, by a linear program."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from bo_invert.domains.dual_projection import RANK
from bo_invert.domains.polytope import Polytope
from bo_invert.types import Array


def largest_ball(one: Polytope) -> tuple[Array | None, float]:
    """Return centre ``(q,)`` and radius of the largest ball inside, within the equalities.

    The linear program ``max r : a_i x + r |P a_i| <= b_i, A_e x = b_e`` (Chebyshev centre, Boyd &
    Vandenberghe 2004, section 4.3.1), P being the projector onto the equalities' null space.

    Returns:
        None and 0 for an empty set. A coordinate that is fixed does not limit the ball.
    """
    q = one.lower.shape[1]
    lower, upper, least, most = one.lower[0], one.upper[0], one.least[0], one.most[0]
    free = upper > lower
    if (lower > upper).any():
        return None, 0.0
    fixed = np.concatenate([one.a[one.equal], np.eye(q)[~free]])
    values = np.concatenate([most[one.equal], lower[~free]])
    null = np.eye(q)
    if len(fixed):
        _, sizes, v = np.linalg.svd(fixed)
        null = v[int((sizes > RANK).sum()) :]
    up, down = np.isfinite(most) & ~one.equal, np.isfinite(least) & ~one.equal
    rows = np.concatenate([one.a[up], -one.a[down], np.eye(q)[free], -np.eye(q)[free]])
    limits = np.concatenate([most[up], -least[down], upper[free], -lower[free]])
    lengths = np.linalg.norm(rows @ null.T, axis=1)
    found = linprog(
        [*np.zeros(q), -1.0],
        A_ub=np.column_stack([rows, lengths]) if len(rows) else None,
        b_ub=limits if len(rows) else None,
        A_eq=np.column_stack([fixed, np.zeros(len(fixed))]) if len(fixed) else None,
        b_eq=values if len(fixed) else None,
        bounds=[(None, None)] * q + [(0.0, 1.0)],
    )
    if not found.success:
        return None, 0.0
    return found.x[:-1], float(found.x[-1]) if len(null) else 1.0
