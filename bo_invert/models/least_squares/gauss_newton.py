"""Gauss-Newton steps on the oracle with few measured Jacobians; numpy and scipy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from bo_invert.domains.search_domain import Domain
from bo_invert.models.least_squares.target_reached import ROUNDING_SHARE
from bo_invert.types import Array

Evaluate = Callable[[Sequence[Array]], list[Array | None]]

_MAX_REMAINING = 0.25
"""Largest share of the squared residuals after the steps of one Jacobian, for a start to measure
another one. Engineering choice: a Jacobian costs d calls."""


@dataclass(frozen=True)
class GaussNewtonSettings:
    """Settings of a Gauss-Newton start.

    Args:
        method: Method of ``scipy.optimize.least_squares``.
        secant: After a step that leaves less than this share of the squared residuals, Broyden's
            update replaces a measured Jacobian.
        diff_step: Finite-difference step as a share of the range of a coordinate.
        ftol: Smallest relative decrease of the squared residuals.
        xtol: Smallest step, relative to the norm of the point.
    """

    method: str
    secant: float
    diff_step: float
    ftol: float
    xtol: float


class _StaleJacobianError(Exception):
    """An updated Jacobian gave no decrease; a new one is measured at the best point."""


class _SlowProgressError(Exception):
    """The steps of a Jacobian gave too small a decrease for another one; the start ends."""


class _Linearisation(NamedTuple):
    """Point, residuals ``(k,)`` and Jacobian ``(k, d)``, measured there or updated."""

    x: Array
    r: Array
    jacobian: Array
    measured: bool


class GaussNewtonStart:
    """One start of a least-squares solver, scaled to be independent of the units of residuals.

    Args:
        settings: Settings.
        domain: Search domain.
        candidates: Points ``(d,)``; the best one is the start.
        min_square: Squared residuals at which the start ends.
    """

    def __init__(
        self,
        settings: GaussNewtonSettings,
        domain: Domain,
        candidates: Sequence[Array],
        min_square: float = 0.0,
    ) -> None:
        self.settings = settings
        self.domain = domain
        self.candidates = candidates
        self.min_square = min_square
        self.base: _Linearisation | None = None
        self.last_square = np.inf
        self.steps = settings.diff_step * np.ptp(domain.bounds, 0)

    def run(self, evaluate: Evaluate) -> None:
        """Step from the best candidate until convergence.

        Args:
            evaluate: Function from points to residuals ``(k,)``, None for failures.
        """
        self.evaluate = evaluate
        pairs = zip(self.candidates, evaluate(self.candidates), strict=True)
        observed = [(x, r) for x, r in pairs if r is not None]
        if not observed:
            return
        self.x, self.r = min(observed, key=lambda pair: _square(pair[1]))
        # Scaled residuals make ftol, xtol and gtol independent of the units.
        self.unit = float(np.sqrt(_square(self.r))) or 1.0
        self.failure = np.full(len(self.r), 1e3 * float(np.abs(self.r).max()))
        least = max(self.min_square, ROUNDING_SHARE * self.unit**2)
        while _square(self.r) > least:
            before = _square(self.r)
            try:
                least_squares(
                    lambda x: self.residuals(x) / self.unit,
                    self.x,
                    lambda x: self.jacobian(x) / self.unit,
                    self.domain.limits,
                    self.settings.method,
                    ftol=self.settings.ftol,
                    xtol=self.settings.xtol,
                    gtol=1e-12,
                )
                # With an updated Jacobian convergence is confirmed by a measured one.
                if self.base is None or self.base.measured or not _square(self.r) < before:
                    return
            except _SlowProgressError:
                return
            except _StaleJacobianError:
                pass
            self.base = None

    def residuals(self, x: Array) -> Array:
        """Evaluate residuals ``(k,)`` at a point; large constants for a failure."""
        r = self.evaluate([self.domain.project(x)])[0]
        if r is not None and _square(r) < _square(self.r):
            self.x, self.r = x.copy(), r
        elif self.base is not None and not self.base.measured and not np.array_equal(x, self.x):
            raise _StaleJacobianError
        return self.failure if r is None else r

    def jacobian(self, x: Array) -> Array:
        """Return the Jacobian ``(k, d)``: measured, or updated after a good step.

        Broyden's update is J + (r - r0 - J s) s' / s's with the step s (Broyden 1965).
        """
        r = self.residuals(x)
        base = self.base
        if base is not None and _square(r) < self.settings.secant * _square(base.r):
            # The smallest change of J that reproduces the observed change of r.
            step = x - base.x
            correction = np.outer(r - base.r - base.jacobian @ step, step) / (step @ step)
            self.base = _Linearisation(x.copy(), r, base.jacobian + correction, measured=False)
        else:
            # A Jacobian costs d calls, so its steps must have reduced the residuals.
            if _square(r) > _MAX_REMAINING * self.last_square:
                raise _SlowProgressError
            self.last_square = _square(r)
            self.base = _Linearisation(x.copy(), r, self.difference(x, r), measured=True)
        return self.base.jacobian

    def difference(self, x: Array, r: Array) -> Array:
        """Measure forward differences ``(k, d)``; backward ones at upper bounds."""
        steps = np.where(x + self.steps > self.domain.limits[1], -self.steps, self.steps)
        # All differences are evaluated as one batch, in parallel if possible.
        beside = self.evaluate([self.domain.project(x + shift) for shift in np.diag(steps)])
        # A failed direction has slope 0.
        pairs = zip(beside, steps, strict=True)
        return np.column_stack(
            [np.zeros_like(r) if b is None else (b - r) / step for b, step in pairs]
        )


def _square(r: Array) -> float:
    return float(r @ r)
