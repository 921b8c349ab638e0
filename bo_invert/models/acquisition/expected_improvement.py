"""Log expected improvement: scores ``(b,)`` of unit inputs ``(b, d)``.

Pending points are *anchors*: samples of their outcomes condition the surrogate (fantasies), and
the improvement is averaged over them. With noise, observed points are anchors too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.acquisition.acquisition_data import AcquisitionData, added_variance
from bo_invert.models.acquisition.analytic_loss import AnalyticLoss, analytic_loss
from bo_invert.models.acquisition.log_ei import (
    log_fat_softplus,
    log_mean_exp,
    log_ndtr_slope,
    sobol_normals,
)
from bo_invert.models.acquisition.moment_score import (
    AutogradHead,
    Head,
    Slopes,
    moment_score,
)
from bo_invert.models.array_module import A, array_module, as_array, matching
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import Array

_MAX_ANCHORS = 24
"""Largest number of observed anchors of a noisy oracle. Engineering choice: cost O(p^3)."""
_CONSTRAINT_WIDTH = 1e-5
"""Width of a smoothed constraint in standard deviations. Engineering choice: wider misleads."""


def log_expected_improvement(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    *,
    seed: int,
    samples: int = 128,
) -> Score:
    """Build the log expected improvement over the best feasible loss (Ament et al. 2023).

    It is analytic if the loss is linear in one output or a distance from a target. Otherwise it is
    estimated by quasi-Monte Carlo (Astudillo & Frazier 2019). Constraints multiply it by the
    probability of feasibility. With noise, the best loss is that of the samples at the anchors
    (Letham et al. 2019). Without a feasible observation, the violation is improved instead.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Map from modelled outputs to losses.
        data: Observed and pending points.
        seed: Seed of the quasi-random numbers.
        samples: Number of samples.
    """
    # Marginal gain of x in a batch with anchors P: E max(0, min(best, y(P)) - y(x)).
    like = surrogate.offset
    anchors = torch.as_tensor(data.pending, dtype=like.dtype, device=like.device)
    if data.noisy:
        anchors = torch.cat([_promising_inputs(surrogate, outputs, data), anchors])
    p, k = len(anchors), len(surrogate.gp.log_lengthscales)
    loss = analytic_loss(surrogate, outputs)
    # A saddle point for every fantasy costs more than samples.
    costly = loss is not None and loss.costly and p > 0
    if costly or not data.feasible.any():
        loss = None
    if loss is not None and not p:
        return _analytic_score(loss, surrogate, outputs, data, surrogate.gp, None)
    # One Sobol point holds the normals of a fantasy at all anchors and those of its outcome.
    normals = sobol_normals(samples, k * (p + 1), seed, like).reshape(samples, p + 1, k)
    gp, outcomes = surrogate.gp, None
    if p:
        gp, outcomes = gp.fantasize(anchors, normals[:, :p].transpose(1, 2))
    if loss is not None:
        return _analytic_score(loss, surrogate, outputs, data, gp, outcomes)
    return _monte_carlo_score(surrogate, outputs, data, gp, outcomes, normals[:, p])


def posterior_mean_score(surrogate: Surrogate, outputs: ModelledOutputs) -> Score:
    """Build the negative loss of the posterior mean, minus a penalty for predicted violations.

    Losses are scaled by the gap between the median and the best one, violations by the standard
    deviation of their output.
    """

    def score(inputs: Tensor) -> Tensor:
        modelled = surrogate.mean(inputs)
        return -(
            outputs.loss(modelled) / outputs.loss_gap + 10.0 * outputs.violation(modelled) ** 2
        )

    return score


def log_feasibility(surrogate: Surrogate, level: float = 0.5, weight: float = 1.0) -> Score:
    """Build weight * log P(label > level) under a surrogate of labels 1 (outputs) and 0 (failure).

    The standard deviation is increased by 0.02, so that no region is excluded for ever.
    """
    slope, offset = float(surrogate.weights[0, 0]), float(surrogate.offset[0])
    return moment_score(surrogate.gp, _LabelHead(slope, offset - level, weight))


@dataclass(frozen=True)
class _LabelHead(Head):
    """weight * log Phi((slope * mean + excess) / (|slope| * std + 0.02)) of one output."""

    slope: float
    excess: float
    weight: float

    def __call__(self, mean: A, variance: A) -> Slopes[A]:
        std = variance**0.5  # (b, 1)
        spread = abs(self.slope) * std + 0.02
        t = (self.slope * mean[..., 0] + self.excess) / spread
        log, by_t = log_ndtr_slope(t)
        pull = self.weight * by_t / spread
        by_std = -pull * t * abs(self.slope)
        return Slopes(self.weight * log[:, 0], (self.slope * pull)[..., None], 0.5 * by_std / std)


def _eligible_inputs(surrogate: Surrogate, data: AcquisitionData) -> Tensor:
    """Return the observed inputs that can be the incumbent; all if there is none."""
    inputs = surrogate.gp.inputs
    if data.inside is None or not data.inside.any():
        return inputs
    return inputs[torch.as_tensor(data.inside, device=inputs.device)]


def _promising_inputs(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData
) -> Tensor:
    """Return the observed inputs with the highest posterior mean scores."""
    inputs = _eligible_inputs(surrogate, data)
    score = posterior_mean_score(surrogate, outputs)(inputs)
    return inputs[score.argsort(descending=True, stable=True)[:_MAX_ANCHORS]]


@dataclass(frozen=True)
class _AnalyticHead(Head):
    """log EI + sum log P(constraint), averaged over fantasies.

    Args:
        loss: Loss with an analytic expected improvement.
        bounds: Constraints as (score, sense, bound).
        best: Lowest loss of each fantasy, broadcast to ``(F,)``.
        misfit: Constant that is added to the variances, shape ``(k,)``.
    """

    loss: AnalyticLoss
    bounds: list[tuple[int, float, float]]
    best: Array
    misfit: Array

    def __call__(self, mean: A, variance: A) -> Slopes[A]:
        xp, best = array_module(mean), matching(self.best, mean)
        std: A = (variance + matching(self.misfit, mean)) ** 0.5
        # Loss and constraints read different outputs, which are independent.
        log, by_mean, by_std = self.loss.log_ei(mean, std[..., None], best)
        for i, sense, bound in self.bounds:
            own = std[:, i, None]
            t = sense * (bound - mean[:, i]) / own
            term, slope = log_ndtr_slope(t)
            log = log + term
            by_mean[:, i] -= sense * slope / own
            by_std[:, i] -= t * slope / own
        if log.shape[1] == 1:
            return Slopes(log[:, 0], by_mean, 0.5 * by_std[..., 0] / std)
        # log mean exp; the shares of the fantasies are its derivatives
        most = xp.amax(log, 1)[:, None]
        shares = xp.exp(log - most)
        total = shares.sum(1)[:, None]
        value: A = (most + xp.log(total / log.shape[1]))[:, 0]
        shares = (shares / total)[:, None]
        return Slopes(value, by_mean * shares, 0.5 * (by_std * shares).sum(-1) / std)


def _analytic_score(
    loss: AnalyticLoss,
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    gp: GPPosterior,
    outcomes: Tensor | None,
) -> Score:
    """Build log EI + sum log P(constraint), averaged over fantasies.

    Args:
        loss: Loss with an analytic expected improvement.
        surrogate: Surrogate of the modelled outputs.
        outputs: Modelled outputs with the constraints.
        data: Observed and pending points, with a feasible observation.
        gp: Posterior with F fantasies.
        outcomes: Scores of the fantasies at the anchors, shape ``(F, k, p)``; None without anchors.
    """
    bounds = surrogate.standardized_bounds(outputs)
    observed = loss.loss(surrogate.gp.values[..., 0].mT)
    feasible = torch.tensor(data.feasible, device=observed.device)
    best = observed.new_tensor(torch.inf) if data.noisy else observed[feasible].min()
    # An anchor improves the best loss of a fantasy only if it is feasible there.
    if outcomes is not None:
        losses = loss.loss(outcomes.mT)
        for i, sense, bound in bounds:
            losses = torch.where(sense * (outcomes[:, i] - bound) <= 0, losses, torch.inf)
        best = torch.minimum(best, losses.amin(-1))  # (F,)
    # A noisy problem may have no feasible anchor in a fantasy.
    best = best.clamp(max=observed.max())
    misfit, varying = added_variance(surrogate, data)
    limits = [(i, sense, float(bound)) for i, sense, bound in bounds]
    return moment_score(gp, _AnalyticHead(loss, limits, as_array(best), as_array(misfit)), varying)


def _monte_carlo_score(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    gp: GPPosterior,
    outcomes: Tensor | None,
    normals: Tensor,
) -> Score:
    """Build log EI of any loss by quasi-Monte Carlo, with one fantasy per sample.

    log mean_s softplus(best_s - loss_s) + sum log sigmoid(-excess_s / width), smoothed as in Ament
    et al. (2023).

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Map from modelled outputs to losses.
        data: Observed and pending points.
        gp: Posterior with one fantasy per sample; without fantasies if there are no anchors.
        outcomes: Scores of the fantasies at the anchors, shape ``(S, k, p)``; None without anchors.
        normals: Standard normal numbers of the samples, shape ``(S, k)``.
    """
    losses, feasible = data.losses, data.feasible
    some_feasible = bool(feasible.any())
    constrained = some_feasible and bool(outputs.statement.constraints)
    # The smoothing is absolute, so losses are scaled by the mean step between the five best.
    best_five = sorted(losses[feasible])[:5] if some_feasible else [0.0]
    # Equal losses would give the unit 0; the floor is relative to their spread and magnitude.
    floor = 1e-10 * float(losses.std()) + 1e-14 * abs(float(losses.min())) or 1.0
    unit = max(float(sum(best_five) / len(best_five) - best_five[0]), floor)
    loss = surrogate.loss_function(outputs)

    def gain(scores: Tensor) -> Tensor:
        if some_feasible:
            return (float(best_five[0]) - loss(scores)) / unit
        return -outputs.violation(surrogate.values(scores))

    best = normals.new_full((len(normals),), -torch.inf if data.noisy else 0.0)
    if not (data.noisy or some_feasible):
        best = gain(surrogate.gp(_eligible_inputs(surrogate, data))[0]).max().expand(len(normals))
    if outcomes is not None:
        at_anchors = outcomes.transpose(1, 2)  # (S, p, k)
        gains = gain(at_anchors)
        if constrained:
            violation = outputs.violation(surrogate.values(at_anchors))
            gains = torch.where(violation <= 0.0, gains, -torch.inf)
        best = torch.maximum(best, gains.amax(-1))
    best = best.clamp(min=-1e6)  # finite gains, also if no anchor is feasible
    misfit, varying = added_variance(surrogate, data)

    def score(mean: Tensor, variance: Tensor) -> Tensor:
        std = (variance + misfit).sqrt()
        scores = mean.permute(2, 0, 1) + std * normals[:, None, :]  # (S, b, k)
        log = log_fat_softplus(gain(scores) - best[:, None])
        if constrained:
            for excess in outputs.constraint_excesses(surrogate.values(scores)):
                log = log + torch.nn.functional.logsigmoid(-excess / _CONSTRAINT_WIDTH)
        return log_mean_exp(log)

    return moment_score(gp, AutogradHead(score), varying)
