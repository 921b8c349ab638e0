"""Log expected improvement: scores ``(b,)`` of unit inputs ``(b, d)``, to be maximised.

Losses are minimised; the sign flips here. Pending points are *anchors*: each sample of their
outcomes conditions the surrogate (a fantasy), and the improvement is averaged over the samples.
This is the marginal gain of one more point in a batch. With noise, observed points are anchors too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import (
    log_fat_softplus,
    log_h,
    log_mean_exp,
    sobol_normals,
)
from bo_invert.models.acquisition.target_ei import log_squared_distance_ei, log_target_ei
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives import Target
from bo_invert.types import Array, Mask

Score = Callable[[Tensor], Tensor]

_MISFIT_RADIUS = 0.1
"""Correlation length of the model misfit in lengthscales. Engineering choice."""
_MAX_ANCHORS = 24
"""Largest number of observed anchors of a noisy oracle. Engineering choice: cost O(p^3)."""
_MIN_DISTANCE = 1e-10
"""Lower bound on the target distance in standard deviations of the outputs. Engineering choice:
avoids log 0."""
_CONSTRAINT_WIDTH = 1e-5
"""Width of a smoothed constraint in standard deviations of the output. Engineering choice: a wider
one rewards slightly infeasible points."""


@dataclass(frozen=True)
class AcquisitionData:
    """Data of an acquisition function.

    Args:
        losses: Observed losses, shape ``(n,)``.
        feasible: Mask of the observations that satisfy the constraints, shape ``(n,)``.
        pending: Pending unit inputs, shape ``(p, d)``.
        noisy: The oracle is noisy.
        use_misfit: The model misfit variance counts as a source of improvement.
    """

    losses: Array
    feasible: Mask
    pending: Array
    noisy: bool = False
    use_misfit: bool = False


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
        anchors = torch.cat([_promising_inputs(surrogate, outputs), anchors])
    p, k = len(anchors), len(surrogate.gp.log_lengthscales)
    normals = sobol_normals(samples, k * (p + 1), seed, like).reshape(samples, p + 1, k)
    # One Sobol point holds the normals of a fantasy at all anchors and those of its outcome.
    gp, outcomes = surrogate.gp, like.new_zeros(samples, k, 0)
    if p:
        gp, outcomes = gp.fantasize(anchors, normals[:, :p].transpose(1, 2))
    loss = _analytic_loss(surrogate, outputs)
    # A saddle point for every fantasy costs more than samples.
    costly = isinstance(loss, _TargetDistance) and len(loss.columns) > 1 and p > 0
    if loss is None or costly or not data.feasible.any():
        return _monte_carlo_score(surrogate, outputs, data, gp, outcomes, normals[:, p])
    return _analytic_score(loss, surrogate, outputs, data, gp, outcomes)


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


def log_feasibility(surrogate: Surrogate, level: float = 0.5) -> Score:
    """Build log P(label > level) under a surrogate of labels 1 (outputs) and 0 (failure).

    The standard deviation is increased by 0.02, so that no region is excluded for ever.
    """

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.gp(inputs)
        std = variance[..., 0].sqrt() * surrogate.weights.abs().sum()
        excess = surrogate.values(mean)[..., 0] - level
        log: Tensor = torch.special.log_ndtr(excess / (std + 0.02))
        return log

    return score


def _promising_inputs(surrogate: Surrogate, outputs: ModelledOutputs) -> Tensor:
    """Return the observed inputs with the highest posterior mean scores."""
    score = posterior_mean_score(surrogate, outputs)(surrogate.gp.inputs)
    return surrogate.gp.inputs[score.argsort(descending=True, stable=True)[:_MAX_ANCHORS]]


def _misfit_variance(surrogate: Surrogate, data: AcquisitionData) -> Score:
    """Build the variance ``(b, k)`` of structure that is too fine for the model of an exact oracle.

    An outcome contains it, so it offers improvement. Neighbours share it, so near a pending point
    at scaled distance r it is reduced by the factor 1 - exp(-r^2 / (2 radius^2)).
    """
    misfit = surrogate.misfit_variance * (data.use_misfit and not data.noisy)
    if not len(data.pending) or not bool(misfit.any()):
        return lambda inputs: misfit
    gp = surrogate.gp
    lengthscales = gp.kernel.column_log_lengthscales(gp.log_lengthscales).exp().unsqueeze(1)
    # Scaled by its lengthscales, each output has an isotropic neighbourhood.
    pending = torch.as_tensor(data.pending).to(misfit) / lengthscales  # (k, p, d)

    def variance(inputs: Tensor) -> Tensor:
        offsets = (inputs / lengthscales).unsqueeze(-2) - pending.unsqueeze(-3)
        squared = offsets.square().sum(-1).amin(-1)  # (k, b)
        return misfit * (1.0 - torch.exp(-0.5 * squared.mT / _MISFIT_RADIUS**2))

    return variance


@dataclass(frozen=True)
class _LinearLoss:
    """Loss that is plus or minus one modelled output."""

    column: int
    sign: float

    def loss(self, scores: Tensor) -> Tensor:
        """Return losses ``(...)`` of scores ``(..., k)``."""
        return self.sign * scores[..., self.column]

    def log_ei(self, mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
        """Return log EI ``(b, F)`` for means ``(b, F, k)`` and standard deviations ``(b, 1, k)``.

        log EI = log std + log h((best - mean) / std) with h of ``log_ei.log_h``.
        """
        own = std[..., self.column]
        return own.log() + log_h((best - self.loss(mean)) / own)


@dataclass(frozen=True)
class _TargetDistance:
    """Distance from a target: |a s + b| of one output, |A s + b|^2 of several, with A diagonal.

    Args:
        columns: Modelled outputs of the target, t of them.
        slopes: Diagonal of A, shape ``(t,)``.
        rest: b, shape ``(t,)``.
    """

    columns: list[int]
    slopes: Tensor
    rest: Tensor

    def loss(self, scores: Tensor) -> Tensor:
        """Return distances ``(...)`` of scores ``(..., k)``."""
        off = scores[..., self.columns] * self.slopes + self.rest
        return off[..., 0].abs() if len(self.columns) == 1 else off.square().sum(-1)

    def log_ei(self, mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
        """Return log EI ``(b, F)``; arguments as of ``_LinearLoss.log_ei``."""
        off = mean[..., self.columns] * self.slopes + self.rest
        own = std[..., self.columns] * self.slopes
        if len(self.columns) == 1:
            return own[..., 0].log() + log_target_ei(
                off[..., 0] / own[..., 0], best.clamp(min=_MIN_DISTANCE) / own[..., 0]
            )
        return log_squared_distance_ei(off, own.square(), best.clamp(min=_MIN_DISTANCE**2))


def _analytic_loss(
    surrogate: Surrogate, outputs: ModelledOutputs
) -> _LinearLoss | _TargetDistance | None:
    """Return the loss in a form with an analytic expected improvement; None without one."""
    if outputs.loss_column is not None:
        return _LinearLoss(*outputs.loss_column)
    target, like = outputs.statement.objective, surrogate.offset
    constrained = {constraint.index for constraint in outputs.statement.constraints}
    # Outputs of a target must be modelled one by one: no warp and no principal components.
    projected = surrogate.weights.shape[0] < surrogate.weights.shape[1]
    if not isinstance(target, Target) or constrained & set(target.indices):
        return None
    if outputs.models_loss or projected or surrogate.warp is not None:
        return None
    columns = [outputs.column(index) for index in target.indices]
    # y_j = w_j s_j + offset_j, so (y_j - t_j) / scale_j is linear in the score s_j. The common unit
    # keeps distances near 1 and changes EI by a constant factor.
    scales = like.new_tensor(target.scale)
    slopes = surrogate.weights.diagonal()[columns] / scales
    rest = (like[columns] - like.new_tensor(target.value)) / scales
    unit = slopes.square().mean().sqrt()
    return _TargetDistance(columns, slopes / unit, rest / unit)


def _analytic_score(
    loss: _LinearLoss | _TargetDistance,
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    gp: GPPosterior,
    outcomes: Tensor,
) -> Score:
    """Build log EI + sum log P(constraint), averaged over fantasies.

    Args:
        loss: Loss with an analytic expected improvement.
        surrogate: Surrogate of the modelled outputs.
        outputs: Modelled outputs with the constraints.
        data: Observed and pending points, with a feasible observation.
        gp: Posterior with F fantasies.
        outcomes: Scores of the fantasies at the anchors, shape ``(F, k, p)``.
    """
    bounds = surrogate.standardized_bounds(outputs)
    observed = loss.loss(surrogate.gp.values[..., 0].mT)
    feasible = torch.tensor(data.feasible, device=observed.device)
    best = observed.new_tensor(torch.inf) if data.noisy else observed[feasible].min()
    # An anchor improves the best loss of a fantasy only if it is feasible there.
    if outcomes.shape[-1]:
        losses = loss.loss(outcomes.mT)
        for i, sense, bound in bounds:
            losses = torch.where(sense * (outcomes[:, i] - bound) <= 0, losses, torch.inf)
        best = torch.minimum(best, losses.amin(-1))  # (F,)
    # A noisy problem may have no feasible anchor in a fantasy.
    best = best.clamp(max=observed.max())
    misfit_variance = _misfit_variance(surrogate, data)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = gp.fantasies(inputs)
        std = (variance + misfit_variance(inputs)).sqrt()
        # Loss and constraints read different outputs, which are independent.
        log = loss.log_ei(mean.mT, std.unsqueeze(-2), best)
        for i, sense, bound in bounds:
            log = log + torch.special.log_ndtr(sense * (bound - mean[:, i]) / std[:, i, None])
        return log_mean_exp(log, 1)

    return score


def _monte_carlo_score(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    gp: GPPosterior,
    outcomes: Tensor,
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
        outcomes: Scores of the fantasies at the anchors, shape ``(S, k, p)``.
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
        best = gain(surrogate.gp(surrogate.gp.inputs)[0]).max().expand(len(normals))
    if outcomes.shape[-1]:
        at_anchors = outcomes.transpose(1, 2)  # (S, p, k)
        gains = gain(at_anchors)
        if constrained:
            violation = outputs.violation(surrogate.values(at_anchors))
            gains = torch.where(violation <= 0.0, gains, -torch.inf)
        best = torch.maximum(best, gains.amax(-1))
    # A finite bound keeps gains finite if no anchor is feasible.
    best = best.clamp(min=-1e6)
    misfit_variance = _misfit_variance(surrogate, data)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = gp.fantasies(inputs)
        std = (variance + misfit_variance(inputs)).sqrt()
        scores = mean.permute(2, 0, 1) + std * normals[:, None, :]  # (S, b, k)
        log = log_fat_softplus(gain(scores) - best[:, None])
        if constrained:
            for excess in outputs.constraint_excesses(surrogate.values(scores)):
                log = log + torch.nn.functional.logsigmoid(-excess / _CONSTRAINT_WIDTH)
        return log_mean_exp(log)

    return score
