"""Least squares on the oracle itself: Gauss-Newton steps with as few measured Jacobians as pay. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bo_invert.models.least_squares.convergence import ROUNDING_SHARE
from bo_invert.search_domain import Domain
from bo_invert.types import Array

Evaluate = Callable[[Sequence[Array]], list[Array | None]]

_MAX_LEFT = 0.25
"""Share of the squared residuals that may be left when a start wants another Jacobian: it has to pay for itself."""


@dataclass(frozen=True)
class GaussNewtonSettings:
    """How steps are made.

    Args:
        method: of ``scipy.optimize.least_squares``.
        secant: a step that leaves less than this share of the squared residuals has its Jacobian updated.
        diff_step: finite-difference step, as a share of a coordinate's range.
        ftol: a start ends when a step improves the squared residuals by less than this share.
        xtol: a start ends when a step is shorter than this share of the point's norm.
    """

    method: str
    secant: float
    diff_step: float
    ftol: float
    xtol: float


class _Stale(Exception):
    """A step along an updated Jacobian did not pay: measure a new one where the start stands."""


class _Spent(Exception):
    """Steps left too much to pay for another Jacobian: the start ends."""


class _Base(NamedTuple):
    """Where the Jacobian in use belongs: point, residuals, Jacobian ``(k, d)``, and whether it was measured there."""

    x: Array
    r: Array
    slopes: Array
    measured: bool


class GaussNewtonStart:
    """One start: an ordinary optimiser that calls a function. It is the same in whatever units residuals come.

    Args:
        settings: how steps are made.
        domain: where points live.
        inside: moves points to where they may be evaluated.
        draws: points ``(d,)``, of which the best is where it starts.
        least: squared residuals that are rounding; it ends there, or where next to nothing of the first is left.
    """

    def __init__(
        self,
        settings: GaussNewtonSettings,
        domain: Domain,
        inside: Callable[[Array], Array],
        draws: Sequence[Array],
        least: float = 0.0,
    ) -> None:
        self.settings = settings
        self.inside = inside
        self.draws = draws
        self.least = least
        self.base: _Base | None = None
        self.paid = np.inf
        self.bounds = domain.limits
        self.steps = settings.diff_step * (domain.bounds[1] - domain.bounds[0])

    def run(self, evaluate: Evaluate) -> None:
        """From the best of the draws to where steps end, calling ``evaluate``; None is the answer of a failure."""
        from scipy.optimize import least_squares

        self.evaluate = evaluate
        told = [
            (x, r) for x, r in zip(self.draws, evaluate(self.draws), strict=True) if r is not None
        ]
        if not told:
            return
        self.x, self.r = min(told, key=lambda pair: _square(pair[1]))
        self.unit = float(np.sqrt(_square(self.r))) or 1.0
        self.wall = np.full(len(self.r), 1e3 * float(np.abs(self.r).max()))
        least = max(self.least, ROUNDING_SHARE * self.unit**2)
        while _square(self.r) > least:
            before = _square(self.r)
            try:
                least_squares(
                    lambda x: self.residuals(x) / self.unit, self.x, lambda x: self.jacobian(x) / self.unit,
                    self.bounds, self.settings.method, ftol=self.settings.ftol, xtol=self.settings.xtol, gtol=1e-12,
                )  # fmt: skip
                if self.base is None or self.base.measured or not _square(self.r) < before:
                    return
            except _Spent:
                return
            except _Stale:
                pass
            self.base = None

    def residuals(self, x: Array) -> Array:
        r = self.evaluate([self.inside(x)])[0]
        if r is not None and _square(r) < _square(self.r):
            self.x, self.r = x.copy(), r
        elif self.base is not None and not self.base.measured and not np.array_equal(x, self.x):
            raise _Stale
        return self.wall if r is None else r

    def jacobian(self, x: Array) -> Array:
        r = self.residuals(x)
        base = self.base
        if base is not None and _square(r) < self.settings.secant * _square(base.r):
            step = x - base.x
            correction = np.outer(r - base.r - base.slopes @ step, step) / (step @ step)
            self.base = _Base(x.copy(), r, base.slopes + correction, measured=False)
        else:
            if _square(r) > _MAX_LEFT * self.paid:
                raise _Spent
            self.paid = _square(r)
            self.base = _Base(x.copy(), r, self.difference(x, r), measured=True)
        return self.base.slopes

    def difference(self, x: Array, r: Array) -> Array:
        """Forward differences, shape ``(k, d)``; backward where the way forward leaves the bounds."""
        steps = np.where(x + self.steps > self.bounds[1], -self.steps, self.steps)
        beside = self.evaluate([self.inside(x + shift) for shift in np.diag(steps)])
        slopes: Array = np.zeros((len(r), len(x)))
        for i, (b, step) in enumerate(zip(beside, steps, strict=True)):
            if b is not None:  # nothing is known of a direction that fails
                slopes[:, i] = (b - r) / step
        return slopes


def _square(r: Array) -> float:
    return float(r @ r)
