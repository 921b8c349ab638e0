"""The spherical-linear Gaussian process (Doumont et al., AISTATS 2026): a linear model of points on a sphere.

The kernel is ``amplitude (b0 + b1 p.p')`` with ``b0 + b1 = 1``, p the unit vector of a point (``sphere.Chart``). With
D = d or d + 1 features, the sums over n points cost O(n D^2) once and O(D^2) per further point (``grams``). What is
asked of a model then costs O(D^3), however many points there are. A posterior sample is a weight vector, exact
everywhere, so what it says is best can be computed instead of searched. numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bo_invert.models.linear.running_gram import gram_of
from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.types import JSON, Array

#: Noise variances over amplitude that are tried. A ladder, so that outputs can share a factorisation.
RATIOS = tuple(float(v) for v in 10.0 ** np.arange(-6.0, 1.01, 0.25))
#: Shares b0 of the constant that are tried.
SHARES = tuple(float(v) for v in 1.0 / (1.0 + np.exp(-np.arange(-6.0, 3.0, 2.0))))
#: Lengthscales that are tried, in units of sqrt(d).
LENGTHSCALES = tuple(float(v) for v in 2.0 ** np.arange(-1.0, 4.5))
#: The amplitude's prior counts as this many standardised values of the expected size.
_PRIOR = 2.0
#: How many points around a centre a sample is brought in line with.
_LOCAL = 32


@dataclass(frozen=True)
class SphericalSettings:
    """Hyperparameters: share b0 of the constant, lengthscale (None: directions only), noise ratio of each output."""

    share: float
    lengthscale: float | None
    ratios: tuple[float, ...]

    def to_json(self) -> JSON:
        return {"share": self.share, "lengthscale": self.lengthscale, "ratios": list(self.ratios)}

    @staticmethod
    def from_json(data: JSON) -> SphericalSettings:
        return SphericalSettings(data["share"], data["lengthscale"], tuple(data["ratios"]))


@dataclass(frozen=True, eq=False)
class SphericalLinearGP:
    """Independent linear models of k outputs, given n points.

    Args:
        chart: how points become unit vectors.
        settings: hyperparameters.
        points: centred, shape ``(n, d)``.
        scores: standardised outputs, shape ``(n, k)``.
        offset: of the outputs, shape ``(k,)``.
        spread: of the outputs, shape ``(k,)``; outputs are ``offset + spread * scores``.
        memo: for the next fit.
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
        """For each noise ratio in use the lower Cholesky factor of the weights' precision, ``(D + 1, D + 1)``."""
        from scipy.linalg import cholesky

        gram, inner = (
            gram_of(self.projection, self.points),
            _inner(self.settings.share, self.projection.size + 1),
        )
        found = {}
        for ratio in sorted(set(self.settings.ratios)):
            precision = gram.copy()
            np.einsum("ii->i", precision)[:] += ratio / inner
            # the transpose is the same matrix in the order that LAPACK works on in place
            found[ratio] = cholesky(precision.T, lower=True, overwrite_a=True, check_finite=False)
        return found

    @cached_property
    def rows(self) -> Array:
        """Features of the points, shape ``(n, D + 1)``; samples do without them."""
        return self.projection.features(self.points)

    @cached_property
    def _pulls(self) -> Array:
        return self.projection.features_dot(self.points, self.scores)

    @cached_property
    def _weights(self) -> Array:
        """Posterior mean of the weights of the scores, shape ``(k, D + 1)``."""
        from scipy.linalg import cho_solve

        solved = [
            cho_solve((self.factors[ratio], True), pull, check_finite=False)
            for ratio, pull in zip(self.settings.ratios, self._pulls.T, strict=True)
        ]
        return np.array(solved)

    @cached_property
    def amplitudes(self) -> Array:
        """The most probable amplitude of each output's scores, shape ``(k,)``."""
        n = len(self.scores)
        fits = (self.scores**2).sum(0) - np.einsum("fk,kf->k", self._pulls, self._weights)
        ratios = np.array(self.settings.ratios)
        return np.asarray((np.maximum(fits, 0.0) / ratios + _PRIOR) / (n + _PRIOR))

    @property
    def mean(self) -> Array:
        """Posterior mean of the weights of the outputs, shape ``(k, D + 1)``, the constant last."""
        return self._scaled(self._weights)

    def sample(self, rng: np.random.Generator, q: int) -> Array:
        """Exact posterior samples of the weights of the outputs, shape ``(q, k, D + 1)``, the constant last."""
        from scipy.linalg import solve_triangular

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
        """A root of the posterior covariance of an output's weights, shape ``(D + 1, D + 1)``.

        A feature row times it has the standard deviation of the noise-free output there for its norm.
        """
        from scipy.linalg import solve_triangular

        factor = self.factors[self.settings.ratios[output]]
        root = solve_triangular(
            factor, np.eye(len(factor)), lower=True, trans="T", check_finite=False
        )
        return np.asarray(math.sqrt(self._noise()[output]) * root)

    def condition_locally(self, weights: Array, centre: Array) -> Array:
        """Sampled weights ``(k, D + 1)`` brought in line with the told points around a unit vector ``(D,)``.

        What looks like noise to a linear model is curvature where the oracle is deterministic, and that fades with
        the fourth power of the distance, as a variance. So the sample is conditioned once more on the nearest points,
        with that much noise: at the centre itself it then meets what was told.
        """
        from scipy.linalg import cho_factor, cho_solve, solve_triangular

        halves = np.maximum(1.0 - self.rows[:, :-1] @ centre, 0.0)  # half the squared distances
        nearest = np.argsort(halves, kind="stable")[:_LOCAL]
        rows, misfit = self.rows[nearest], np.diag(halves[nearest] ** 2)
        errors = self.offset + self.spread * self.scores[nearest] - rows @ weights.T
        moved = weights.copy()
        for ratio, factor in self.factors.items():
            same = np.array(self.settings.ratios) == ratio
            root = solve_triangular(factor, rows.T, lower=True, check_finite=False)
            inner = root.T @ root
            inner += misfit + 1e-9 * float(np.trace(inner)) / len(nearest) * np.eye(len(nearest))
            pull = root @ cho_solve(cho_factor(inner, lower=True), errors[:, same])
            moved[same] += solve_triangular(
                factor, pull, trans="T", lower=True, check_finite=False
            ).T
        return moved

    def posterior(self, points: Array) -> tuple[Array, Array]:
        """Mean and variance of the noise-free outputs at points ``(m, d)``, each of shape ``(m, k)``."""
        rows = self.projection.features(points)
        leverages = self._leverages(rows)
        return rows @ self.mean.T, self._noise() * np.column_stack(
            [leverages[r] for r in self.settings.ratios]
        )

    def leave_one_out(self) -> tuple[Array, Array]:
        """What is predicted of each told output (noise included) from all the others, each of shape ``(n, k)``.

        Offset, spread and hyperparameters are kept, amplitudes too.
        """
        leverages = self._leverages(self.rows)
        rest = np.maximum(
            1.0 - np.column_stack([leverages[ratio] for ratio in self.settings.ratios]), 1e-12
        )
        errors = (self.scores - self.rows @ self._weights.T) / rest
        return self.offset + self.spread * (self.scores - errors), self._noise() / rest

    def _noise(self) -> Array:
        """Noise variances of the outputs, shape ``(k,)``."""
        return np.asarray(self.spread**2 * self.amplitudes * np.array(self.settings.ratios))

    def _leverages(self, rows: Array) -> dict[float, Array]:
        from scipy.linalg import solve_triangular

        return {
            ratio: (solve_triangular(factor, rows.T, lower=True, check_finite=False) ** 2).sum(0)
            for ratio, factor in self.factors.items()
        }

    def _scaled(self, weights: Array) -> Array:
        scaled = weights * self.spread[:, None]
        scaled[..., -1] += self.offset
        return np.asarray(scaled)


def fit_spherical_gp(
    points: Array, values: Array, memo: JSON = None, *, directions: bool = False
) -> SphericalLinearGP:
    """A model of values ``(n, k)`` at centred points ``(n, d)``; n >= 1.

    Args:
        points: shape ``(n, d)``.
        values: shape ``(n, k)``, finite.
        memo: of an earlier model of the same problem; its hyperparameters serve until 5 % more points are told.
        directions: model directions only, instead of the stereographic chart with the best lengthscale.
    """
    offset, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 1e-12 * np.abs(offset), spread, 1.0)
    scores = (values - offset) / spread
    settings = _recall(memo, values.shape[1], directions)
    if settings is None or not memo["n"] <= len(points) < memo["n"] + max(1, memo["n"] // 20):
        lengthscales: Sequence[float | None] = (None,) if directions else LENGTHSCALES
        settings = select_settings(points, scores, lengthscales)
        fitted = len(points)
    else:
        fitted = memo["n"]
    chart = SphereProjection(points.shape[1], settings.lengthscale)
    note = {"n": fitted, **settings.to_json()}
    return SphericalLinearGP(chart, settings, points, scores, offset, spread, note)


def _recall(memo: JSON, k: int, directions: bool) -> SphericalSettings | None:
    if not memo or len(memo.get("ratios", [])) != k or (memo["lengthscale"] is None) != directions:
        return None
    return SphericalSettings.from_json(memo)


def select_settings(
    points: Array, scores: Array, lengthscales: Sequence[float | None]
) -> SphericalSettings:
    """The most probable hyperparameters of scores ``(n, k)`` at points ``(n, d)``, by looking at every combination.

    The lengthscale's prior is LogNormal(sqrt 2, sqrt 3), the others' are flat.
    """
    best, highest = (
        SphericalSettings(SHARES[0], lengthscales[0], (RATIOS[-1],) * scores.shape[1]),
        -math.inf,
    )
    for lengthscale in lengthscales:
        spectrum = Spectrum(SphereProjection(points.shape[1], lengthscale), points, scores)
        prior = 0.0
        if lengthscale is not None:
            log = math.log(lengthscale)
            prior = -((log - math.sqrt(2.0)) ** 2) / 6.0 - log
        for share in SHARES:
            evidence = spectrum.evidence(share, RATIOS)
            total = prior + float(evidence.max(0).sum())
            if total > highest:
                ratios = tuple(RATIOS[i] for i in evidence.argmax(0))
                best, highest = SphericalSettings(share, lengthscale, ratios), total
    return best


class Spectrum:
    """One eigendecomposition of the features' Gram matrix: the marginal likelihood of any share and any noise.

    Args:
        chart: how points become unit vectors.
        points: centred, shape ``(n, d)``.
        scores: shape ``(n, k)``.
    """

    def __init__(self, chart: SphereProjection, points: Array, scores: Array) -> None:
        from scipy.linalg import eigh

        self.n = len(points)
        vectors = np.column_stack([scores, np.ones(self.n)])
        self.inner = vectors.T @ vectors
        if self.n < chart.size:
            features = chart.features(points)[:, :-1]
            eigenvalues, basis = eigh(
                features @ features.T, driver="evd", overwrite_a=True, check_finite=False
            )
            self.eigenvalues = np.maximum(eigenvalues, 0.0)
            self.along = np.sqrt(self.eigenvalues)[:, None] * (basis.T @ vectors)
        else:
            gram = gram_of(chart, points)[:-1, :-1].copy()
            eigenvalues, basis = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
            self.eigenvalues = np.maximum(eigenvalues, 0.0)
            self.along = basis.T @ chart.features_dot(points, vectors)[:-1]

    def evidence(self, share: float, ratios: Sequence[float]) -> Array:
        """Log marginal likelihoods of the scores at their best amplitude, shape ``(len(ratios), k)``.

        The kernel without the constant is diagonal in the eigenvectors; the constant is a change of rank one.
        """
        ratio = np.array(ratios)[:, None]
        slope = 1.0 - share
        damping = slope / (slope * self.eigenvalues + ratio)
        z, one = self.along[:, :-1], self.along[:, -1]
        squares = np.diag(self.inner)
        zz = (squares[:-1] - damping @ z**2) / ratio
        z1 = (self.inner[:-1, -1] - damping @ (z * one[:, None])) / ratio
        ones = (squares[-1] - damping @ one[:, None] ** 2) / ratio
        fits = np.maximum(zz - share * z1**2 / (1.0 + share * ones), 0.0)
        logdet = np.log1p(slope * self.eigenvalues / ratio).sum(1, keepdims=True) + self.n * np.log(
            ratio
        )
        logdet = logdet + np.log1p(share * ones)
        amplitudes = (fits + _PRIOR) / (self.n + _PRIOR)
        return np.asarray(-0.5 * ((self.n + _PRIOR) * (np.log(amplitudes) + 1.0) + logdet))


def _inner(share: float, size: int) -> Array:
    """Prior variances of the weights over the amplitude, shape ``(D + 1,)``."""
    return np.append(np.full(size - 1, 1.0 - share), share)
