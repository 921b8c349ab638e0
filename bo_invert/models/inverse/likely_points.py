"""Points that meet a target with the highest probability, from a model of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.fit import TargetFit
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.models.optim.levenberg_marquardt import levenberg_marquardt
from bo_invert.models.optim.optimize_acquisition import gradient_ascent, optimize_acquisition
from bo_invert.models.optim.score import Score, at_valid
from bo_invert.types import Array

_BEST, _OTHERS, _DRAWN, _WIDE = 10, 6, 24, 1000
"""Numbers of starts: best observations, further ones, the likeliest draws, and all draws of the
reference measure. Engineering choice: they bound the time of an ask."""
_CLIMBED = 6
"""Number of roots from which log a is maximised. Engineering choice, as for acquisition
functions."""
_STEPS = 60
"""Steps of the maximisation. Engineering choice: log a is narrow across a solution set."""
_EXACT_SHARE = 0.1
"""Standard deviation at an exact observation, as a share of the half-width of a target interval.
Engineering choice: negligible beside the tolerance."""
_LEAST_NOISE = 1e-8
"""Least noise variance of an exact observation in units of the output's variance. Engineering
choice: smaller ones make the covariance matrix singular."""


def with_exact_observations(fit: TargetFit, points: Array) -> TargetModel:
    """Return the model whose means pass through the observations at points ``(p, d)``.

    The noise of a fit stands for structure finer than the lengthscales. Without it, the mean of the
    posterior changes by the smallest function, in the norm of the kernel, that reproduces the
    observed difference from the prediction. For linear functions this is Broyden's secant update
    of the Jacobian (Broyden 1965); the next point aims at y* + (predicted - observed).
    """
    model, gp = fit.model, fit.model.surrogate.gp
    inputs = gp.inputs.cpu().numpy()
    exact = np.zeros(len(inputs), dtype=bool)
    for point in to_unit(model.domain, points):
        exact |= np.abs(inputs - point).max(1) < 1e-12
    if not exact.any():
        return model
    region, weights = model.region, model.surrogate.weights.abs()
    half = torch.where(region.avoided, torch.inf, 0.5 * (region.upper - region.lower))
    # A score with weight w moves an output by w.
    reach = (half / weights[:, region.columns].clamp(min=1e-300)).amin(1)
    finite = reach.isfinite() & (reach > 0.0)
    least = torch.where(finite, (_EXACT_SHARE * reach).square(), torch.zeros_like(reach))
    most = torch.full_like(gp.noise, torch.inf)
    rows = torch.as_tensor(exact, device=most.device)
    most[:, rows] = least.clamp(min=_LEAST_NOISE)[:, None]
    return replace(model, gp=gp.with_noise(most))


@dataclass(frozen=True, eq=False)
class LikelyPoints:
    """Search for the points with the highest probability to meet a target.

    Levenberg-Marquardt steps on the posterior means lead from observations and from draws of the
    reference measure to roots. From the likeliest roots,

        ``log a(x) = sum_j log P(l_j <= y_j(x) <= u_j)``

    is maximised. Among the points that the means place on the target, these are the ones whose
    outputs are most certain.

    Args:
        model: Model of the target.
        history: Observations.
        duplicates: Filter of points that would repeat known ones.
    """

    model: TargetModel
    history: History
    duplicates: DuplicateFilter

    def choose(self, count: int, rng: np.random.Generator) -> Array:
        """Return points ``(count, d)``, the likeliest one first.

        Further points, and all points beside pending ones, maximise ``a(x) (1 - max r^2)`` with the
        correlation r of the outputs at x and at a chosen or pending point, so that their errors
        differ.

        Args:
            count: Number of points.
            rng: Random generator.
        """
        domain = self.model.domain
        found = self._candidates(rng)
        logs = self._log_acceptance(to_unit(domain, found))
        chosen = np.empty((0, domain.dim))
        for _ in range(count):
            beside = np.concatenate([self.history.pending_points, chosen])
            values = logs + self._log_unexplained(found, beside)
            ranked = found[np.argsort(-values, kind="stable")]
            known = np.concatenate([self.history.all_points, chosen])
            chosen = np.concatenate([chosen, self.duplicates.select_new(ranked, known, 1)])
        return chosen

    def probabilities(self, points: Array) -> Array:
        """Return the probabilities ``(n,)`` that points ``(n, d)`` meet the target.

        Fitted hyperparameters understate errors of few observations, and the likeliest point is
        often one whose error is understated. So the distribution is a Student t distribution with
        as many degrees of freedom as observations per parameter.
        """
        observed = len(self.model.surrogate.gp.inputs)
        degrees = observed / max(1, self.model.domain.parameter_count)
        return Acceptance(self.model, degrees=degrees)(points)

    def _candidates(self, rng: np.random.Generator) -> Array:
        domain, score = self.model.domain, at_valid(self._score, self.model.domain)
        if not domain.continuous:
            best, ends = optimize_acquisition(
                score, domain, self.history.ranked_points[:_BEST], self.history.all_points, rng,
                duplicates=self.duplicates,
            )  # fmt: skip
            return np.concatenate([best[None], from_unit(domain, to_unit(domain, ends))])
        roots = self._roots(self._starts(rng))
        order = np.argsort(-self._log_acceptance(roots), kind="stable")
        climbed = gradient_ascent(score, domain, from_unit(domain, roots[order[:_CLIMBED]]), _STEPS)
        again = self._roots(to_unit(domain, climbed))
        return from_unit(domain, np.concatenate([roots, to_unit(domain, climbed), again]))

    def _starts(self, rng: np.random.Generator) -> Array:
        """Return unit inputs ``(s, d)``: observations, and draws of the reference measure."""
        domain, best = self.model.domain, self.history.ranked_points
        others = rng.permutation(len(best))[:_OTHERS]
        drawn = to_unit(domain, domain.sample(rng, _WIDE))
        order = np.argsort(-self._log_acceptance(drawn), kind="stable")
        known = to_unit(domain, np.concatenate([best[:_BEST], best[others]]))
        return np.concatenate([known, drawn[order[:_DRAWN]]])

    def _roots(self, starts: Array) -> Array:
        """Step from unit inputs ``(s, d)`` to minima of the distance of the means from a target."""
        domain = self.model.domain
        return levenberg_marquardt(
            self._distances, starts, lambda x: to_unit(domain, from_unit(domain, x)),
            bounded=not domain.latent,
        )[0]  # fmt: skip

    def _distances(self, inputs: Array) -> tuple[Array, Array]:
        """Return distances ``(b, e)`` of the means from the entries, and their Jacobian.

        Points aim at their value, ranges at their nearer end. They are in units of the spread of
        the observed outputs. Intervals to avoid have no part in them.
        """
        region, values = self.model.region, self.model.surrogate.gp.values[..., 0]
        columns = region.columns.cpu().numpy()
        weights = self.model.surrogate.weights
        spread = (weights.mT @ values).std(1).cpu().numpy()[columns]
        spread = np.where(spread > 0.0, spread, 1.0)
        mean, jacobian = mean_and_jacobian(self.model, inputs)
        own = mean[:, columns]
        lower, upper = region.lower.cpu().numpy(), region.upper.cpu().numpy()
        avoided = region.avoided.cpu().numpy()
        # A range is met with the highest probability inside of it, which the ascent finds.
        narrow = np.isfinite(lower) & np.isfinite(upper)
        with np.errstate(invalid="ignore"):
            middle = np.where(narrow, 0.5 * (lower + upper), 0.0)
        beyond = np.maximum(own - upper, 0.0) - np.maximum(lower - own, 0.0)
        gap = np.where(narrow & ~avoided, own - middle, np.where(avoided, 0.0, beyond))
        active = np.where(avoided, 0.0, narrow | (beyond != 0.0))
        return gap / spread, jacobian[:, columns] * (active / spread)[..., None]

    @property
    def _score(self) -> Score:
        """Log a of unit inputs on the device of the inputs."""
        like = self.model.surrogate.offset
        return lambda inputs: self.model.log_acceptance_of(inputs.to(like)).to(inputs)

    @torch.no_grad()
    def _log_acceptance(self, inputs: Array) -> Array:
        return np.asarray(self._score(torch.as_tensor(inputs)).cpu().numpy())

    @torch.no_grad()
    def _log_unexplained(self, points: Array, beside: Array) -> Array:
        """Return ``log(1 - max r^2)`` ``(n,)`` of points ``(n, d)`` beside others ``(p, d)``."""
        if not len(beside):
            return np.zeros(len(points))
        gp, at, others = self.model.process, self.model.unit(points), self.model.unit(beside)
        variances = gp(at)[1].mT[..., None] * gp(others)[1].mT[:, None]
        explained = (gp.covariance(at, others).square() / variances).mean(0).amax(1)
        return np.asarray(torch.log1p(-explained.clamp(max=1.0 - 1e-9)).cpu().numpy())


def mean_and_jacobian(model: TargetModel, inputs: Array) -> tuple[Array, Array]:
    """Return means ``(b, c)`` of the outputs and their Jacobian ``(b, c, d)``.

    Args:
        model: Model of the target.
        inputs: Unit inputs, shape ``(b, d)``.
    """
    moments = model.process.moments
    at = torch.as_tensor(inputs).to(model.surrogate.offset)
    mean, variance, cache = moments(at)
    slopes = []
    for k in range(mean.shape[1]):
        pull = torch.zeros_like(mean)
        pull[:, k] = 1.0
        slopes.append(moments.gradient(cache, pull, torch.zeros_like(variance)))
    weights = model.surrogate.weights
    jacobian = torch.einsum("kbd,kc->bcd", torch.stack(slopes), weights)
    outputs = mean[..., 0] @ weights + model.surrogate.offset
    return outputs.cpu().numpy(), jacobian.cpu().numpy()


def likely_points(
    fit: TargetFit, exact: Array, history: History, duplicates: DuplicateFilter
) -> LikelyPoints:
    """Return a search whose means pass through the observations at points ``exact`` ``(p, d)``."""
    return LikelyPoints(with_exact_observations(fit, exact), history, duplicates)
