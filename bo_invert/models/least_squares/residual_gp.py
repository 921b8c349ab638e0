"""Gaussian process of residuals: principal components in one learned metric; numpy, scipy only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from bo_invert.models.least_squares.learned_metric import MetricGP, fit_metric_gp
from bo_invert.types import JSON, Array, Indices, Mask

_MAX_COMPONENTS = 40
"""Largest number of principal components. Engineering choice: bounds the cost of a fit."""
_MAX_UNEXPLAINED = 1e-6
"""Share of the variance outside of the components. Engineering choice."""
_TWIN_DISTANCE = 2e-3
"""Distance in units of the domain's width below which evaluations are twins. Engineering choice:
only finite differences are closer."""
_MAX_EVALUATIONS = 400
"""Largest number of modelled evaluations. Engineering choice: a model costs O(n^3)."""


@dataclass(frozen=True)
class _ResidualBasis:
    """Leading principal components of the residuals, and the excesses over constraints.

    Residual K of scores z is ``scale (z - zero)``, and max(0, that) for a hinge.
    """

    scores: Array
    scale: Array
    zero: Array
    hinge: Mask

    @staticmethod
    def of(residuals: Array, excesses: Array) -> _ResidualBasis:
        """Return the basis of residuals ``(n, k)`` and excesses over constraints ``(n, p)``."""
        n = len(residuals)
        offset, middle = residuals.mean(0), excesses.mean(0)
        # residuals - offset = U S V': sqrt(n) U are scores and S / sqrt(n) their scales. Components
        # orthogonal to V are constant and change no minimum of the squares.
        left, sizes, right = np.linalg.svd(residuals - offset, full_matrices=False)
        left_out = 1.0 - np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
        enough = 1 + int((left_out > _MAX_UNEXPLAINED).sum())
        above = int((sizes > 1e-12 * np.abs(residuals).max(initial=0.0)).sum())
        count = min(_MAX_COMPONENTS, enough, above)
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
    """Surrogate of K residuals with Jacobians."""

    gp: MetricGP
    basis: _ResidualBasis

    @property
    def identity(self) -> Array:
        """Weights of the objective: all residuals count alike, shape ``(K, K)``."""
        return np.eye(len(self.basis.scale))

    def whitening(self) -> Array:
        """Return weights W ``(K, K)`` that whiten leave-one-out errors: W W' = covariance^-1."""
        errors = self.gp.loo_errors * self.basis.scale
        covariance = errors.T @ errors / len(errors)
        own = np.diag(covariance)
        # Shrinkage to the diagonal regularises few errors (Ledoit & Wolf 2004, with fixed weight).
        shrunk = 0.9 * covariance + np.diag(0.1 * own + 1e-12 * own.max() + 1e-300)
        return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)).T)

    def squares(self, x: Array, weights: Array) -> Array:
        """Return sums of squared weighted residuals ``(b,)`` at inputs ``(b, d)``."""
        linear = self.basis.scale * (self.gp.mean(x) - self.basis.zero)
        return np.asarray(
            ((np.where(self.basis.hinge & (linear < 0.0), 0.0, linear) @ weights) ** 2).sum(1)
        )

    def linearise(self, x: Array, weights: Array) -> tuple[Array, Array]:
        """Return weighted residuals ``(b, K)`` and their Jacobian ``(b, K, d)``."""
        basis = self.basis
        z, slopes = self.gp.mean_and_jacobian(x)
        linear = basis.scale * (z - basis.zero)
        active = ~basis.hinge | (linear > 0.0)
        jacobian = np.swapaxes(slopes, 1, 2) * (basis.scale * active)[:, None, :]
        return np.where(active, linear, 0.0) @ weights, np.swapaxes(jacobian @ weights, 1, 2)

    def fantasize(self, x: Array, rng: np.random.Generator) -> ResidualModel:
        """Condition on a sample of the posterior at inputs ``(b, d)``."""
        return replace(self, gp=self.gp.condition_on(x, self.gp.sample(x, rng)))


def fit_residual_model(
    inputs: Array, residuals: Array, excesses: Array, memo: JSON = None
) -> tuple[ResidualModel | None, JSON]:
    """Fit a surrogate of residuals; return it and a memo, or None for constant residuals.

    Args:
        inputs: Unit inputs, shape ``(n, d)``, n >= 2.
        residuals: Scaled distances from the target, shape ``(n, k)``.
        excesses: Excesses over the constraints, shape ``(n, p)``; positive ones are residuals too.
        memo: Memo of an earlier fit.
    """
    rows = _select_evaluations(inputs, sums_of_squares(residuals, excesses))
    basis = _ResidualBasis.of(residuals[rows], excesses[rows])
    if not basis.scores.shape[1]:
        return None, memo
    # Components count by their share in the sum of squares, excesses fully.
    importance = np.where(basis.hinge, 1.0, basis.scale / basis.scale.max())
    # The memo counts selected evaluations until the limit, then all of them.
    total = len(inputs) if len(rows) >= _MAX_EVALUATIONS else len(rows)
    gp, memo = fit_metric_gp(inputs[rows], basis.scores, importance, memo, total=total)
    return ResidualModel(gp, basis), memo


def sums_of_squares(residuals: Array, excesses: Array) -> Array:
    """Return sums of squares ``(n,)`` of residuals ``(n, k)`` and positive excesses ``(n, p)``."""
    return np.asarray((residuals**2).sum(1) + (np.maximum(excesses, 0.0) ** 2).sum(1))


def _select_evaluations(inputs: Array, squares: Array) -> Indices:
    """Select the positions of modelled evaluations, in order.

    Three quarters are the best ones, the others are spread over the ranking. Of twins only the best
    is modelled: finite differences would force the model to fit the last digits of every output.
    """
    tree, radius = cKDTree(inputs), _TWIN_DISTANCE * np.sqrt(inputs.shape[1])

    def distinct(candidates: Indices, free: Mask, most: int) -> list[int]:
        """Select the first free candidates, and remove their twins from the free ones."""
        found: list[int] = []
        for i in candidates:
            if len(found) < most and free[i]:
                found.append(int(i))
                free[tree.query_ball_point(inputs[i], radius)] = False
        return found

    order, free = np.argsort(squares, kind="stable"), np.ones(len(inputs), dtype=bool)
    best = distinct(order, free, 3 * _MAX_EVALUATIONS // 4)
    others, room = order[free[order]], _MAX_EVALUATIONS - 3 * _MAX_EVALUATIONS // 4
    rest = distinct(others, free.copy(), room + 1)
    if len(rest) > room:
        rest = distinct(others[np.linspace(0, len(others) - 1, room).astype(int)], free, room)
    return np.sort(best + rest)
