"""Initial designs: space-filling points of a box, or draws of a latent; numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bo_invert.history import History
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.models.optim.trust_region import distant
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array, Query


def initial_design_size(d: int, budget: int | None, initial: int | None = None) -> int:
    """Return ``initial``, or 2 d between 5 and 20, limited by the budget."""
    return limit_to_budget(min(max(5, 2 * d), 20), budget) if initial is None else initial


def limit_to_budget(size: int, budget: int | None) -> int:
    """Limit the size of a design to a quarter of the budget, but at least two calls."""
    return size if budget is None else min(size, max(2, budget // 4))


def needs_initial_design(history: History, size: int) -> bool:
    """Return whether a log has fewer trials than the design, or fewer than two observations."""
    # A surrogate needs two observations to have a scale.
    completed = len(history.completed)
    return completed < 2 or completed + len(history.pending) < size


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
    the reference measure above the plausibility bound.

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
    pool = domain.space_filling(sequence, draws, count + spare, skip=before)
    # A stable sort keeps the order of the sequence among points of equal rank.
    far = distant(pool, abandoned, domain.typical_distance / 2.0)
    pool = pool[np.argsort(~far, kind="stable")]
    points = (duplicates or DuplicateFilter(domain)).select_new(pool, history.all_points, count)
    return tuple(
        Query(x, origin=name, meta={**(meta or {}), "design": before + i})
        for i, x in enumerate(points)
    )
