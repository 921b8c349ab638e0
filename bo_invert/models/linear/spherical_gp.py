"""Spherical-linear Gaussian process: a linear model of points on a sphere; numpy and scipy only.

Doumont et al., AISTATS 2026. The kernel is amplitude (b0 + b1 p'p') with b0 + b1 = 1 and unit
vectors p (``SphereProjection``), so y = w'[p, 1] + noise. With D = d or d + 1, sums over n points
cost O(n D^2) once and O(D^2) per further point. Predictions cost O(D^3). A posterior sample is a
weight vector, whose optimum is computed instead of searched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, eigh, solve_triangular

from bo_invert.models.linear.running_gram import gram_of
from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.types import JSON, Array

RATIOS = tuple(float(v) for v in 10.0 ** np.arange(-6.0, 1.01, 0.25))
"""Candidate ratios of noise variance to amplitude; a grid lets outputs share factorisations."""
SHARES = tuple(float(v) for v in 1.0 / (1.0 + np.exp(-np.arange(-6.0, 3.0, 2.0))))
"""Candidate shares b0 of the constant."""
LENGTHSCALES = tuple(float(v) for v in 2.0 ** np.arange(-1.0, 4.5))
"""Candidate lengthscales in units of sqrt(d)."""
_PRIOR_COUNT = 2.0
"""Weight of the amplitude's prior in standardised observations. Engineering choice: a weak prior
with mode near 1."""
_N_LOCAL = 32
"""Number of observations in a local correction of a sample. Engineering choice."""


@dataclass(frozen=True)
class SphericalSettings:
    """Hyperparameters: share b0, lengthscale (None for directions), noise ratio of each output."""

    share: float
    lengthscale: float | None
    ratios: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SphericalLinearGP:
    """Posterior of k independent linear models, given n observations.

    Args:
        projection: Map from points to unit vectors.
        settings: Hyperparameters.
        points: Centred points, shape ``(n, d)``.
        scores: Standardised outputs, shape ``(n, k)``.
        offset: Means of the outputs, shape ``(k,)``.
        spread: Standard deviations of the outputs, shape ``(k,)``.
        memo: Memo for the next fit.
    """

    projection: SphereProjection
    settings: SphericalSettings
    points: Array
    scores: Array
    offset: Array
    spread: Array
    memo: JSON

    @cached_property
    def factors(self) -> dict[float, Array]:
        """Lower Cholesky factors L of the precision Phi'Phi + ratio B^-1, by noise ratio.

        B is the diagonal prior variance of the weights over the amplitude; the posterior covariance
        of the weights is ratio * amplitude * (L L')^-1. Shape ``(D + 1, D + 1)``.
        """
        gram = gram_of(self.projection, self.points)
        # Prior variances of the weights: 1 - b0 for the unit vector, b0 for the constant.
        inner = np.append(np.full(len(gram) - 1, 1.0 - self.settings.share), self.settings.share)
        found = {}
        for ratio in sorted(set(self.settings.ratios)):
            precision = gram.copy()
            np.einsum("ii->i", precision)[:] += ratio / inner
            # The transpose is the same matrix in column order, which LAPACK factorises in place.
            found[ratio] = cholesky(precision.T, lower=True, overwrite_a=True, check_finite=False)
        return found

    @cached_property
    def rows(self) -> Array:
        """Features of the points, shape ``(n, D + 1)``."""
        return self.projection.features(self.points)

    @cached_property
    def _pulls(self) -> Array:
        """Phi'y, shape ``(D + 1, k)``."""
        return self.projection.features_dot(self.points, self.scores)

    @cached_property
    def _weights(self) -> Array:
        """Posterior mean of the weights of the scores, shape ``(k, D + 1)``."""
        pulls = zip(self.settings.ratios, self._pulls.T, strict=True)
        return np.array(
            [cho_solve((self.factors[r], True), pull, check_finite=False) for r, pull in pulls]
        )

    @cached_property
    def amplitudes(self) -> Array:
        """Most probable amplitude of each output's scores, shape ``(k,)``.

        (y'C^-1 y + 2) / (n + 2) with y'C^-1 y = (y'y - y'Phi w) / ratio (Woodbury identity).
        """
        count = len(self.scores) + _PRIOR_COUNT
        # The mode of an inverse-gamma posterior with two prior observations of size 1.
        fits = (self.scores**2).sum(0) - np.einsum("fk,kf->k", self._pulls, self._weights)
        return np.asarray((np.maximum(fits, 0.0) / self.settings.ratios + _PRIOR_COUNT) / count)

    @property
    def mean(self) -> Array:
        """Posterior mean of the weights of the outputs, shape ``(k, D + 1)``, the constant last."""
        return self._scaled(self._weights)

    def sample(self, rng: np.random.Generator, q: int) -> Array:
        """Draw exact posterior samples of the weights, shape ``(q, k, D + 1)``, the constant last.

        w = mean + sqrt(ratio amplitude) L^-T xi with standard normal xi.
        """
        noise = rng.standard_normal((q, len(self.spread), self.projection.size + 1))
        weights = np.empty_like(noise)
        for j, (ratio, amplitude) in enumerate(
            zip(self.settings.ratios, self.amplitudes, strict=True)
        ):
            deviation = solve_triangular(
                self.factors[ratio], noise[:, j].T, trans="T", lower=True, check_finite=False
            )
            weights[:, j] = self._weights[j] + math.sqrt(ratio * amplitude) * deviation.T
        return self._scaled(weights)

    def covariance_root(self, output: int) -> Array:
        """Return a root R of the posterior covariance of an output's weights, ``(D + 1, D + 1)``.

        |phi R| is the noise-free standard deviation at a feature row phi.
        """
        factor = self.factors[self.settings.ratios[output]]
        root = solve_triangular(
            factor, np.eye(len(factor)), lower=True, trans="T", check_finite=False
        )
        return np.asarray(math.sqrt(self.noise()[output]) * root)

    def condition_locally(self, weights: Array, centre: Array) -> Array:
        """Condition sampled weights ``(k, D + 1)`` on the observations near a unit vector ``(D,)``.

        For an exact oracle the misfit of a linear model is curvature, whose variance grows with the
        fourth power of the distance. With that noise, the sample interpolates at the centre.
        """
        halves = np.maximum(1.0 - self.rows[:, :-1] @ centre, 0.0)  # half the squared distances
        nearest = np.argsort(halves, kind="stable")[:_N_LOCAL]
        rows, misfit = self.rows[nearest], np.diag(halves[nearest] ** 2)
        errors = self.offset + self.spread * self.scores[nearest] - rows @ weights.T
        moved = weights.copy()
        for ratio, factor in self.factors.items():
            same = np.array(self.settings.ratios) == ratio
            # Matheron's rule: w + S phi' (phi S phi' + misfit)^-1 error with S = (L L')^-1
            root = solve_triangular(factor, rows.T, lower=True, check_finite=False)
            inner = root.T @ root
            inner += misfit + 1e-9 * float(np.trace(inner)) / len(nearest) * np.eye(len(nearest))
            pull = root @ cho_solve(cho_factor(inner, lower=True), errors[:, same])
            moved[same] += solve_triangular(
                factor, pull, trans="T", lower=True, check_finite=False
            ).T
        return moved

    def posterior(self, points: Array) -> tuple[Array, Array]:
        """Return mean and noise-free variance ``(m, k)`` at points ``(m, d)``."""
        rows = self.projection.features(points)
        return rows @ self.mean.T, self.noise() * self._leverages(rows)

    def leave_one_out(self) -> tuple[Array, Array]:
        """Return leave-one-out means and variances with noise, ``(n, k)`` each.

        error_i = (y_i - phi_i w) / (1 - h_i) with the leverage h_i = phi_i (L L')^-1 phi_i', at
        fixed hyperparameters.
        """
        # A leverage of 1 means that no other observation determines the prediction.
        rest = np.maximum(1.0 - self._leverages(self.rows), 1e-12)
        errors = (self.scores - self.rows @ self._weights.T) / rest
        return self.offset + self.spread * (self.scores - errors), self.noise() / rest

    def noise(self) -> Array:
        """Return the noise variances of the outputs, shape ``(k,)``."""
        return np.asarray(self.spread**2 * self.amplitudes * np.array(self.settings.ratios))

    def _leverages(self, rows: Array) -> Array:
        """Return |L^-1 phi'|^2 of feature rows phi for each output, shape ``(m, k)``."""
        leverages = {
            ratio: (solve_triangular(factor, rows.T, lower=True, check_finite=False) ** 2).sum(0)
            for ratio, factor in self.factors.items()
        }
        return np.column_stack([leverages[ratio] for ratio in self.settings.ratios])

    def _scaled(self, weights: Array) -> Array:
        """Return weights of the outputs from weights of the scores."""
        scaled = weights * self.spread[:, None]
        scaled[..., -1] += self.offset
        return np.asarray(scaled)


def fit_spherical_gp(
    points: Array, values: Array, memo: JSON = None, *, directions: bool = False
) -> SphericalLinearGP:
    """Fit a spherical-linear process; n >= 1.

    Args:
        points: Centred points, shape ``(n, d)``.
        values: Finite outputs, shape ``(n, k)``.
        memo: Memo of an earlier fit; its hyperparameters serve until there are 5 % more points.
        directions: Model directions only, instead of the stereographic projection.
    """
    offset, spread = values.mean(0), values.std(0)
    # Constant outputs keep the scale 1.
    spread = np.where(spread > 1e-12 * np.abs(offset), spread, 1.0)
    scores = (values - offset) / spread
    # A memo without the number of outputs or the kind of lengthscale belongs to another model.
    compatible = (
        memo
        and len(memo.get("ratios", [])) == values.shape[1]
        and (memo["lengthscale"] is None) == directions
    )
    if compatible and memo["n"] <= len(points) < memo["n"] + max(1, memo["n"] // 20):
        settings = SphericalSettings(memo["share"], memo["lengthscale"], tuple(memo["ratios"]))
    else:
        settings = select_settings(points, scores, (None,) if directions else LENGTHSCALES)
        memo = {"n": len(points), **asdict(settings), "ratios": list(settings.ratios)}
    projection = SphereProjection(points.shape[1], settings.lengthscale)
    return SphericalLinearGP(projection, settings, points, scores, offset, spread, memo)


def select_settings(
    points: Array, scores: Array, lengthscales: Sequence[float | None]
) -> SphericalSettings:
    """Select the most probable hyperparameters on the grid of all candidates.

    The prior of the lengthscale is LogNormal(sqrt(2), sqrt(3)); the others are flat.

    Args:
        points: Centred points, shape ``(n, d)``.
        scores: Standardised outputs, shape ``(n, k)``.
        lengthscales: Candidate lengthscales.
    """
    ratios = (RATIOS[-1],) * scores.shape[1]
    best, highest = SphericalSettings(SHARES[0], lengthscales[0], ratios), -math.inf
    for lengthscale in lengthscales:
        spectrum = Spectrum(SphereProjection(points.shape[1], lengthscale), points, scores)
        prior = 0.0
        if lengthscale is not None:
            log = math.log(lengthscale)
            # log LogNormal density up to a constant, as in kernels.lengthscale_prior with d = 1
            prior = -((log - math.sqrt(2.0)) ** 2) / 6.0 - log
        for share in SHARES:
            evidence = spectrum.evidence(share, RATIOS)
            total = prior + float(evidence.max(0).sum())
            if total > highest:
                ratios = tuple(RATIOS[i] for i in evidence.argmax(0))
                best, highest = SphericalSettings(share, lengthscale, ratios), total
    return best


class Spectrum:
    """Eigendecomposition of the Gram matrix, for the evidence of any share and noise ratio.

    Args:
        projection: Map from points to unit vectors.
        points: Centred points, shape ``(n, d)``.
        scores: Standardised outputs, shape ``(n, k)``.
    """

    def __init__(self, projection: SphereProjection, points: Array, scores: Array) -> None:
        self.n = len(points)
        vectors = np.column_stack([scores, np.ones(self.n)])
        self.inner = vectors.T @ vectors
        # P P' (n, n) and P'P (D, D) have the same eigenvalues; the smaller one is decomposed.
        if self.n < projection.size:
            features = projection.features(points)[:, :-1]
            gram = features @ features.T
        else:
            gram = gram_of(projection, points)[:-1, :-1].copy()
        eigenvalues, basis = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
        self.eigenvalues = np.maximum(eigenvalues, 0.0)
        # Components of P'[y, 1] along the eigenvectors of P'P.
        if self.n < projection.size:
            self.along = np.sqrt(self.eigenvalues)[:, None] * (basis.T @ vectors)
        else:
            self.along = basis.T @ projection.features_dot(points, vectors)[:-1]

    def evidence(self, share: float, ratios: Sequence[float]) -> Array:
        """Return log marginal likelihoods at the best amplitude, shape ``(len(ratios), k)``.

        C = b1 P P' + ratio I is diagonal in the eigenvectors. The constant b0 1 1' is a change of
        rank one: y'C^-1 y - b0 (1'C^-1 y)^2 / (1 + b0 1'C^-1 1) (Sherman & Morrison 1950).
        """
        ratio = np.array(ratios)[:, None]
        slope = 1.0 - share
        # (b1 P P' + r I)^-1 = (I - P diag(damping) P') / r in the eigenvectors (Woodbury identity)
        damping = slope / (slope * self.eigenvalues + ratio)
        z, one = self.along[:, :-1], self.along[:, -1]
        squares = np.diag(self.inner)
        zz = (squares[:-1] - damping @ z**2) / ratio
        z1 = (self.inner[:-1, -1] - damping @ (z * one[:, None])) / ratio
        ones = (squares[-1] - damping @ one[:, None] ** 2) / ratio
        fits = np.maximum(zz - share * z1**2 / (1.0 + share * ones), 0.0)
        # log|C| = sum log(1 + b1 lambda / r) + n log r + log(1 + b0 1'C^-1 1)
        spread = np.log1p(slope * self.eigenvalues / ratio).sum(1, keepdims=True)
        logdet = spread + self.n * np.log(ratio) + np.log1p(share * ones)
        count = self.n + _PRIOR_COUNT
        amplitudes = (fits + _PRIOR_COUNT) / count
        return np.asarray(-0.5 * (count * (np.log(amplitudes) + 1.0) + logdet))
