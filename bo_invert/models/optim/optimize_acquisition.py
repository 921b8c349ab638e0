"""Optimisation of acquisition functions: raw candidates, then gradient ascent from the best ones.

Candidates near the incumbents matter most in many dimensions (Papenmeier et al. 2025). Near a
target, improvements lie within a thousandth of the best point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.models.optim.discrete_search import (
    activated,
    climb,
    discrete_configurations,
    discrete_names,
    has_configurations,
)
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.models.optim.feasible_polytope import constrained_minimum
from bo_invert.models.optim.score import DifferentiableScore, Score, at_valid, differentiable
from bo_invert.types import Array, Indices

_SIGMAS = (1e-3, 1e-2, 1e-1)
"""Standard deviations of perturbations in units of the domain's width (the smallest from Papenmeier
et al. 2025)."""
_CONFIGURATIONS = 6
"""Number of discrete configurations with an ascent of their own. Engineering choice: bounds the
cost."""
_MOVES = 3
"""Discrete moves of a start between two ascents. Engineering choice: bounds the cost."""
_ASCENTS = (0.3, 1.0)
"""Shares of the gradient steps in each of the alternating ascents. Engineering choice: the first
one only has to rank the configurations."""


def optimize_acquisition(
    score: Score,
    domain: Domain,
    incumbents: Array,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
    *,
    duplicates: DuplicateFilter | None = None,
    n_global: int = 256,
    n_local: int = 192,
    starts: int = 6,
    steps: int = 50,
    warm_starts: Array | None = None,
) -> tuple[Array, Array]:
    """Maximise a score over new points of the domain.

    Args:
        score: Function from unit inputs ``(b, d)`` to scores ``(b,)``, evaluated at valid points.
        domain: Search domain.
        incumbents: Good points, best first, shape ``(k, d)``; may be empty.
        known: Points ``(d,)`` that are proposed again only without alternative.
        rng: Random generator of the candidates.
        duplicates: Filter of points that would repeat known ones.
        n_global: Number of space-filling candidates.
        n_local: Number of perturbed incumbents.
        starts: Number of candidates for gradient ascent.
        steps: Largest number of gradient steps.
        warm_starts: Ends of the ascent of a similar score, shape ``(b, d)``.

    Returns:
        Best new point ``(d,)``, and the ends of the ascent ``(starts, d)``.
    """
    valid = at_valid(score, domain)
    pools = _pools(domain, incumbents, rng, n_global, n_local)
    if warm_starts is not None:
        pools.append(warm_starts)
    # Each pool contributes equally, so that neither wide nor local search is crowded out.
    seen = [evaluate_scores(valid, domain, pool) for pool in pools]
    best = [np.argsort(-values, kind="stable")[: starts // len(pools)] for values in seen]
    candidates = np.concatenate([pool[rows] for pool, rows in zip(pools, best, strict=True)])
    if not has_configurations(domain):
        ends = gradient_ascent(valid, domain, candidates, steps)
    else:
        spread = _best_of_each_configuration(domain, np.concatenate(pools), np.concatenate(seen))
        # The best candidates are often the best of their configuration, too.
        repeated = (spread[:, None] == candidates).all(axis=2).any(axis=1)
        candidates = np.concatenate([candidates, spread[~repeated]])
        ends = _mixed_ascent(score, domain, candidates, rng, steps)
    found = np.concatenate([ends, candidates])
    values = np.concatenate([evaluate_scores(valid, domain, found), *seen])
    return _best_new(domain, np.concatenate([found, *pools]), values, known, rng, duplicates), ends


def raw_candidates(
    domain: Domain,
    incumbents: Array,
    rng: np.random.Generator,
    n_global: int = 256,
    n_local: int = 768,
) -> Array:
    """Draw ``n_global`` space-filling points and ``n_local`` perturbations of incumbents."""
    return np.concatenate(_pools(domain, incumbents, rng, n_global, n_local))


def optimize_in_box(
    score: Score,
    domain: Domain,
    centre: Array,
    reach: float,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
) -> Array:
    """Maximise a score over new points in a box; return a point ``(d,)``.

    Args:
        score: Function from unit inputs ``(b, d)`` to scores ``(b,)``.
        domain: Search domain.
        centre: Centre of the box, shape ``(d,)``.
        reach: Half the width of the box in units of the domain's width.
        known: Points ``(d,)`` that are proposed again only without alternative.
        rng: Random generator of the candidates.
    """
    valid = at_valid(score, domain)
    spread = reach * np.ptp(domain.bounds, 0)
    # The centre itself is a candidate: a score may have its maximum there.
    steps = rng.uniform(-1.0, 1.0, (128, domain.dim))
    pool = np.concatenate([centre[None], centre + spread * steps])
    pool = domain.project(pool if domain.continuous else _resample_one_parameter(domain, pool, rng))
    best = np.argsort(-evaluate_scores(valid, domain, pool), kind="stable")[:4]
    box = to_unit(domain, np.array([centre - spread, centre + spread])).clip(0.0, 1.0)
    ends = gradient_ascent(valid, domain, pool[best], 60, *box)
    candidates = np.concatenate([ends, pool])
    return _best_new(domain, candidates, evaluate_scores(valid, domain, candidates), known, rng)


def _pools(
    domain: Domain, incumbents: Array, rng: np.random.Generator, n_global: int, n_local: int
) -> list[Array]:
    """Return global and, with incumbents, local candidates."""
    pools = [domain.candidates(rng, n_global)]
    if len(incumbents):
        pools.append(domain.project(_perturbed(domain, incumbents, n_local, rng)))
    return pools


def _best_new(
    domain: Domain,
    candidates: Array,
    values: Array,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
    duplicates: DuplicateFilter | None = None,
) -> Array:
    """Return the best candidate ``(d,)`` that is no duplicate, or else a random point."""
    # Random points are the last resort, if all candidates are duplicates.
    ranked = candidates[np.argsort(-values, kind="stable")]
    spare = 64 if isinstance(domain, ConstrainedBox) else 1024  # chains draw slowly
    filtered = duplicates or DuplicateFilter(domain)
    found = filtered.select_new(ranked, known, 1, lambda: domain.uniform(rng, spare))
    return np.asarray(found[0])


def evaluate_scores(
    score: DifferentiableScore, domain: Domain, points: Array, chunk: int = 256
) -> Array:
    """Evaluate scores ``(b,)`` or ``(q, b)`` of points ``(b, d)`` in chunks, without gradients."""
    inputs = to_unit(domain, points)
    parts = [score.values(inputs[i : i + chunk]) for i in range(0, max(1, len(inputs)), chunk)]
    values = np.concatenate(parts, -1)
    return np.asarray(np.nan_to_num(values, nan=-1e300, posinf=1e300, neginf=-1e300))


def _perturbed(domain: Domain, incumbents: Array, count: int, rng: np.random.Generator) -> Array:
    """Perturb incumbents by normal steps of three sizes, in about 20 coordinates.

    Sparse steps are those of RAASP (Regis & Shoemaker 2013; Eriksson et al. 2019).
    """
    # Incumbents and step sizes alternate, so that each pair occurs equally often.
    which = np.arange(count)
    centres = incumbents[which % len(incumbents)]
    sigmas = np.outer(_SIGMAS, np.ptp(domain.bounds, 0))[which // len(incumbents) % len(_SIGMAS)]
    mask = rng.random((count, domain.dim)) < min(1.0, 20.0 / domain.dim)
    points = centres + mask * sigmas * rng.standard_normal((count, domain.dim))
    return points if domain.continuous else _resample_one_parameter(domain, points, rng)


def _resample_one_parameter(domain: Domain, points: Array, rng: np.random.Generator) -> Array:
    """Resample one random discrete parameter of each point."""
    before, points = points, points.copy()
    discrete = [domain.columns[name] for name in discrete_names(domain)]
    choice = rng.integers(len(discrete), size=len(points))
    fresh = domain.uniform(rng, len(points))
    for row, which in enumerate(choice):
        points[row, discrete[which]] = fresh[row, discrete[which]]
    return activated(domain, before, points, rng) if domain.conditional else points


def _best_of_each_configuration(domain: Domain, points: Array, values: Array) -> Array:
    """Return the best point of each of the best discrete configurations, ``(k, d)``.

    The optimum of a choice is often known only after its real coordinates are optimised. Without
    these points, all ascents would start in one configuration.
    """
    order = np.argsort(-values, kind="stable")
    first = np.unique(discrete_configurations(domain, points[order]), return_index=True)[1]
    return np.asarray(points[order][np.sort(first)[:_CONFIGURATIONS]])


def _mixed_ascent(
    score: Score, domain: Domain, points: Array, rng: np.random.Generator, steps: int
) -> Array:
    """Alternate discrete moves and gradient ascent in the real coordinates; return ``(k, d)``.

    The better half of the points goes on after the first ascent. Sets of non-zero parameters are
    exchanged only at the ends of a whole ascent, since a value that is not optimal says little.
    """
    valid_score = at_valid(score, domain)

    def values(moved: Array) -> Array:
        # Moves of valid points are valid and need no projection.
        return evaluate_scores(differentiable(score), domain, moved)

    if domain.continuous:
        points = gradient_ascent(valid_score, domain, points, steps)
        points = points[np.argsort(-values(points), kind="stable")[: (len(points) + 1) // 2]]
        moved = climb(values, domain, points, rng, _MOVES)
        changed = (moved != points).any(axis=1)
        if changed.any():
            moved[changed] = gradient_ascent(valid_score, domain, moved[changed], steps)
        return moved
    for share in _ASCENTS:
        points = climb(values, domain, points, rng, _MOVES)
        if not domain.has_real:
            break
        few = max(8, int(share * steps))
        points = gradient_ascent(valid_score, domain, points, few)
        points = points[np.argsort(-values(points), kind="stable")[: (len(points) + 1) // 2]]
    return points


def gradient_ascent(
    score: DifferentiableScore,
    domain: Domain,
    points: Array,
    steps: int,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    functions: Indices | None = None,
) -> Array:
    """Ascend from points ``(k, d)``; return the ends, or a start if its end is not finite.

    Args:
        score: Score of unit inputs.
        domain: Search domain.
        points: Starts, shape ``(k, d)``.
        steps: Largest number of evaluations of each start.
        low: Lower bounds of the unit inputs, broadcast to ``(k, d)``.
        high: Upper bounds of the unit inputs, broadcast to ``(k, d)``.
        functions: Number of the function that each start ascends, shape ``(k,)``; None for a score
            of one function.
    """
    numbers = np.zeros(len(points), dtype=int) if functions is None else functions

    def function(inputs: Array, rows: Indices) -> tuple[Array, Array]:
        value, slope = score.gradient(inputs, numbers[rows])
        return -value, -slope

    starts = to_unit(domain, points)
    if isinstance(domain, ConstrainedBox):
        found = constrained_minimum(function, domain, starts, (low, high), steps)
    else:
        lower, upper = (np.broadcast_to(bound, points.shape) for bound in (low, high))
        found, _ = minimise_batched(function, starts, lower, upper, steps=steps, tolerance=1e-6)
    arrived = from_unit(domain, found)
    return np.where(np.isfinite(arrived).all(1, keepdims=True), arrived, points)
