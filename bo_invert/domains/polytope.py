"""Polytopes: projection of many points, chords and directions inside; numpy, scipy.

The polytope of a row is ``{x : least <= A x <= most, lower <= x <= upper}``. All rows of a batch
share A; bounds may differ, because fixed values and integers change them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from bo_invert.domains.dual_projection import EXACT, INSET, RANK, DualProjection, clipped
from bo_invert.types import Array, Indices, Mask

_BOUND = 3e-12
"""Distance from a bound that counts as rounding, in unit coordinates. Engineering choice: above the
inset of projections, below their error."""
_STILL = 1e-14
"""Slope at which a value does not change along a direction (dimensionless).
Engineering choice: rounding."""
_PARALLEL = 1e-9
"""Largest rest of a direction, as a share of it, that counts as rounding (dimensionless).
Engineering choice: above the rounding error of pseudoinverses."""
_EXACT_ROWS = 64
"""Largest number of rows that the exact method projects in one call. Engineering choice: it takes
0.2 ms a row; the caller replaces the other rows."""


@dataclass(frozen=True, eq=False)
class Polytope(DualProjection):
    """Linear constraints and bounds of a batch of n rows.

    The arguments are those of ``DualProjection``.
    """

    @cached_property
    def _inside(self) -> Polytope:
        """Polytope whose inequalities are narrower by more than rounding."""
        inset = np.where(self.equal, 0.0, INSET)
        return Polytope(self.a, self.least + inset, self.most - inset, self.lower, self.upper)

    def project(self, y: Array) -> tuple[Array, Mask]:
        """Return the nearest points of the polytopes to ``y`` ``(n, q)``, and a mask of success.

        With multipliers ``v``, the nearest point is ``x(v) = clip(y - A' v, lower, upper)``. They
        maximise the concave dual, whose gradient is ``A x(v)`` minus its active bound and whose
        Hessian matrix is ``-A F A'``, F being the mask of coordinates between their bounds. One
        constraint is solved exactly between the breakpoints of its piecewise linear gradient,
        several by semismooth Newton steps with step halving (Qi & Sun 1993).
        """
        x = clipped(y, self.lower, self.upper)
        done = np.ones(len(y), dtype=bool) & self._ordered
        if not len(y) or not len(self.a):
            return x, done
        bad = np.flatnonzero(self._inside._missed(x) & done)
        if not len(bad):
            return x, done
        for which, part in self._inside._moved_by(bad):
            own = y[which]
            x[which] = part._one_row(own) if len(part.a) == 1 else part._newton(own)
        missed = bad[self.rows(bad).excess(x[bad]) > EXACT]
        if not len(missed):
            return x, done
        done[missed] = False
        possible = np.broadcast_to(self.possible, len(y))[missed]
        for row in missed[possible][:_EXACT_ROWS]:
            found = self._exact(row, y[row])
            if found is not None:
                x[row] = found
                done[row] = bool(self.rows(np.array([row])).excess(found[None])[0] <= EXACT)
        return x, done

    def _missed(self, x: Array) -> Mask:
        """Return a mask of points ``(n, q)`` within the bounds that need a projection."""
        left = x @ self.a.T
        over = left - clipped(left, self.least, self.most)
        if not over.any():
            return np.zeros(len(x), dtype=bool)
        return self._unsolved(over, (x > self.lower) & (x < self.upper))

    @cached_property
    def _ordered(self) -> Mask:
        """Mask of rows whose lower bounds do not exceed the upper ones, ``(n,)`` or ``(1,)``."""
        return np.asarray((self.lower <= self.upper).all(axis=1))

    @cached_property
    def _movers(self) -> Mask:
        """Mask of the constraints that free coordinates enter, ``(n, m)``, or ``(1, m)`` if shared.

        Constraints without a solution within the bounds have none.
        """
        return self._enters(self.upper > self.lower) & self.possible[:, None]

    def _moved_by(self, rows: Indices) -> Iterator[tuple[Indices, Polytope]]:
        """Yield groups of the rows, with the constraints that their free coordinates enter.

        Fixed coordinates, such as integers of a configuration, often leave a single constraint,
        which has an exact solution. Rows that no constraint moves, or that no point satisfies, are
        left out.
        """
        if self._shared:
            yield from ((rows, part) for part in self._shared_parts)
            return
        some = self.rows(rows)
        if len(self.a) == 1:
            # A row that no point satisfies keeps its violation, and ``project`` reports it.
            yield rows, some
            return
        moved = self._movers[rows]
        count = moved.sum(axis=1)
        if (moved == moved[0]).all():
            # Integers of all configurations often leave the same single constraint.
            if count[0]:
                yield rows, some._one_constraint(int(moved[0].argmax())) if count[0] == 1 else some
            return
        single = moved & (count == 1)[:, None]
        for j in np.flatnonzero(single.any(axis=0)):
            which = np.flatnonzero(single[:, j])
            yield rows[which], some._one_constraint(int(j)).rows(which)
        which = np.flatnonzero(count > 1)
        if len(which):
            yield rows[which], some.rows(which)

    @cached_property
    def _shared_parts(self) -> list[Polytope]:
        """Polytope of the constraints to project onto, if all rows have the same bounds."""
        moved = np.flatnonzero(self._movers[0])
        if not len(moved):
            return []
        return [self._one_constraint(int(moved[0])) if len(moved) == 1 else self]

    def _one_constraint(self, j: int) -> Polytope:
        """Return the polytope with constraint j only."""
        least, most = self.least[:, [j]], self.most[:, [j]]
        return Polytope(self.a[[j]], least, most, self.lower, self.upper)

    @cached_property
    def possible(self) -> Mask:
        """Mask of rows whose bounds allow each constraint on its own, ``(n,)`` or ``(1,)``."""
        rising, falling = np.maximum(self.a.T, 0.0), np.minimum(self.a.T, 0.0)
        low = self.lower @ rising + self.upper @ falling
        high = self.upper @ rising + self.lower @ falling
        fine = (low <= self.most + EXACT) & (high >= self.least - EXACT)
        return np.asarray(fine.all(axis=1) & self._ordered)

    def chord(self, x: Array, direction: Array) -> tuple[Array, Array]:
        """Return the ends ``t`` of the chords ``x + t direction`` inside, two arrays ``(n,)``."""
        sides, lower, upper = self._sides
        slope, left = direction @ sides, x @ sides
        still = np.abs(slope) < _STILL
        safe = np.where(still, 1.0, slope)
        low, high = np.minimum(lower - left, 0.0) / safe, np.maximum(upper - left, 0.0) / safe
        first = np.where(still, -np.inf, np.minimum(low, high)).max(axis=1)
        last = np.where(still, np.inf, np.maximum(low, high)).min(axis=1)
        return np.minimum(first, 0.0), np.maximum(last, 0.0)

    @cached_property
    def _sides(self) -> tuple[Array, Array, Array]:
        """Normals ``(q, k)`` of bounds and inequalities, and their bounds, ``(n or 1, k)``."""
        loose, q = ~self.equal, self.a.shape[1]
        sides = np.concatenate([np.eye(q), self.a[loose].T], axis=1)
        if not loose.any():
            return sides, self.lower, self.upper
        bounds = []
        for bound, more in ((self.lower, self.least), (self.upper, self.most)):
            count = max(len(bound), len(more))
            both = np.broadcast_to(bound, (count, q)), np.broadcast_to(more, (count, len(self.a)))
            bounds.append(np.concatenate([both[0], both[1][:, loose]], axis=1))
        return sides, bounds[0], bounds[1]

    def along(self, direction: Array) -> Array:
        """Remove from directions ``(n, q)`` the normals of the equalities and fixed coordinates.

        Directions become 0 where the equalities leave only rounding errors of them.
        """
        free = self.upper > self.lower
        direction = np.where(free, direction, 0.0)
        if not self.equal.any():
            return direction
        normal, inverse = self._normals
        left = direction - (inverse @ (normal @ direction[..., None]))[..., 0]
        # A chord along rounding errors would leave the equalities.
        size, most = (np.abs(one).max(axis=1, keepdims=True) for one in (left, direction))
        return np.where(size > _PARALLEL * most, left, 0.0)

    @cached_property
    def _normals(self) -> tuple[Array, Array]:
        """Normals of the equalities in the free coordinates, and their pseudoinverses."""
        # Few masks of free coordinates occur. Fixed coordinates may leave dependent normals.
        free = self.upper > self.lower
        if (free == free[0]).all():
            free, which = free[:1], np.zeros(len(free), dtype=np.intp)
        else:
            free, which = np.unique(free, axis=0, return_inverse=True)
        normal = np.where(free[:, None, :], self.a[self.equal], 0.0)
        inverse = _pseudoinverses(normal.tobytes(), normal.shape)
        return normal[which.ravel()], inverse[which.ravel()]


@lru_cache(maxsize=64)
def _pseudoinverses(data: bytes, shape: tuple[int, ...]) -> Array:
    """Return the pseudoinverses ``(k, q, m)`` of the bytes of matrices ``(k, m, q)``.

    Steps of a chain have the same normals, and an inverse takes longer than a step.
    """
    return np.asarray(np.linalg.pinv(np.frombuffer(data).reshape(shape), rcond=RANK))


def on_bounds(x: Array, lower: Array, upper: Array) -> Array:
    """Return values with those within rounding, 3e-12, of a bound at the bound."""
    low, high = np.abs(x - lower) <= _BOUND, np.abs(x - upper) <= _BOUND
    if not (low.any() or high.any()):
        return x
    return np.asarray(np.where(high, upper, np.where(low, lower, x)))
