"""Initial designs: space-filling points of a box, or draws of a latent; numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.models.optim.trust_region import distant
from bo_invert.types import JSON, Array, Query

_MANY_FAILURES = 5
"""Number of failures after which the design stays near its only observation. Engineering choice: a
feasible share above 1/2 has fewer before the second observation, with probability 0.98."""
_STEP = 0.3
"""Distance from the only observation in distances of the nearest failure. Engineering choice: each
further failure shortens the next step."""


def initial_design_size(
    d: int, budget: int | None, initial: int | None = None, large: bool = False
) -> int:
    """Return ``initial``, or d / 2 + 2 between 4 and 8, limited by the budget.

    A large design has 2 d points, between 5 and 20.
    """
    if initial is not None:
        return initial
    size = min(max(5, 2 * d), 20) if large else min(max(4, d // 2 + 2), 8)
    return limit_to_budget(size, budget)


def limit_to_budget(size: int, budget: int | None) -> int:
    """Limit the size of a design to a quarter of the budget, but at least two calls."""
    return size if budget is None else min(size, max(2, budget // 4))


def needs_initial_design(history: History, size: int) -> bool:
    """Return whether a log has fewer trials than the design, or fewer than two observations.

    Failed trials count: where most designs fail, more of the design would fail as well.
    """
    # A surrogate needs two observations to have a scale.
    # Observations outside the domain say little about the optimum inside.
    observed = len(history.ranking)
    ended = observed + len(history.failed)
    return observed < 2 or ended + len(history.pending) < size


def count_design_points(history: History) -> int:
    """Count the points of all initial designs in a log."""
    return sum("design" in trial.query.meta for trial in history.trials)


def initial_design(
    name: str,
    domain: Domain,
    history: History,
    count: int,
    sequence: np.random.Generator,
    draws: np.random.Generator,
    *,
    abandoned: Sequence[Array] = (),
    meta: Mapping[str, JSON] | None = None,
    duplicates: DuplicateFilter | None = None,
    spare: int = 32,
) -> tuple[Query, ...]:
    """Return the next queries of an initial design; ``meta["design"]`` counts them.

    In a box they continue one scrambled Sobol sequence (Owen 1998). In a latent they are draws of
    the reference measure above the plausibility bound. After many failures and one observation,
    they are points near the observation.

    Args:
        name: Name of the strategy.
        domain: Search domain.
        history: Log.
        count: Number of queries.
        sequence: Random generator that scrambles the Sobol sequence; the same at each ask.
        draws: Random generator of the draws of a latent.
        abandoned: Centres ``(d,)`` of former trust regions; points near them come last.
        meta: Further ``meta`` of each query.
        duplicates: Filter of points that would repeat known ones.
        spare: Number of additional candidates.
    """
    # Points of all designs count, so that the Sobol sequence never repeats itself.
    before = count_design_points(history)
    if len(history.ranking) == 1 and len(history.failed) >= _MANY_FAILURES:
        pool = _around_observation(domain, history, draws, count + spare)
    else:
        pool = domain.space_filling(sequence, draws, count + spare, skip=before)
    # A stable sort keeps the order of the sequence among points of equal rank.
    far = distant(pool, abandoned, domain.typical_distance / 2.0)
    pool = pool[np.argsort(~far, kind="stable")]
    points = (duplicates or DuplicateFilter(domain)).select_new(pool, history.all_points, count)
    return tuple(
        Query(x, origin=name, meta={**(meta or {}), "design": before + i})
        for i, x in enumerate(points)
    )


def _around_observation(
    domain: Domain, history: History, rng: np.random.Generator, count: int
) -> Array:
    """Draw points around the only observation, ``(count, d)``, nearer than the nearest failure."""
    centre = history.ranked_points[0]
    distances = np.linalg.norm(history.failed_points - centre, axis=1)
    directions = rng.standard_normal((count, domain.dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return domain.project(centre + _STEP * distances.min() * directions)
