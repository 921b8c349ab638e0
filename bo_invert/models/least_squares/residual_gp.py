"""A model of residuals: principal components of what was told, one process behind all of them. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bo_invert.models.least_squares import learned_metric as learned_metric
from bo_invert.types import JSON, Array

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

_MAX_COMPONENTS = 40
_MAX_UNEXPLAINED = 1e-6
_TWIN_DISTANCE = 2e-3
"""Share of the domain's width within which evaluations are told apart by nobody but a finishing start."""
_MAX_EVALUATIONS = 400
"""Evaluations that are modelled: most of them the best, the others spread over the log."""


@dataclass(frozen=True)
class _ResidualBasis:
    """What is modelled: leading principal components of the residuals, and each excess over a constraint.

    Residual K of scores ``z`` is ``scale (z - zero)``, and never negative where ``hinge``.
    """

    scores: Array
    scale: Array
    zero: Array
    hinge: Flags

    @staticmethod
    def of(residuals: Array, excesses: Array) -> _ResidualBasis:
        """Of residuals ``(n, k)`` and excesses over constraints ``(n, p)``."""
        n = len(residuals)
        offset, middle = residuals.mean(0), excesses.mean(0)
        left, sizes, right = np.linalg.svd(residuals - offset, full_matrices=False)
        left_out = 1.0 - np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
        above = sizes > 1e-12 * np.abs(residuals).max()
        count = min(_MAX_COMPONENTS, 1 + int((left_out > _MAX_UNEXPLAINED).sum()), int(above.sum()))
        scale, spread = sizes[:count] / np.sqrt(n), excesses.std(0)
        spread = np.where(spread > 1e-12 * np.abs(excesses).max(0, initial=0.0), spread, 1.0)
        return _ResidualBasis(
            np.column_stack([left[:, :count] * np.sqrt(n), (excesses - middle) / spread]),
            np.concatenate([scale, spread]),
            np.concatenate([-(right[:count] @ offset) / scale, -middle / spread]),
            np.repeat([False, True], [count, excesses.shape[1]]),
        )


@dataclass(frozen=True)
class ResidualModel:
    """Residuals at any input, with slopes, as a process predicts them."""

    gp: learned_metric.MetricGP
    basis: _ResidualBasis

    @property
    def inputs(self) -> Array:
        """Of the evaluations that are modelled, shape ``(n, d)``."""
        return self.gp.inputs

    @property
    def identity(self) -> Array:
        """The yardstick of the objective: all residuals count alike, shape ``(K, K)``."""
        return np.eye(len(self.basis.scale))

    def whitening(self) -> Array:
        """The yardstick that makes leave-one-out errors uncorrelated and of size 1, shape ``(K, K)``."""
        errors = self.gp.loo_errors * self.basis.scale
        covariance = errors.T @ errors / len(errors)
        own = np.diag(covariance)
        shrunk = 0.9 * covariance + np.diag(0.1 * own + 1e-12 * own.max() + 1e-300)
        return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)).T)

    def squares(self, x: Array, yardstick: Array) -> Array:
        """Sums of squared residuals at inputs ``(b, d)``, shape ``(b,)``."""
        linear = self.basis.scale * (self.gp.mean(x) - self.basis.zero)
        return np.asarray(
            ((np.where(self.basis.hinge & (linear < 0.0), 0.0, linear) @ yardstick) ** 2).sum(1)
        )

    def linearised(self, x: Array, yardstick: Array) -> tuple[Array, Array]:
        """Residuals ``(b, K)`` and their Jacobian ``(b, K, d)`` at inputs ``(b, d)``."""
        measured = self.basis
        z, slopes = self.gp.mean_and_jacobian(x)
        linear = measured.scale * (z - measured.zero)
        active = ~measured.hinge | (linear > 0.0)
        jacobian = np.swapaxes(slopes, 1, 2) * (measured.scale * active)[:, None, :]
        return np.where(active, linear, 0.0) @ yardstick, np.swapaxes(jacobian @ yardstick, 1, 2)

    def fantasize(self, x: Array, rng: np.random.Generator) -> ResidualModel:
        """The same model as if inputs ``(b, d)`` had been evaluated, to a draw from what it believes of them."""
        return replace(self, gp=self.gp.condition_on(x, self.gp.sample(x, rng)))


def fit_residual_model(
    inputs: Array, residuals: Array, excesses: Array, memo: JSON = None
) -> tuple[ResidualModel | None, JSON]:
    """A model of residuals, and a memo that warms the next fit or spares it; no model where nothing ever varied.

    Args:
        inputs: evaluated, on the scale of the unit cube, shape ``(n, d)``, n >= 2.
        residuals: scaled distances from the target there, shape ``(n, k)``.
        excesses: over the constraints there, shape ``(n, p)``; positive ones are residuals too.
        memo: of an earlier fit.
    """
    kept = _select_evaluations(inputs, sums_of_squares(residuals, excesses))
    measured = _ResidualBasis.of(residuals[kept], excesses[kept])
    if not measured.scores.shape[1]:
        return None, memo
    importance = np.where(measured.hinge, 1.0, measured.scale / measured.scale.max())
    told = len(inputs) if len(kept) >= _MAX_EVALUATIONS else len(kept)
    process, memo = learned_metric.fit_metric_gp(
        inputs[kept], measured.scores, importance, memo, total=told
    )
    return ResidualModel(process, measured), memo


def sums_of_squares(residuals: Array, excesses: Array) -> Array:
    """Sums of squared residuals ``(n, k)``, broken constraints ``(n, p)`` among them, shape ``(n,)``."""
    return np.asarray((residuals**2).sum(1) + (np.maximum(excesses, 0.0) ** 2).sum(1))


def _select_evaluations(inputs: Array, merits: Array) -> Indices:
    """Which evaluations are modelled, in order.

    Of those next to each other the best alone: differences measured with a tiny step would have the model follow
    every output to its last digit there, and foretell nothing elsewhere.
    """
    from scipy.spatial import cKDTree

    tree, radius = cKDTree(inputs), _TWIN_DISTANCE * np.sqrt(inputs.shape[1])

    def apart(candidates: Indices, free: Flags, most: int) -> list[int]:
        """The first of the candidates without a twin among those before; all their twins are no longer free."""
        found: list[int] = []
        for i in candidates:
            if len(found) < most and free[i]:
                found.append(int(i))
                free[tree.query_ball_point(inputs[i], radius)] = False
        return found

    order, free = np.argsort(merits, kind="stable"), np.ones(len(inputs), dtype=bool)
    best = apart(order, free, 3 * _MAX_EVALUATIONS // 4)
    others, room = order[free[order]], _MAX_EVALUATIONS - 3 * _MAX_EVALUATIONS // 4
    rest = apart(others, free.copy(), room + 1)
    if len(rest) > room:
        rest = apart(others[np.linspace(0, len(others) - 1, room).astype(int)], free, room)
    return np.sort(best + rest)
