"""Proposals without repetitions in domains with few designs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bo_invert.domains.constrained_box import ConstrainedBox, FixedValues, fix_values
from bo_invert.domains.distinct_designs import (
    distinct_points,
    has_real_values,
    is_among,
    unused_points,
)
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import warn_user
from bo_invert.history import History
from bo_invert.storage.journal_base import JournalBase, LoggedProposal
from bo_invert.storage.reader import JournalView
from bo_invert.strategies.base import Strategy
from bo_invert.study.recommendation import known_noisy
from bo_invert.types import INTERVALS, Array, Query, State, Trial

_DRAWS = 256
"""Number of draws that replace repeated designs. Engineering choice: more than a batch."""


def distinct(
    proposal: LoggedProposal, strategy: Strategy, domain: Domain, view: JournalView, seed: int
) -> LoggedProposal:
    """Return a proposal without known designs, unless the oracle is noisy; see ``without_repeats``.

    Args:
        proposal: Proposal of the strategy.
        strategy: Strategy of the study.
        domain: Domain of the ask.
        view: Snapshot of the log.
        seed: Seed of the study.
    """
    if not proposal.queries or not limited(domain):
        return proposal
    if known_noisy(strategy.spec(), History(view.trials)):
        return proposal
    queries = without_repeats(domain, proposal.queries, view.trials, (seed, view.asks))
    return replace(proposal, queries=queries)


def limited(domain: Domain) -> bool:
    """Return True if a part of a domain may have few designs, which its strategies may repeat.

    ``RepeatedDesigns`` answers known designs of discrete domains without fixed values.
    """
    restricted = isinstance(domain, ConstrainedBox) and bool(domain.fixed)
    return restricted or (domain.has_real and (bool(domain.constraints) or domain.conditional))


def without_repeats(
    domain: Domain, queries: Sequence[Query], trials: Sequence[Trial], seed: Sequence[int]
) -> tuple[Query, ...]:
    """Replace queries of known designs by designs that the log does not hold, while there are any.

    A design without real parameters among conditional ones is replaced by a draw. Other queries of
    domains with many designs, descents, gradients and deliberate repetitions stay as they are.

    Args:
        domain: Domain of the ask.
        queries: Proposals of a strategy.
        trials: Trials of the log.
        seed: Seed of the choice among the other designs.
    """
    points = distinct_points(domain)
    listable = points is not None or domain.conditional
    if not listable or not all(_replaceable(query) for query in queries):
        return tuple(queries)
    known = known_points(domain, trials)
    repeated: list[int] = []
    for position, query in enumerate(queries):
        listed = points is not None or not has_real_values(domain, query.point[None])[0]
        if listed and is_among(query.point, known):
            repeated.append(position)
        else:
            known = np.concatenate([known, query.point[None]])
    if not repeated:
        return tuple(queries)
    rng = np.random.default_rng(list(seed))
    others = domain.sample(rng, _DRAWS) if points is None else rng.permutation(points)
    free = list(unused_points(others, known))[: len(repeated)]
    found = dict(enumerate(queries))
    for position, point in zip(repeated, free, strict=False):
        meta = {
            k: v for k, v in queries[position].meta.items() if k not in (INTERVALS, "plausibility")
        }
        found[position] = replace(queries[position], point=point, meta=meta)
    for position in repeated[len(free) :]:
        del found[position]
    return tuple(found.values())


def _replaceable(query: Query) -> bool:
    """Return True for a query of a single value that repeats none on purpose."""
    return query.descent is None and not query.gradient and "repeat" not in query.meta


def known_points(domain: Domain, trials: Sequence[Trial]) -> Array:
    """Return the points ``(k, d)`` of the trials that are recorded or under way."""
    known = [t.point for t in trials if t.state is not State.CANCELLED and not t.outside]
    return np.array(known).reshape(-1, domain.dim)


def exhausted(domain: Domain, trials: Sequence[Trial]) -> int:
    """Return the number of designs of a domain if the log holds all of them, otherwise 0."""
    points = distinct_points(domain)
    if points is None or len(trials) < len(points):
        return 0
    return 0 if len(unused_points(points, known_points(domain, trials))) else len(points)


def warn_if_exhausted(domain: Domain, fixed: FixedValues, journal: JournalBase) -> str:
    """Warn that the log holds all designs of a domain, if it does, and return the reason.

    Args:
        domain: Domain of the study.
        fixed: Values of the ask.
        journal: Log.

    Returns:
        The reason why there are no further proposals; empty if some designs are left.
    """
    count = exhausted(fix_values(domain, fixed) if fixed else domain, journal.trials)
    if not count:
        return ""
    plural = "s exist" if count > 1 else " exists"
    given = f" with fixed={dict(fixed)}" if fixed else ""
    why = f"{count} distinct design{plural}{given}; all are recorded or under way"
    warn_user(
        f"study {journal.name!r}: {why}. Vary further parameters, or use enqueue(design) to "
        "repeat one"
    )
    return why
