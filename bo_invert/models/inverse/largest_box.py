"""Largest box around a design whose points meet a target with a stated probability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.stats import qmc

from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.moves import MoveBox, MoveSpace
from bo_invert.types import Array

_SHAPE_POINTS, SIZE_POINTS = 512, 2048
"""Numbers of Sobol points that decide the shape of a box and its size. Engineering choice: the
error of a share of 0.95 is far below 1 %."""
_SOFTNESS = 0.1
"""Least standard deviation while the shape is optimized, as a share of the half-width of an
interval. Engineering choice: enough points then have gradients."""
_STEPS, _STEP, _LEAST_STEP = 30, 0.5, 0.02
"""Number of gradient steps, and largest and least step of the logarithm of a move.
Engineering choice: shapes hardly change after some ten steps."""
_HALVINGS = 18
"""Number of bisections of a size. Engineering choice: a relative error below 1e-4."""
_GRID = 129
"""Number of points on each side of a line. Engineering choice: holes narrower than 1/128 of the
room are missed."""
_SMALLEST = 1e-6
"""Least move, in units of the unit cube. Engineering choice: far below measurable differences."""


@dataclass(frozen=True, eq=False)
class BoxSearch:
    """Search for the largest box around a design.

    The largest box maximises the sum of the logarithms of its moves down and up, subject to a mean
    acceptance of at least p over Sobol points of the box that the domain allows. Each step follows
    the projection of the gradient of the sum on the level set of the acceptance, and bisection
    restores the acceptance.

    Args:
        space: Free coordinates of the design.
        acceptance: Probability of points to meet the target.
        probability: Least mean acceptance p.
    """

    space: MoveSpace
    acceptance: Acceptance
    probability: float

    def separate(self) -> Array:
        """Return the moves of each coordinate alone, down and up, shape ``(2, f)``.

        Up to each end, every point meets the target with at least the stated probability.
        """
        found = np.zeros((2, len(self.space.columns)))
        for position in range(len(self.space.columns)):
            for side, sign in enumerate((-1.0, 1.0)):
                found[side, position] = self._reach(position, sign, self.space.room[side, position])
        return found

    def largest(self, start: Array | None = None) -> MoveBox:
        """Return the largest box.

        Args:
            start: Moves ``(2, f)`` from which the search starts. Default: those of each coordinate
                alone.
        """
        moves = self.separate() if start is None else start
        room = self.space.room
        # Without a move of its own, a coordinate starts with the typical share of its room.
        typical = np.median(moves[moves > 0.0]) if (moves > 0.0).any() else 0.1
        moves = np.where(moves > 0.0, moves, np.minimum(0.1 * typical, room))
        acceptance = replace(self.acceptance, softness=_SOFTNESS)
        # Designs at the limit of the target have less than the stated soft acceptance themselves.
        start_box = self._sized(self._relaxed(moves), self._shape_points)
        level = BoxSearch(self.space, acceptance, self.probability).share(
            start_box, self._shape_points
        )
        soft = BoxSearch(self.space, acceptance, min(self.probability, level))
        box = soft._shaped(start_box.moves)
        box = self._trimmed(self._sized(box, self._size_points))
        return self._extended(self.space.box(box.moves)) if self.space.levels else box

    def share(self, box: MoveBox, uniform: Array | None = None) -> float:
        """Return the mean acceptance over the points of a box that the domain allows."""
        points = box.points(self._size_points if uniform is None else uniform)
        inside = self.space.domain.admits(points)
        return float(self.acceptance(points[inside]).mean()) if inside.any() else 0.0

    def _reach(self, position: int, sign: float, room: float) -> float:
        values = self.space.levels.get(position)
        own = self.space.centre[self.space.columns[position]]
        if values is None:
            steps = np.linspace(0.0, room, _GRID)[1:]
        else:
            steps = np.sort(sign * (values - own))
            steps = steps[steps > _SMALLEST]
        if room <= _SMALLEST or not len(steps):
            return 0.0
        accepted = self._accepted(position, sign * steps)
        if accepted.all():
            return room
        first = int(np.argmin(accepted))
        low, high = (steps[first - 1] if first else 0.0), steps[first]
        if values is not None:
            return float(low)
        while high - low > 1e-3 * high and high > _SMALLEST:
            inner = np.linspace(low, high, 10)[1:-1]
            accepted = self._accepted(position, sign * inner)
            first = len(inner) if accepted.all() else int(np.argmin(accepted))
            ends = np.array([low, *inner, high])
            low, high = ends[first], ends[first + 1]
        return float(low)

    def _accepted(self, position: int, moves: Array) -> Array:
        found = self.acceptance(self.space.along(position, moves)) >= self.probability
        return np.asarray(found)

    def _shaped(self, moves: Array) -> MoveBox:
        """Return the box of largest sum of logarithms on the level set of the acceptance."""
        uniform, room = self._shape_points, self.space.room
        free = room > _SMALLEST
        best = self._sized(self._relaxed(moves), uniform)
        step = _STEP
        for _ in range(_STEPS):
            logs = np.log(np.maximum(best.moves, _SMALLEST))
            slope = np.where(free, self._slopes(best, uniform), 0.0)
            # Sides at their bound neither grow nor count.
            active = free & (best.moves < room * (1.0 - 1e-6))
            loss = np.maximum(-slope, 0.0) * active
            norm = float((loss**2).sum())
            if not active.any() or norm == 0.0:
                break
            direction = active - loss * float(loss.sum()) / norm
            largest = float(np.abs(direction).max())
            if largest < 1e-3:
                break
            trial = np.exp(logs + step * direction / largest)
            found = self._sized(self._relaxed(np.where(free, trial, 0.0)), uniform)
            if found.size > best.size + 1e-4:
                best, step = found, min(_STEP, 1.5 * step)
            else:
                step *= 0.4
                if step < _LEAST_STEP:
                    break
        return best

    def _relaxed(self, moves: Array) -> MoveBox:
        """Return a box whose discrete coordinates are real numbers."""
        return replace(self.space, levels={}).box(moves)

    def _slopes(self, box: MoveBox, uniform: Array) -> Array:
        """Return the derivatives ``(2, f)`` of the share by the logarithms of the moves."""
        points = box.points(uniform)
        inside = np.flatnonzero(self.space.domain.admits(points))
        if not len(inside):
            return np.zeros_like(box.moves)
        model = self.acceptance.model
        inputs = model.unit(points[inside]).requires_grad_()
        self.acceptance.of(inputs).mean().backward()  # type: ignore[no-untyped-call]
        assert inputs.grad is not None
        scale = (model.unit(points[:1] + 1.0) - model.unit(points[:1])).cpu().numpy()
        by_points = (inputs.grad.cpu().numpy() * scale)[:, self.space.columns]
        # x = x0 - down + t (down + up)
        t = uniform[inside]
        return np.stack([-(by_points * (1.0 - t)).sum(0), (by_points * t).sum(0)]) * box.moves

    def _sized(self, box: MoveBox, uniform: Array) -> MoveBox:
        """Return the largest multiple of a box with at least the stated share."""
        space = box.space
        low, high, factor = 0.0, np.inf, 1.0
        ceiling = float((space.room / np.maximum(box.moves, _SMALLEST)).max())
        for _ in range(_HALVINGS):
            if self.share(space.box(box.moves * factor), uniform) >= self.probability:
                low = factor
            else:
                high = factor
            if low >= ceiling or high - low < 1e-3 * high:
                break
            factor = min(2.0 * low, ceiling) if np.isinf(high) else 0.5 * (low + high)
        return space.box(box.moves * low)

    def _trimmed(self, box: MoveBox) -> MoveBox:
        """Return a box without the sides that input constraints exclude."""
        points = box.points(self._size_points)
        inside = self.space.domain.admits(points)
        if inside.all() or not inside.any():
            return box
        own = self.space.centre[self.space.columns]
        moved = points[inside][:, self.space.columns] - own
        reached = np.array([-moved.min(0), moved.max(0)]).clip(0.0)
        return self.space.box(np.minimum(box.moves, reached))

    def _extended(self, box: MoveBox) -> MoveBox:
        """Return a box that has further values of discrete parameters where the sum grows."""
        reals = [p for p in range(len(self.space.columns)) if p not in self.space.levels]
        box, improved = self._resized(box, reals) or box, True
        while improved:
            improved = False
            for position in self.space.levels:
                for side in (0, 1):
                    wider = box.extended(position, side)
                    found = None if wider is None else self._resized(wider, reals)
                    if found is not None and found.size > box.size + 1e-9:
                        box, improved = found, True
        return box

    def _resized(self, box: MoveBox, reals: list[int]) -> MoveBox | None:
        """Return a box whose real moves are scaled to the stated share; None if none has it."""
        low, high = 0.0, 2.0
        for _ in range(_HALVINGS):
            factor = 0.5 * (low + high)
            moves = box.moves.copy()
            moves[:, reals] *= factor
            if self.share(self.space.box(moves)) >= self.probability:
                low = factor
            else:
                high = factor
            if not reals or high - low < 1e-3:
                break
        if low == 0.0:
            return None
        moves = box.moves.copy()
        moves[:, reals] *= low
        return self.space.box(moves)

    @cached_property
    def _shape_points(self) -> Array:
        return _sobol(len(self.space.columns), _SHAPE_POINTS)

    @cached_property
    def _size_points(self) -> Array:
        return _sobol(len(self.space.columns), SIZE_POINTS, seed=1)


def _sobol(dim: int, n: int, seed: int = 0) -> Array:
    """Return n scrambled Sobol points of the unit cube, shape ``(n, dim)``."""
    return np.asarray(qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed)).random(n))
