"""Local search over choices and integers: moves to neighbouring designs; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bo_invert.domains.conditions import all_values
from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.parameters import Float, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array, Indices

_MAX_VALUES = 64
"""Largest number of values of one parameter that are all tried. Engineering choice: bounds the
cost; of more values, random ones are tried."""
_JUMPS = 4
"""Number of random values of an integer beside its neighbours. Engineering choice: leaves local
optima."""
_PAIRS = 12
"""Random changes of two parameters at once. Engineering choice: finds interacting choices."""
_MAX_NEIGHBOURS = 120
"""Largest number of neighbours of a point. Engineering choice: bounds the cost."""


def discrete_names(domain: Domain) -> list[str]:
    """Return the names of the parameters that are not real numbers."""
    return [name for name, p in domain.axes.items() if not p.continuous]


def has_configurations(domain: Domain) -> bool:
    """Return True if points have discrete parts: values, or sets of non-zero parameters."""
    counts = isinstance(domain, ConstrainedBox) and bool(domain.feasible.counts)
    return counts or not domain.continuous


def discrete_configurations(domain: Domain, points: Array) -> Indices:
    """Return the number of the discrete configuration of each point ``(n, d)``, shape ``(n,)``."""
    columns = domain.columns
    valid = domain.rounded(points) if isinstance(domain, ConstrainedBox) else domain.project(points)
    parts = [valid[:, columns[name]] for name in discrete_names(domain)]
    if isinstance(domain, ConstrainedBox):
        parts.append(domain.feasible.support(points).astype(float))
    found = np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)[1]
    return found.ravel()


def neighbours(domain: Domain, point: Array, rng: np.random.Generator) -> Array:
    """Return points ``(m, d)`` that differ in one discrete parameter, and some that differ in two.

    A parameter takes all other values. If it has many, an ordered one moves by one and two (real
    numbers with a step: by powers of two) and to some random values, and an unordered one to random
    values. Parameters that become active are drawn.
    """
    if isinstance(domain, ConstrainedBox) and domain.feasible.counts:
        swaps = domain.feasible.swaps(point)
        more = [_moved(domain, point, rng)] if discrete_names(domain) else []
        return np.concatenate([swaps, *more])
    return _moved(domain, point, rng)


def _moved(domain: Domain, point: Array, rng: np.random.Generator) -> Array:
    """Return points ``(m, d)`` that differ in one or two discrete parameters."""
    names, columns = discrete_names(domain), domain.columns
    codes = {name: _other_values(domain.axes[name], point[columns[name]], rng) for name in names}
    moved = [_replaced(point, [(columns[name], code)]) for name in names for code in codes[name]]
    if len(moved) > _MAX_NEIGHBOURS:
        chosen = rng.choice(len(moved), _MAX_NEIGHBOURS, replace=False)
        moved = [moved[i] for i in np.sort(chosen)]
    for _ in range(_PAIRS if len(names) > 1 else 0):
        pair = [names[i] for i in rng.choice(len(names), 2, replace=False)]
        changes = [(columns[n], codes[n][rng.integers(len(codes[n]))]) for n in pair]
        moved.append(_replaced(point, changes))
    return activated(domain, point, np.array(moved), rng) if domain.conditional else np.array(moved)


def activated(domain: Domain, point: Array, moved: Array, rng: np.random.Generator) -> Array:
    """Return valid points ``(m, d)`` after moves; parameters that become active are drawn.

    Args:
        domain: Search domain with conditional parameters.
        point: Point before the moves, shape ``(d,)``, or one for each, ``(m, d)``.
        moved: Points after the moves, shape ``(m, d)``.
        rng: Random generator of the drawn values.
    """
    before = domain.inactive(np.atleast_2d(point))
    return domain.project(np.where(before, rng.random(moved.shape), moved))


def _replaced(point: Array, changes: Sequence[tuple[slice, Array]]) -> Array:
    """Return a point ``(d,)`` with other coordinates in some columns."""
    changed = point.copy()
    for columns, code in changes:
        changed[columns] = code
    return changed


def climb(
    values: Callable[[Array], Array],
    domain: Domain,
    points: Array,
    rng: np.random.Generator,
    rounds: int,
) -> Array:
    """Move each point ``(k, d)`` to its best neighbour while that has a higher value.

    Args:
        values: Function from points ``(n, d)`` to values ``(n,)``; higher is better.
        domain: Search domain with discrete parameters.
        points: Starts. Each climbs on its own, so that different starts stay different.
        rng: Random generator of the moves.
        rounds: Largest number of moves of each start.
    """
    points, active = points.copy(), np.arange(len(points))
    reached = values(points)
    for _ in range(rounds):
        moves = [neighbours(domain, points[i], rng) for i in active]
        ends = np.cumsum([len(m) for m in moves])[:-1]
        if isinstance(domain, ConstrainedBox):
            moves = np.split(domain.project(np.concatenate(moves)), ends)
        found = np.split(values(np.concatenate(moves)), ends)
        better = []
        for i, candidates, own in zip(active, moves, found, strict=True):
            best = int(own.argmax())
            if own[best] > reached[i]:
                points[i], reached[i] = candidates[best], own[best]
                better.append(i)
        active = np.array(better, dtype=int)
        if not len(active):
            break
    return points


def _other_values(
    parameter: VariedParameter, coordinates: Array, rng: np.random.Generator
) -> Array:
    """Return the coordinates ``(v, w)`` of other values of a parameter of width w."""
    here = parameter.decode(coordinates[None])[0]
    if isinstance(parameter, Int) and parameter.levels > _MAX_VALUES:
        return parameter.encode(_other_integers(parameter, int(here), rng))
    every = all_values(parameter)
    ordered = parameter.width == 1
    if len(every) > _MAX_VALUES and ordered:
        near = every.index(here) + _offsets(parameter, len(every))
        jumps = rng.integers(len(every), size=_JUMPS)
        # Unique positions, so that no value is tried twice.
        every = [every[i] for i in np.unique([*near[(near >= 0) & (near < len(every))], *jumps])]
    elif len(every) > _MAX_VALUES:
        some = np.sort(rng.choice(len(every), _MAX_VALUES, replace=False))
        every = [every[i] for i in some]
    return parameter.encode([value for value in every if value != here])


def _other_integers(parameter: Int, here: int, rng: np.random.Generator) -> list[int]:
    """Return neighbours and random values of an integer with many values, rising."""
    near = (here + offset for offset in (-2, -1, 1, 2))
    # Counts beyond 2^63 exceed the integers of numpy; exact arithmetic of Python holds them.
    count = parameter.levels
    jumps = (
        rng.integers(count, size=_JUMPS).tolist()
        if count < 2**63
        else [int.from_bytes(rng.bytes(_wide(count)), "big") % count for _ in range(_JUMPS)]
    )
    found = {one for one in near if parameter.low <= one <= parameter.high}
    return sorted((found | {parameter.low + jump for jump in jumps}) - {here})


def _wide(count: int) -> int:
    """Return a number of random bytes whose remainders modulo ``count`` are nearly uniform."""
    return count.bit_length() // 8 + 8


def _offsets(parameter: VariedParameter, count: int) -> Indices:
    """Return the moves of an ordered parameter of many values, in positions.

    Those of a grid of real numbers double up to half the range, as in a line search.
    """
    if not isinstance(parameter, Float):
        return np.array([-2, -1, 1, 2])
    steps = 2 ** np.arange(int(math.log2(count)))
    return np.concatenate([-steps[::-1], steps])
