"""How a search begins: a few points spread over a box, or drawn from a latent's reference measure. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from bo_invert.history import History
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.models.optim.trust_region import distant
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array, Query


class DesignRequest(Protocol):
    """What a design needs to know of a strategy's request."""

    @property
    def count(self) -> int: ...
    def rng(self) -> np.random.Generator: ...
    def stream(self, *key: int) -> np.random.Generator: ...


def initial_design_size(d: int, budget: int | None, initial: int | None = None) -> int:
    """How many points are wanted before a model is: ``initial``, or twice the dimensions, at least 5 and at most 20."""
    return limit_to_budget(min(max(5, 2 * d), 20), budget) if initial is None else initial


def limit_to_budget(size: int, budget: int | None) -> int:
    """The size of a design that spends at most a quarter of the budget, but no fewer than two calls."""
    return size if budget is None else min(size, max(2, budget // 4))


def needs_initial_design(history: History, size: int) -> bool:
    """Whether a model has to wait: fewer trials are told or open than the design has, or fewer than two are told."""
    told = len(history.completed)
    return told < 2 or told + len(history.pending) < size


def count_design_points(history: History) -> int:
    """How many points of designs are in a log, whoever asked for them."""
    return sum("design" in trial.query.meta for trial in history.trials)


def initial_design(
    name: str,
    domain: Domain,
    history: History,
    request: DesignRequest,
    *,
    abandoned: Sequence[Array] = (),
    meta: Mapping[str, JSON] | None = None,
    duplicates: DuplicateFilter | None = None,
    spare: int = 32,
) -> tuple[Query, ...]:
    """The next queries of a design, none of them known; ``meta["design"]`` counts them.

    In a box they go on with one scrambled Sobol sequence, in a latent they are fresh draws, as plausible as the
    domain's ``floor`` wants.

    Args:
        name: of the strategy that asks.
        domain: where to ask.
        history: of the whole log.
        request: how many, and with which random numbers.
        left: centres of searches that were given up, points of shape ``(d,)``: nothing near them while there is else.
        mark: further ``meta`` of each query.
        spacing: what counts as known besides told points; default: nothing.
        spare: so many points more are drawn than asked for, to choose from.
    """
    before, many = count_design_points(history), request.count + spare
    pool = domain.space_filling(request.stream(0), request.rng(), many, skip=before)
    pool = pool[np.argsort(~distant(pool, abandoned, domain.typical_distance / 2.0), kind="stable")]
    points = (duplicates or DuplicateFilter(domain)).select_new(
        pool, history.all_points, request.count
    )
    return tuple(
        Query(x, origin=name, meta={**(meta or {}), "design": before + i})
        for i, x in enumerate(points)
    )
