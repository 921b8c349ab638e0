"""Sequential Monte Carlo: particles of the posterior of designs; numpy only.

The posterior of a point is its reference measure p times the probability a that it meets the
target. Particles move from p to p a through the tempered distributions p a^t, 0 <= t <= 1 (Del
Moral, Doucet & Jasra 2006). A chain from one start would miss most of the separate branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from bo_invert.domains.conditions import default_point
from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.input_constraints import Count
from bo_invert.domains.parameters import Float
from bo_invert.domains.search_domain import Domain
from bo_invert.types import Array, Indices, Mask

_LEAST_SIZE = 0.6
"""Effective sample size after each tempering step, as a share of the particles. Engineering choice:
between 0.5 and 0.9 in the literature."""
_DRAWS = 8
"""Draws of the reference measure for each particle, among which the first tempering step chooses.
Engineering choice: they cost as much as the moves after one step, and save several steps."""
_MOVES = 8
"""Moves of each particle after a tempering step. Engineering choice."""
_MAX_LEVELS = 80
"""Largest number of tempering steps. Engineering choice: bounds the time of an ask."""
_ACCEPTANCE = 0.3
"""Acceptance ratio to which step sizes adapt. Engineering choice, as for pCN."""
_SHRINK = (0.1, 2.0)
"""Range of the factors of a step, uniform in their logarithms. Engineering choice: branches differ
in width."""
_KERNELS, _NEAREST = 256, 6
"""Number of kernels of a density estimate of particles, and of particles behind the covariance of
each, beside two for each coordinate. Engineering choice."""
_WHOLE_DRAWS = 0.25
"""Share of replacements that are whole draws of the reference measure. Engineering choice."""
_JUMPS = (1.0, 0.6, 0.1)
"""Factors of differences of particles, dimensionless. Engineering choice: 1 leads from branch to
branch."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Equally weighted particles of p(x) a(x) / Z.

    Args:
        points: Points of the domain, shape ``(n, d)``.
        log_acceptance: log a at the points, shape ``(n,)``.
        log_evidence: Estimate of log Z, the log of the mean of a over the reference measure.
        tempered: Exponent t that was reached; below 1 the particles are wider than the posterior.
    """

    points: Array
    log_acceptance: Array
    log_evidence: float
    tempered: float = 1.0

    @property
    def acceptance(self) -> Array:
        """Probabilities a, shape ``(n,)``."""
        return np.exp(self.log_acceptance)

    def select(self, rows: Indices) -> Particles:
        """Return some of the particles."""
        return replace(self, points=self.points[rows], log_acceptance=self.log_acceptance[rows])


def sample_particles(
    log_acceptance: Callable[[Array], Array],
    domain: Domain,
    n: int,
    rng: np.random.Generator,
    final_rounds: int = 0,
) -> Particles:
    """Sample particles of p(x) a(x).

    Args:
        log_acceptance: Function from points ``(b, d)`` to log a ``(b,)``.
        domain: Search domain; its reference measure is p.
        n: Number of particles.
        rng: Random generator.
        final_rounds: Additional rounds of moves after the last tempering step.
    """
    moves = _Moves(log_acceptance, domain, rng)
    points = domain.sample(rng, _DRAWS * n)
    logs = log_acceptance(points)
    level = log_evidence = 0.0
    for _ in range(_MAX_LEVELS):
        after = _next_level(logs, level, _LEAST_SIZE * n)
        change = (after - level) * logs
        weights = np.exp(change - change.max())
        log_evidence += float(np.log(weights.mean()) + change.max())
        rows = systematic(weights, n, rng)
        points, logs, level = points[rows], logs[rows], after
        points, logs = moves.run(points, logs, level)
        if level >= 1.0:
            break
    for _ in range(final_rounds):
        points, logs = moves.run(points, logs, level)
    return Particles(points, logs, log_evidence, level)


def _next_level(logs: Array, level: float, least: float) -> float:
    """Return the largest exponent whose weights have the least effective sample size."""

    def size(exponent: float) -> float:
        change = (exponent - level) * logs
        weights: Array = np.exp(change - change.max())
        return float(weights.sum() ** 2 / (weights**2).sum())

    if size(1.0) >= least:
        return 1.0
    # Bisection of the logarithm, because first exponents can be tiny.
    low, high = math.log(1e-300), math.log(1.0 - level)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if size(level + math.exp(middle)) >= least else (low, middle)
    return min(1.0, max(level + math.exp(low), math.nextafter(level, 1.0)))


def systematic(weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Return n positions drawn in proportion to weights ``(m,)``, by systematic resampling."""
    shares = np.cumsum(weights) / weights.sum()
    draws = (rng.random() + np.arange(n)) / n
    return np.searchsorted(shares, draws).clip(max=len(weights) - 1)


class _Moves:
    """Moves of particles that leave p(x) a(x)^t invariant.

    Real coordinates move along differences of draws from p, which stay inside of linear equality
    constraints, and along differences of other particles (ter Braak 2006). Parameters are replaced
    by those of draws from p, which also moves integers and choices. A latent with N(0, I) moves by
    preconditioned Crank-Nicolson steps.

    Args:
        log_acceptance: Function from points to log a.
        domain: Search domain.
        rng: Random generator.
    """

    def __init__(
        self, log_acceptance: Callable[[Array], Array], domain: Domain, rng: np.random.Generator
    ) -> None:
        self.log_acceptance, self.domain, self.rng = log_acceptance, domain, rng
        self.log_step = math.log(0.3)
        self.real = _real_columns(domain)
        fixed = domain.fixed if isinstance(domain, ConstrainedBox) else {}
        self.varied = [n for n, p in domain.parameters.items() if p.width and n not in fixed]
        for name in fixed:
            self.real[domain.columns[name]] = False
        # A count of zeros gives the reference measure atoms, which uniform values never meet.
        self.counted = any(isinstance(one, Count) for one in domain.constraints)
        self.plain_box = not domain.latent and domain.reference is None and not domain.constraints

    def run(self, points: Array, logs: Array, level: float) -> tuple[Array, Array]:
        """Move all particles; return their points and log a."""
        prior = self._log_prior(points)
        for k in range(_MOVES):
            n = len(points)
            everywhere = np.ones(n, dtype=bool)
            if k % 4 == 3 and not self.domain.continuous:
                proposed, correction = self._replaced(points, prior)
            elif k % 4 == 1 and self.real.all():
                everywhere = self.rng.permutation(n) < n // 2
                proposed, correction = self._relocated(points, everywhere)
            elif k % 2 and self.real.any():
                # Each half moves along differences of the other, which stays.
                everywhere = self.rng.permutation(n) < n // 2
                proposed, correction = self._along_others(points, everywhere), np.zeros(n)
            elif self.real.any():
                proposed, correction = self._stepped(points, prior)
            else:
                proposed, correction = self._replaced(points, prior)
            rows = np.flatnonzero(everywhere & self.domain.admits(proposed))
            new_logs, new_prior = np.full(n, -np.inf), np.full(n, -np.inf)
            if len(rows):
                new_logs[rows] = self.log_acceptance(proposed[rows])
                new_prior[rows] = self._log_prior(proposed[rows])
            with np.errstate(invalid="ignore"):
                gain = level * (new_logs - logs) + new_prior - prior + correction
            moved = np.log(self.rng.random(n)) < np.where(np.isnan(gain), -np.inf, gain)
            moved &= everywhere
            if k % 2 == 0:
                self.log_step += 1.5 * (float(moved.mean()) - _ACCEPTANCE)
                self.log_step = min(0.0, max(math.log(1e-5), self.log_step))
            points = np.where(moved[:, None], proposed, points)
            logs, prior = np.where(moved, new_logs, logs), np.where(moved, new_prior, prior)
        return points, logs

    def _stepped(self, points: Array, prior: Array) -> tuple[Array, Array]:
        """Return points one step away, and the log ratio of the proposal densities."""
        n, rng = len(points), self.rng
        low, high = np.log(_SHRINK)
        size = np.minimum(1.0, np.exp(self.log_step + rng.uniform(low, high, (n, 1))))
        if self.domain.latent:
            # pCN leaves N(0, I) invariant, so its density cancels (Cotter et al. 2013).
            step = size * rng.standard_normal(points.shape)
            moved = np.sqrt(1.0 - size**2) * points + step
            return moved, 0.5 * ((moved**2).sum(1) - (points**2).sum(1))
        if self.plain_box:
            step = size * rng.standard_normal(points.shape)
        else:
            first, second = self.domain.sample(rng, n), self.domain.sample(rng, n)
            step = size * (first - second)
        return self._reflected(points + np.where(self._free(points), step, 0.0)), np.zeros(n)

    def _along_others(self, points: Array, movers: Mask) -> Array:
        others = points[~movers]
        first, second = self.rng.integers(len(others), size=(2, len(points)))
        factor = self.rng.choice(_JUMPS, (len(points), 1))
        step = factor * (others[first] - others[second])
        return points + np.where(self._free(points), step, 0.0)

    def _free(self, points: Array) -> Mask:
        """Return a mask of the coordinates that steps move: real ones of active parameters."""
        return self.real & ~self.domain.inactive(points) if self.domain.conditional else self.real

    def _relocated(self, points: Array, movers: Mask) -> tuple[Array, Array]:
        """Return draws of a density estimate of the other particles, and its log ratio.

        Kernels have the covariances of the nearest particles, so they follow thin branches. The
        move corrects the masses of separate branches, between which no step leads.
        """
        others = points[~movers]
        chosen = others[self.rng.permutation(len(others))[:_KERNELS]]
        count, d = len(chosen), points.shape[1]
        _, near = cKDTree(others).query(chosen, min(len(others), _NEAREST + 2 * d))
        gaps = others[near] - others[near].mean(1, keepdims=True)
        covariance = gaps.swapaxes(1, 2) @ gaps / near.shape[1]
        ridge = 1e-6 * np.trace(covariance, axis1=1, axis2=2) / d + 1e-18
        factors = np.linalg.cholesky(covariance + ridge[:, None, None] * np.eye(d))
        picked = self.rng.integers(count, size=len(points))
        step = factors[picked] @ self.rng.standard_normal((len(points), d, 1))
        proposed = chosen[picked] + step[..., 0]
        inverse = np.linalg.inv(factors)  # (c, d, d)
        centres = (inverse @ chosen[..., None])[..., 0]
        flat = inverse.reshape(-1, d).T
        sizes = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)

        def log_density(at: Array) -> Array:
            white = (at @ flat).reshape(len(at), count, d) - centres
            logs = -0.5 * np.einsum("nci,nci->nc", white, white) - sizes
            return np.asarray(np.logaddexp.reduce(logs, axis=1))

        correction = np.zeros(len(points))
        correction[movers] = log_density(points[movers]) - log_density(proposed[movers])
        return proposed, correction

    def _replaced(self, points: Array, prior: Array) -> tuple[Array, Array]:
        """Replace some parameters by uniform values, or points by draws from p; with log ratios.

        Values are uniform in each parameter alone: draws from p have marginal densities, which do
        not cancel under constraints. Inactive parameters are refreshed with every move, so a value
        that becomes active is a uniform one. Whole draws from p satisfy equality constraints.
        """
        n, columns = len(points), self.domain.columns
        whole = self.rng.random(n) < _WHOLE_DRAWS
        drawn = self.domain.sample(self.rng, n)
        values = self._uniform(n)
        if self.counted:
            values = np.where(self.domain.inactive(drawn), values, drawn)
        groups = [columns[name] for name in self.varied]
        chosen = self.rng.random((n, len(groups))) < 1.0 / max(1, len(groups))
        replaced = np.where(self.domain.inactive(points), values, points)
        for j, group in enumerate(groups):
            replaced[:, group] = np.where(chosen[:, [j]], values[:, group], replaced[:, group])
        defaults = default_point(self.domain.parameters)
        valid = np.where(self.domain.inactive(replaced), defaults, replaced)
        result = np.where(whole[:, None], drawn, valid)
        # An independent draw from p is accepted with the ratio of a alone.
        return result, np.where(whole, prior - self._log_prior(result), 0.0)

    def _uniform(self, n: int) -> Array:
        """Draw points ``(n, d)`` with independent uniform values, also of inactive parameters."""
        parts = [
            one.project(self.rng.random((n, one.width))) for one in self.domain.parameters.values()
        ]
        return np.concatenate(parts, axis=1)

    def _reflected(self, points: Array) -> Array:
        """Reflect points of a box at its sides; other domains reject points outside."""
        if not self.plain_box:
            return points
        folded = np.abs(points) % 2.0
        return np.where(folded > 1.0, 2.0 - folded, folded)

    def _log_prior(self, points: Array) -> Array:
        domain = self.domain
        if domain.reference is not None:
            return domain.reference.log_density(points)
        return -0.5 * (points**2).sum(1) if domain.latent else np.zeros(len(points))


def _real_columns(domain: Domain) -> Mask:
    """Return a mask ``(d,)`` of the coordinates that are real numbers."""
    if not domain.parameters:
        return np.ones(domain.dim, dtype=bool)
    mask = np.zeros(domain.dim, dtype=bool)
    for name, parameter in domain.parameters.items():
        mask[domain.columns[name]] = isinstance(parameter, Float) and parameter.continuous
    return mask
