"""Random and space-filling points of a feasible set.

Sets that fill a tenth of their box or more are sampled by rejection, others by hit-and-run chains
(Smith 1984), which move along random chords and fill thin sets and equalities as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from bo_invert.domains.dual_projection import clipped
from bo_invert.domains.feasible_check import empty_message, integer_points, require_points
from bo_invert.domains.feasible_set import FeasibleSet
from bo_invert.domains.input_constraints import InputConstraint
from bo_invert.domains.named_points import parameter_quantiles
from bo_invert.domains.parameters import Parameter
from bo_invert.domains.polytope import Polytope
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array, Mask

_POOL = 1024
"""Number of points that start the chains. Engineering choice: 2 MB for 256 coordinates."""
_LEAST_SHARE = 0.1
"""Share of the box from which rejection is used. Engineering choice: ten draws a point."""
_MIXING, _FRESH = 40, 3
"""Steps of hit-and-run from the first points, and from points of the pool. Engineering choice: one
step of each kind of direction; those between points of the pool are long also in thin sets."""
_TRIES = 64
"""Batches of draws in search of points that functions of the user accept. Engineering choice:
finds sets of 1/10,000 of the box."""
_BLOCK = 64
"""Points of one block of a space-filling sequence, selected from four times as many draws.
Engineering choice: the distances of 256 draws take a millisecond."""
_FEW, _PROGRAMS = 16, 24
"""Number of configurations below which integer programs add others, and the number of programs.
Engineering choice: a program takes some milliseconds."""
_END = 1e-9
"""Least distance of a position from the ends of its chord, as a share of its length
(dimensionless). Engineering choice: above rounding."""
_SHRINKAGES = 12
"""Largest number of shorter chords of a rejected step (Neal 2003). Engineering choice."""


class FeasibleDraws:
    """Sampler of a feasible set; draws depend on the generators of the caller only.

    Args:
        within: the feasible set.

    Attributes:
        share: share of uniform points of the box that lie in the set, an estimate.
        pool: points of the set, spread over it, shape ``(k, d)``.

    Raises:
        InvalidInputError: the set is empty, or too thin to sample.
    """

    def __init__(self, within: FeasibleSet) -> None:
        require_points(within)
        self.within = within
        rng = np.random.default_rng(0)  # the same set has the same pool
        uniform = self._box(rng, 4 * _POOL)
        inside = within.satisfied(uniform)
        self.share = float(inside.mean())
        self._values: Array | None = None
        if self.share >= _LEAST_SHARE:
            self.pool = uniform[inside][:_POOL]
            self._values = within.read(self.pool) if within.coupled else None
            return
        self.pool = self._linear_pool(rng, uniform[:_POOL])
        if within.coupled:
            self._values = within.read(self.pool)
        if within.functions:
            self.pool = self._accepted_pool(rng)
        self._keep_satisfied()

    def _keep_satisfied(self) -> None:
        """Remove points from the pool that violate a constraint.

        Raises:
            InvalidInputError: no point is left.
        """
        fine = self.within.satisfied(self.pool)
        if not fine.any():
            raise InvalidInputError(empty_message(self.within))
        if not fine.all():
            self.pool = self.pool[fine]
            self._values = None if self._values is None else self.within.read(self.pool)

    def _box(self, rng: np.random.Generator, n: int) -> Array:
        """Draw uniform points of the box, with the fixed values."""
        u = rng.random((n, self.within.parameter_count))
        return self.within.valid(parameter_quantiles(self.within.parameters, u))

    # --- pools ---------------------------------------------------------------------------------

    def _linear_pool(self, rng: np.random.Generator, uniform: Array) -> Array:
        """Return points ``(k, d)`` that satisfy linear constraints and counts."""
        one = self.within
        if not one.coupled:
            return uniform
        _, scaled, done = one.repair(uniform)
        rows = np.flatnonzero(done)
        if len(rows) < _FEW:
            # Solutions of integer programs, and their neighbours.
            known = integer_points(one, _PROGRAMS)
            rows = np.concatenate([rows, len(scaled) + np.arange(len(known))])
            scaled = np.concatenate([scaled, known])
        # Configurations without a point are replaced by others.
        rows = np.concatenate([rows, rng.choice(rows, len(uniform) - len(rows))]).astype(int)
        scaled = scaled[rows]
        box = one.polytope(scaled)
        # Averages of three projected points lie inside, also in thin sets.
        weights = rng.dirichlet(np.ones(3), len(rows)).T[..., None]
        spread = [scaled]
        for _ in range(2):
            other, fine = box.project(rng.random(scaled.shape))
            spread.append(np.where(fine[:, None], other, scaled))
        scaled = np.sum(weights * np.array(spread), axis=0)
        scaled = self._hit_and_run(rng, scaled, box, _MIXING + 2 * len(one.axes))
        return one.write(uniform, scaled)

    def _accepted_pool(self, rng: np.random.Generator) -> Array:
        """Return points ``(k, d)`` of the pool that the functions of the user accept, and others.

        Raises:
            InvalidInputError: no draw is accepted.
        """
        one, found = self.within, []
        count = drawn = 0
        for _ in range(_TRIES):
            points = self._linear_draws(rng, _POOL)
            fine = points[one.accepts(points)]
            drawn, count = drawn + len(points), count + len(fine)
            found.append(fine)
            if count >= _POOL // 4:
                break
        if not count:
            names = ", ".join(repr(str(c)) for c in one.functions)
            raise InvalidInputError(
                f"Box: function {names} accepts none of {drawn:,} random points of the box. Widen "
                "it, or narrow the bounds of the parameters to where it accepts points"
            )
        self.pool = np.concatenate(found)[:_POOL]
        rows = np.arange(_POOL) % len(self.pool)
        return self._chains(rng, self.pool[rows], _MIXING)

    # --- draws ---------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Draw n points of the set, shape ``(n, d)``."""
        if self.share >= _LEAST_SHARE:
            return self._rejected(rng, n)
        if not self.within.functions:
            return self._linear_draws(rng, n)
        moved = self._chains(rng, self.pool[rng.integers(len(self.pool), size=n)], _FRESH)
        return self.within.on_bounds(self.within.with_defaults(moved))

    def _rejected(self, rng: np.random.Generator, n: int) -> Array:
        found: list[Array] = []
        missing = n
        while missing > 0:
            points = self._box(rng, int(missing / self.share * 1.2) + 8)
            found.append(points[self.within.satisfied(points)][:missing])
            missing -= len(found[-1])
        return np.concatenate(found) if found else np.empty((0, self.within.dim))

    def _linear_draws(self, rng: np.random.Generator, n: int) -> Array:
        """Draw points that satisfy linear constraints and counts."""
        one = self.within
        points = self._box(rng, n)
        if not one.coupled:
            return points
        scaled = one.read(self.pool[rng.integers(len(self.pool), size=n)])
        scaled = self._hit_and_run(rng, scaled, one.polytope(scaled), _FRESH)
        return one.on_bounds(one.write(points, scaled))

    def chord_steps(self, rng: np.random.Generator, points: Array, sizes: Array) -> Array:
        """Move the coordinates of linear constraints and counts along random chords.

        With the position u of a point on its chord, the new position is
        ``Phi(sqrt(1 - b^2) Phi^-1(u) + b xi)``, xi being standard normal: a step of preconditioned
        Crank-Nicolson. It leaves the uniform distribution of the scaled values of a configuration
        invariant, as hit-and-run does, which is the case b = 1.

        Args:
            rng: random generator.
            points: points of the set, shape ``(n, d)``.
            sizes: step sizes b in (0, 1], shape ``(n, 1)``.

        Returns:
            Points ``(n, d)``; functions of the user may reject them.
        """
        within = self.within
        free, scaled = within.free, within.read(points)
        toward = self._directions(rng, scaled, int(rng.integers(3)))
        if within.counts or free.all():
            box, start = within.polytope(scaled), scaled
        elif not free.any():
            return points
        else:
            # Discrete values stay as they are, and the polytopes of the others are smaller.
            box, start, toward = within.real_polytope(scaled), scaled[:, free], toward[:, free]
        toward = box.along(toward)
        # A chord without a direction has infinite ends.
        least, most = (np.where(np.isfinite(end), end, 0.0) for end in box.chord(start, toward))
        length = most - least
        # A point on a face is the end of its chord, where the position would be -inf or inf.
        place = clipped(-least / np.where(length > 0.0, length, np.inf), _END, 1.0 - _END)
        b = sizes[:, 0]
        share = ndtr(np.sqrt(1.0 - b**2) * ndtri(place) + b * rng.standard_normal(len(points)))
        t = np.where(length > 0.0, least + share * length, 0.0)
        moved = start + t[:, None] * toward
        if free.all():
            return within.write(points, moved)
        found = points.copy()
        real = moved[:, free] if within.counts else moved
        for i, values in zip(np.flatnonzero(free), real.T, strict=True):
            axis = within.axes[i]
            found[:, axis.columns] = axis.write(values)
        return found

    def _chains(self, rng: np.random.Generator, points: Array, steps: int) -> Array:
        """Move points ``(n, d)`` by hit-and-run steps that the functions accept.

        A rejected step shrinks its chord towards the point (Neal 2003).
        """
        one, real = self.within, self.within.real_columns
        low, high = np.zeros(one.dim), np.ones(one.dim)
        for number in range(steps):
            scaled = one.read(points) if one.coupled else points
            if one.coupled and number % 2:
                box = one.polytope(scaled)
                toward = box.along(self._directions(rng, scaled, number))
                least, most = box.chord(scaled, toward)
            else:
                free = real & ~one.columns_of_axes & np.isnan(one.code)
                toward = np.where(free, rng.standard_normal(points.shape), 0.0)
                none = np.empty((1, 0))
                box = Polytope(np.empty((0, one.dim)), none, none, low[None], high[None])
                least, most = box.chord(points, toward)
            if not np.isfinite(most - least).all():
                continue
            ahead = points
            open_rows = np.ones(len(points), dtype=bool)
            for _ in range(_SHRINKAGES):
                t = rng.uniform(least, most)
                if one.coupled and number % 2:
                    moved = one.write(points, box.project(scaled + t[:, None] * toward)[0])
                else:
                    moved = np.clip(points + t[:, None] * toward, 0.0, 1.0)
                fine = open_rows & one.accepts(moved, open_rows)
                ahead = np.where(fine[:, None], moved, ahead)
                open_rows &= ~fine
                least, most = np.where(t < 0, t, least), np.where(t > 0, t, most)
                if not open_rows.any():
                    break
            points = ahead
        return points

    def _directions(self, rng: np.random.Generator, scaled: Array, number: int) -> Array:
        """Return directions ``(n, q)``: normal, of one coordinate, or between two points."""
        n, q = scaled.shape
        kind = number % 3
        if kind == 0:
            return rng.standard_normal((n, q))
        if kind == 1:
            return np.asarray(np.eye(q)[rng.integers(q, size=n)])
        others = self._values
        if others is None:
            return scaled[rng.permutation(n)] - scaled[rng.permutation(n)]
        pairs = rng.integers(len(others), size=(2, n))
        return np.asarray(others[pairs[0]] - others[pairs[1]])

    def _hit_and_run(
        self, rng: np.random.Generator, scaled: Array, box: Polytope, steps: int
    ) -> Array:
        """Move scaled values ``(n, q)`` by uniform steps on random chords of their polytopes."""
        start = scaled
        for number in range(steps):
            toward = box.along(self._directions(rng, scaled, number))
            least, most = box.chord(scaled, toward)
            fine = np.isfinite(least) & np.isfinite(most)
            t = self._position(rng, scaled, toward, np.where(fine, least, 0.0),
                               np.where(fine, most, 0.0))  # fmt: skip
            scaled = scaled + t[:, None] * toward
        found, done = box.project(scaled)
        return np.where(done[:, None], found, start)

    def _position(
        self, rng: np.random.Generator, x: Array, toward: Array, least: Array, most: Array
    ) -> Array:
        """Draw positions on chords, uniform in unit coordinates: log scales have a density."""
        u = rng.random(len(x))
        logs = [i for i, axis in enumerate(self.within.axes) if not axis.plain and not
                axis.discrete]  # fmt: skip
        if not logs:
            return least + u * (most - least)
        grid = np.linspace(0.0, 1.0, 33)
        t = least[:, None] + (most - least)[:, None] * grid
        density = np.ones_like(t)
        for i in logs:
            axis = self.within.axes[i]
            value = axis.low + np.clip(x[:, [i]] + t * toward[:, [i]], 0.0, 1.0) * axis.span
            density /= value
        mass = np.cumsum(0.5 * (density[:, 1:] + density[:, :-1]), axis=1)
        mass /= mass[:, -1:]
        cell = (mass < u[:, None]).sum(axis=1)
        before = np.where(cell > 0, mass[np.arange(len(x)), np.maximum(cell - 1, 0)], 0.0)
        width = np.maximum(mass[np.arange(len(x)), cell] - before, 1e-300)
        share = (cell + (u - before) / width) / (len(grid) - 1)
        return np.asarray(least + share * (most - least))

    # --- space-filling points --------------------------------------------------------------------

    def sequence(self, rng: np.random.Generator, n: int, skip: int) -> Array:
        """Return points ``skip .. skip + n`` of a space-filling sequence, shape ``(n, d)``.

        Sets that fill much of the box take the points of a scrambled Sobol sequence that lie in
        the set. Others take blocks of draws, each in the order of kernel herding with the energy
        distance (Chen et al. 2010; Mak & Joseph 2018): every prefix represents the set.
        """
        if self.share >= _LEAST_SHARE:
            return self._sobol(rng, n, skip)
        seed = int(rng.integers(2**31 - 1))
        blocks = range(skip // _BLOCK, (skip + n - 1) // _BLOCK + 1)
        found = np.concatenate([self._block(seed, number) for number in blocks])
        start = skip - blocks[0] * _BLOCK
        return found[start : start + n]

    def _sobol(self, rng: np.random.Generator, n: int, skip: int) -> Array:
        parameters = self.within.parameters
        engine = qmc.Sobol(self.within.parameter_count, scramble=True, rng=rng)
        found: list[Array] = []
        count, size = 0, 64
        while count < skip + n:
            points = self.within.valid(parameter_quantiles(parameters, engine.random(size)))
            found.append(points[self.within.satisfied(points)])
            count, size = count + len(found[-1]), 2 * size
        return np.concatenate(found)[skip : skip + n]

    def _block(self, seed: int, number: int) -> Array:
        return _herded_block(self, seed, number)


def feasible_draws(
    parameters: Mapping[str, Parameter],
    constraints: Sequence[InputConstraint],
    fixed: Mapping[str, Any],
) -> FeasibleDraws:
    """Return the sampler of a box with constraints and fixed values."""
    return FeasibleDraws(FeasibleSet(parameters, constraints, fixed))


@lru_cache(maxsize=64)
def _herded_block(draws: FeasibleDraws, seed: int, number: int) -> Array:
    rng = np.random.default_rng((seed, number))
    points = draws.draw(rng, 4 * _BLOCK)
    distances = cdist(points, points)
    score = distances.mean(axis=1)
    near = np.zeros(len(points))
    chosen: list[int] = []
    left: Mask = np.ones(len(points), dtype=bool)
    for count in range(_BLOCK):
        value = score - near / (count + 1)
        best = int(np.where(left, value, np.inf).argmin())
        chosen.append(best)
        left[best] = False
        near += distances[best]
    found = points[chosen]
    found.flags.writeable = False
    return found
