"""Search for the design of highest yield under noise of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.base import to_unit
from bo_invert.models.inverse.information import information
from bo_invert.models.inverse.input_yield import InputYield
from bo_invert.models.inverse.moves import MoveSpace
from bo_invert.types import Array, Indices, Mask

_SPREAD, _NEAR = 256, 192
"""Numbers of candidates from the whole domain and near good designs. Engineering choice."""
_GOOD = 12
"""Number of good designs whose neighbours are candidates. Engineering choice."""
_STARTS, _STEPS, _RATE = 6, 40, 0.02
"""Number of starts of an ascent, number of its steps, and the first step in unit coordinates.
Engineering choice: bounds the time of an ask."""
_SOFT = (0.0, 0.5, 2.0, 8.0, 32.0, 128.0)
"""Least standard deviations of outputs, as shares of the half-widths of their intervals.
Engineering choice: an unreached target has no slope at the least one."""
_SEEN = 0.02
"""Least yield of the best candidate at which a softness suffices. Engineering choice."""
_RIVALS, _POOL = 8, 48
"""Numbers of designs that may be the best one, and of those compared. Engineering choice."""
_ASKED = 128
"""Number of points among which a call is chosen. Engineering choice: bounds the time of an ask."""
_TINY = 1e-12
"""Least yield in a logarithm, dimensionless. Engineering choice: avoids log 0."""


@dataclass(frozen=True, eq=False)
class RobustSearch:
    """Designs of high yield, and the calls that inform about them.

    Args:
        quality: Quality of designs under noise.
        observed: Observed points, best first, shape ``(n, d)``.
        rng: Random generator.
    """

    quality: InputYield
    observed: Array
    rng: np.random.Generator

    @cached_property
    def best(self) -> Array:
        """Point ``(d,)`` of the highest mean quality."""
        return np.asarray(self._ranked[0])

    @cached_property
    def rivals(self) -> Array:
        """Points ``(r, d)`` that are the best ones under some posterior path, best mean first."""
        pool = self._ranked[:_POOL]
        winners = self.quality.sampled(pool).argmax(0)
        counts = np.bincount(winners, minlength=len(pool))
        chosen = [0, *(i for i in np.argsort(-counts, kind="stable") if counts[i] and i)]
        return pool[chosen[:_RIVALS]]

    def informative(self, pending: Array) -> Array:
        """Return points ``(c, d)``, those first that inform most about the quality of rivals.

        For a target, it is the expected reduction of the variance of the indicator that a
        manufactured design meets it, averaged over the deviations of all rivals. Otherwise it is
        the reduction of the variance of the mean outputs of each rival.

        Args:
            pending: Pending points, shape ``(p, d)``.
        """
        domain = self.quality.domain
        clouds = self.quality.cloud(self.rivals)
        flat = domain.project(clouds.reshape(-1, clouds.shape[-1]))
        rows = self.rng.permutation(len(flat))[:_ASKED]
        candidates = np.concatenate([self.rivals, flat[rows]])
        target = self.quality.target
        if target is not None:
            particles = clouds.reshape(-1, clouds.shape[-1])
            chosen = self.rng.permutation(len(particles))[: 2 * _ASKED]
            gain = information(target.given(pending), particles[chosen], candidates, uniform=True)
        else:
            gain = self._explained(clouds, candidates, pending)
        return np.asarray(candidates[np.argsort(-gain, kind="stable")])

    @torch.no_grad()
    def _explained(self, clouds: Array, candidates: Array, pending: Array) -> Array:
        """Return the reductions of the variances of the mean outputs of rivals, ``(c,)``."""
        surrogate, gp = self.quality.fitted.surrogate, self.quality.fitted.surrogate.gp
        unit = [self._unit(points) for points in (clouds.reshape(-1, clouds.shape[-1]), candidates)]
        if len(pending):
            inputs = self._unit(pending)
            gp = gp.extend(inputs, gp(inputs)[0].mT[..., None])
        cross = gp.covariance(*unit).reshape(len(gp.noise), *clouds.shape[:2], -1).mean(2)
        own = (gp(unit[1])[1] + gp.typical_noise.clamp(min=1e-8)).mT
        reduction = (cross.square() / own[:, None]).sum(1)  # (k, c)
        weights = surrogate.weights.square().sum(1)
        return np.asarray((weights @ reduction).cpu().numpy())

    @cached_property
    def _ranked(self) -> Array:
        """Points by falling mean quality: ends of ascents and candidates."""
        candidates = self._candidates()
        order = np.argsort(-self._coarse.quality(candidates), kind="stable")
        ends = self._ascents(candidates[order[:_STARTS]])
        rows = np.concatenate([ends, candidates[order[: _POOL - _STARTS]]])
        order = np.argsort(-self.quality.quality(rows), kind="stable")
        return np.asarray(rows[order])

    @cached_property
    def _coarse(self) -> InputYield:
        """Quality with a quarter of the deviations."""
        return replace(self.quality, draws=max(8, self.quality.draws // 4))

    def _candidates(self) -> Array:
        domain, rng = self.quality.domain, self.rng
        good = self.observed[:_GOOD]
        near = good[rng.integers(len(good), size=_NEAR)]
        cloud = self.quality.cloud(near)[
            np.arange(_NEAR), rng.integers(self.quality.draws, size=_NEAR)
        ]
        # Steps of one and of three deviations.
        far = near + rng.choice([1.0, 3.0], (_NEAR, 1)) * (cloud - near)
        drawn = domain.sample(rng, _SPREAD)
        return np.concatenate([self.observed, drawn, domain.project(far)])

    def _ascents(self, starts: Array) -> Array:
        """Return the ends ``(s, d)`` of ascents of the log quality in the real coordinates."""
        free = [self._real_columns(point) for point in starts]
        softness = self._softness(starts)
        x, rate = starts.copy(), _RATE
        first, second = np.zeros_like(x), np.zeros_like(x)
        best, ends = np.full(len(x), -np.inf), x.copy()
        for step in range(1, _STEPS + 1):
            value, slope = self._slope(x, softness if step <= _STEPS // 2 else self._softness(x))
            better = value > best
            best, ends = np.where(better, value, best), np.where(better[:, None], x, ends)
            slope = np.array(
                [np.where(mask, row, 0.0) for mask, row in zip(free, slope, strict=True)]
            )
            # Adam (Kingma & Ba 2015) with a falling rate.
            first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
            scaled = first / (1.0 - 0.9**step) / (np.sqrt(second / (1.0 - 0.99**step)) + 1e-12)
            moved = x + rate * self._scale * (1.0 - step / (_STEPS + 1)) * scaled
            x = self.quality.domain.project(moved)
        usable = self.quality.domain.admits(ends)
        return np.where(usable[:, None], ends, starts)

    def _slope(self, points: Array, softness: float) -> tuple[Array, Array]:
        """Return the log quality of points ``(n, d)``, or the quality of a loss, and its slope."""
        cloud = self._coarse.cloud(points)
        inputs = self._unit(cloud.reshape(-1, cloud.shape[-1])).requires_grad_()
        quality: Tensor = self._coarse.of(inputs, softness).reshape(cloud.shape[:2]).mean(1)
        value = quality if self.quality.target is None else (quality + _TINY).log()
        value.sum().backward()  # type: ignore[no-untyped-call]
        assert inputs.grad is not None
        slope = inputs.grad.reshape(cloud.shape).sum(1).cpu().numpy()
        return value.detach().cpu().numpy(), slope

    def _softness(self, points: Array) -> float:
        """Return the least softness at which some point has a considerable yield."""
        if self.quality.target is None:
            return 0.0
        cloud = self._coarse.cloud(points)
        inputs = self._unit(cloud.reshape(-1, cloud.shape[-1]))
        for softness in _SOFT:
            with torch.no_grad():
                found = self._coarse.of(inputs, softness).reshape(cloud.shape[:2]).mean(1)
            if float(found.max()) >= _SEEN:
                return softness
        return _SOFT[-1]

    def _real_columns(self, point: Array) -> Mask:
        space = MoveSpace.of(self.quality.domain, point)
        rows: Indices = np.array(
            [c for i, c in enumerate(space.columns) if i not in space.levels], dtype=np.intp
        )
        return np.isin(np.arange(len(point)), rows)

    @property
    def _scale(self) -> float:
        """Width of a coordinate in the units of a point."""
        lower, upper = self.quality.domain.bounds
        return float((upper - lower).mean())

    def _unit(self, points: Array) -> Tensor:
        offset = self.quality.fitted.surrogate.offset
        return torch.as_tensor(to_unit(self.quality.domain, points)).to(offset)
