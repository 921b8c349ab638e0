"""Designs of a domain that has few of them, such as a box with fixed values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from bo_invert.domains.conditions import all_values
from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.named_points import project_named
from bo_invert.domains.parameters import Parameter
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array, Mask

_MOST = 1000
"""Largest number of combinations of values that are listed. Engineering choice: 0.1 s."""
_STARTS = 16
"""Number of starts in the search for points of a combination. Engineering choice: a set of several
points has more than one of their projections."""
_STEP = 0.01
"""Length of the steps away from a solution, in unit coordinates. Engineering choice: above all
tolerances."""
_SAME = 1e-9
"""Distance of points that are equal, in unit coordinates. Engineering choice: tolerance of input
constraints."""


def has_real_values(domain: Domain, points: Array) -> Mask:
    """Return a mask ``(n,)`` of the points with a real parameter that is active and not fixed."""
    mask = _real_columns(domain)
    return np.asarray((mask & ~domain.inactive(points)).any(axis=1))


def _real_columns(domain: Domain) -> Mask:
    """Return the mask ``(d,)`` of the coordinates of real parameters that are not fixed."""
    fixed = domain.fixed if isinstance(domain, ConstrainedBox) else {}
    mask = np.zeros(domain.dim, dtype=bool)
    for name, one in domain.parameters.items():
        if one.width and one.continuous and name not in fixed:
            mask[domain.columns[name]] = True
    return mask


@lru_cache(maxsize=16)  # asks of a day have the same domain
def distinct_points(domain: Domain) -> Array | None:
    """Return the points ``(n, d)`` of all designs of a domain, None for too many.

    Real parameters are single values where they are inactive or fixed, or where linear constraints
    leave one point.
    """
    if domain.latent or not domain.parameters:
        return None
    fixed = domain.fixed if isinstance(domain, ConstrainedBox) else {}
    varied = {n: p for n, p in domain.parameters.items() if p.width and n not in fixed}
    discrete = {n: p for n, p in varied.items() if not p.continuous}
    real = len(varied) > len(discrete)
    if real and not (domain.constraints or domain.conditional):
        return None
    if math.prod(one.levels for one in discrete.values()) > _MOST:
        return None
    points = _combinations(domain, discrete)
    if not real:
        return points[domain.satisfied(points)]
    undecided = has_real_values(domain, points)
    found = [points[~undecided][domain.satisfied(points[~undecided])]]
    for point in points[undecided]:
        solutions = _solutions(domain, point, _real_columns(domain))
        if solutions is None:
            return None
        found.append(solutions)
    return np.concatenate(found)


def unused_points(points: Array, used: Array) -> Array:
    """Return the points of ``(n, d)`` that are not among used ones ``(k, d)``."""
    return points[[not is_among(point, used) for point in points]]


def is_among(point: Array, known: Array) -> bool:
    """Return True if a point ``(d,)`` is one of known points ``(k, d)``, apart from rounding."""
    return bool((np.abs(known - point).max(axis=1, initial=0.0) <= _SAME).any())


def _combinations(domain: Domain, discrete: dict[str, Parameter]) -> Array:
    """Return a point ``(n, d)`` for each combination of values; real coordinates are 1/2."""
    fixed = domain.fixed if isinstance(domain, ConstrainedBox) else {}
    rows = list(product(*(all_values(one) for one in discrete.values())))
    points = np.full((len(rows), domain.dim), 0.5)
    columns: list[tuple[str, Sequence[object]]] = list(
        zip(discrete, zip(*rows, strict=True), strict=True)
    )
    columns += [(name, [value] * len(rows)) for name, value in fixed.items()]
    for name, values in columns:
        if not isinstance(domain.parameters[name], Fixed):
            points[:, domain.columns[name]] = domain.parameters[name].coordinates(list(values))
    _, first = np.unique(project_named(domain.parameters, points), axis=0, return_index=True)
    return project_named(domain.parameters, points[np.sort(first)])


def _solutions(domain: Domain, point: Array, real: Mask) -> Array | None:
    """Return the points ``(k, d)`` of a combination of values, None for a continuum.

    Projections of starts all over the box find solutions. A solution is alone among those with the
    same parameters at zero if no step along an axis leads to another one: linear constraints are
    convex, and the normal cone of a single point is the whole space. Two solutions whose middle is
    a solution, too, belong to a continuum.
    """
    if not isinstance(domain, ConstrainedBox) or domain.feasible.functions:
        return None
    starts = np.repeat(point[None], _STARTS, axis=0)
    starts[:, real] = np.random.default_rng(0).random((_STARTS, int(real.sum())))
    solutions = _projections(domain, point, real, starts)
    if not len(solutions):
        return solutions
    steps = _STEP * np.concatenate([np.eye(domain.dim)[real], -np.eye(domain.dim)[real]])
    near = (solutions[:, None] + steps).reshape(-1, domain.dim)
    solutions = _projections(domain, point, real, np.concatenate([solutions, near]))
    pairs = [(a, b) for i, a in enumerate(solutions) for b in solutions[:i]]
    middles = np.array([0.5 * (a + b) for a, b in pairs]).reshape(-1, domain.dim)
    return None if len(middles) and bool(domain.satisfied(middles).any()) else solutions


def _projections(domain: Domain, point: Array, real: Mask, starts: Array) -> Array:
    """Return different projections ``(k, d)`` of starts that have the other values of a point."""
    found = np.empty((0, domain.dim))
    for one in domain.project(starts):
        same = np.abs(one - point)[~real].max(initial=0.0) <= _SAME
        if same and not is_among(one, found):
            found = np.concatenate([found, one[None]])
    return found
