"""What makes an input worth evaluating: functions from unit inputs ``(b, d)`` to scores ``(b,)``, higher is better.

Losses are lower-is-better everywhere else; the sign flips here. Points under evaluation are *anchors*: their possible
outcomes are drawn, each draw conditions the model (a fantasy), and the improvement is averaged over the draws. That
is the marginal gain of one more point in a batch. Told points of a noisy oracle are anchors too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.models.acquisition.log_ei import (
    log_fat_softplus,
    log_h,
    log_mean_exp,
    sobol_normals,
)
from bo_invert.models.acquisition.target_ei import log_squared_distance_ei, log_target_ei
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.types import Array

if TYPE_CHECKING:
    import numpy as np

    from bo_invert.models.gp.surrogate import Surrogate
    from bo_invert.models.output_transforms import ModelledOutputs

Score = Callable[[Tensor], Tensor]

_MISFIT_RADIUS = 0.1
"""Reach of structure too fine for a model, in its lengthscales."""
_MAX_ANCHORS = 24
"""So many of the most promising told points of a noisy oracle are anchors."""
_MIN_DISTANCE = 1e-10
"""Nobody needs to come nearer to a target, in standard deviations of the outputs."""
_CONSTRAINT_WIDTH = 1e-5
"""Width of a sampled constraint, in units of the output's spread: a wider one would reward queries just beyond it."""


@dataclass(frozen=True)
class AcquisitionData:
    """What the log says.

    Args:
        told: unit inputs evaluated, shape ``(n, d)``.
        losses: shape ``(n,)``.
        feasible: which satisfy the constraints, shape ``(n,)``.
        pending: unit inputs under evaluation, shape ``(p, d)``.
        noisy: whether the same input is answered differently each time.
        fine: whether structure too fine for the model is something to gain by.
    """

    observed: Array
    losses: Array
    feasible: NDArray[np.bool_]
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
    """Log expected improvement over the best feasible loss (Ament et al. 2023).

    In closed form where the loss is plus or minus one modelled number; with a structured objective by quasi-Monte
    Carlo through it (Astudillo & Frazier 2019). Constraints count by their probability. With noise, the best is what
    the model believes of the told points (Letham et al. 2019). Where nothing feasible is known yet, the improvement
    is that of the violated constraints.

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: how modelled numbers become losses.
        known: what the log says.
        seed: of the quasi-random numbers.
        samples: how many of them.
    """
    like = surrogate.offset
    anchors = torch.as_tensor(data.pending, dtype=like.dtype, device=like.device)
    if data.noisy:
        anchors = torch.cat([_promising_inputs(surrogate, outputs, data), anchors])
    p, k = len(anchors), len(surrogate.gp.log_lengthscales)
    drawn = sobol_normals(samples, k * (p + 1), seed, like).reshape(samples, p + 1, k)
    process, outcomes = surrogate.gp, like.new_zeros(samples, k, 0)
    if p:
        process, outcomes = process.fantasize(anchors, drawn[:, :p].transpose(1, 2))
    form = _analytic_loss(surrogate, outputs)
    if isinstance(form, _TargetDistance) and len(form.columns) > 1 and p:
        form = None  # a saddle point in every fantasy would cost more than samples do
    if form is not None and data.feasible.any():
        return _analytic_score(form, surrogate, outputs, data, process, outcomes)
    return _monte_carlo_score(surrogate, outputs, data, process, outcomes, drawn[:, p])


def posterior_mean_score(surrogate: Surrogate, outputs: ModelledOutputs) -> Score:
    """Minus the loss of the posterior mean, with a penalty for predicted violations: pure exploitation.

    Losses count in units of what lies between a usual one and the best, violations in those of their output's spread.
    """

    def score(inputs: Tensor) -> Tensor:
        modelled = surrogate.mean(inputs)
        return -(
            outputs.loss(modelled) / outputs.loss_gap + 10.0 * outputs.violation(modelled) ** 2
        )

    return score


def log_feasibility(surrogate: Surrogate) -> Score:
    """Log probability that an input can be evaluated at all, by a surrogate of labels 1 (it could) and 0.

    A little is added to the surrogate's standard deviation: a wrong belief must stay correctable.
    """

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.posterior(inputs)
        std = variance[..., 0].sqrt() * surrogate.weights.abs().sum()
        log: Tensor = torch.special.log_ndtr((surrogate.values(mean)[..., 0] - 0.5) / (std + 0.02))
        return log

    return score


def _promising_inputs(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData
) -> Tensor:
    """The told inputs that may be best, as the model smooths them."""
    told = surrogate.gp.inputs
    score = posterior_mean_score(surrogate, outputs)(told)
    return told[score.argsort(descending=True, stable=True)[:_MAX_ANCHORS]]


def _misfit_variance(surrogate: Surrogate, data: AcquisitionData) -> Score:
    """Variances ``(b, k)`` at inputs ``(b, d)`` of what the model takes for noise, though the oracle is exact.

    It is structure too fine for the model: an outcome holds it like any other, so there may be gain in it. Structure
    is the same for near neighbours, so there is none to gain beside a point under evaluation.
    """
    ripple = surrogate.misfit_variance * (data.use_misfit and not data.noisy)
    if not len(data.pending) or not bool(ripple.any()):
        return lambda inputs: ripple
    lengthscales = surrogate.gp.log_lengthscales.exp().unsqueeze(1)
    pending = torch.as_tensor(data.pending).to(ripple) / lengthscales  # (k, p, d)

    def score(inputs: Tensor) -> Tensor:
        offs = inputs / lengthscales
        squared = (offs.unsqueeze(-2) - pending.unsqueeze(-3)).square().sum(-1).amin(-1)  # (k, b)
        return ripple * (1.0 - torch.exp(-0.5 * squared.mT / _MISFIT_RADIUS**2))

    return score


@dataclass(frozen=True)
class _LinearLoss:
    """A loss that is plus or minus one modelled number."""

    column: int
    sign: float

    def loss(self, numbers: Tensor) -> Tensor:
        """Loss ``(...)`` of standardised numbers ``(..., k)``."""
        return self.sign * numbers[..., self.column]

    def log_ei(self, mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
        """Log expected improvement ``(b, F)`` over ``best``, for means ``(b, F, k)`` and deviations ``(b, 1, k)``."""
        own = std[..., self.column]
        return own.log() + log_h((best - self.loss(mean)) / own)


@dataclass(frozen=True)
class _TargetDistance:
    """The distance from a target: of one output as it is, of several squared.

    Args:
        columns: modelled numbers that the target reads, t of them.
        slopes: what a step of a standardised number makes in scaled distance, shape ``(t,)``.
        rest: scaled distance of standardised numbers 0, shape ``(t,)``.
    """

    columns: list[int]
    slopes: Tensor
    rest: Tensor

    def loss(self, numbers: Tensor) -> Tensor:
        off = numbers[..., self.columns] * self.slopes + self.rest
        return off[..., 0].abs() if len(self.columns) == 1 else off.square().sum(-1)

    def log_ei(self, mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
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
    """The loss in a form whose expected improvement is known; None where there is none."""
    if outputs.loss_column is not None:
        return _LinearLoss(*outputs.loss_column)
    if outputs.target_terms is None or surrogate.warp is not None:
        return None
    columns, value, scale = outputs.target_terms
    like = surrogate.offset
    scales = like.new_tensor(scale)
    slopes, rest = (
        surrogate.weights.diagonal()[columns] / scales,
        (like[columns] - like.new_tensor(value)) / scales,
    )
    unit = slopes.square().mean().sqrt()
    return _TargetDistance(columns, slopes / unit, rest / unit)


def _analytic_score(
    form: _LinearLoss | _TargetDistance,
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    process: GPPosterior,
    outcomes: Tensor,
) -> Score:
    """For a loss whose expected improvement is known, and constraints on other numbers.

    Args:
        form: of the loss.
        surrogate: fitted to what ``outputs`` models.
        outputs: where the constraints are.
        known: what the log says; something is feasible.
        process: conditioned on F fantasies; on none, F = 1.
        outcomes: the fantasies' standardised numbers at the anchors, shape ``(F, k, p)``.
    """
    limits = [
        (i, sense, surrogate.standardize(bound)[i])
        for i, sense, bound in outputs.constraint_bounds(surrogate.offset)
    ]
    told = form.loss(surrogate.gp.values[..., 0].mT)
    best = told.new_tensor(torch.inf)
    if not data.noisy:
        best = told[torch.tensor(data.feasible, device=told.device)].min()
    if outcomes.shape[-1]:
        losses = form.loss(outcomes.mT)
        for i, sense, bound in limits:
            losses = torch.where(sense * (outcomes[:, i] - bound) <= 0, losses, torch.inf)
        best = torch.minimum(best, losses.amin(-1))  # (F,)
    best = best.clamp(max=told.max())  # no anchor of a noisy problem was feasible in some fantasy
    ripple = _misfit_variance(surrogate, data)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = process.fantasies(inputs)
        std = (variance + ripple(inputs)).sqrt()
        log = form.log_ei(mean.mT, std.unsqueeze(-2), best)
        for i, sense, bound in limits:
            log = log + torch.special.log_ndtr(sense * (bound - mean[:, i]) / std[:, i, None])
        return log_mean_exp(log, 1)

    return score


def _monte_carlo_score(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    process: GPPosterior,
    outcomes: Tensor,
    drawn: Tensor,
) -> Score:
    """For any loss of the modelled numbers, by quasi-Monte Carlo: one fantasy to a sample.

    Args:
        process: conditioned on as many fantasies as samples; on none, without anchors.
        outcomes: the fantasies' standardised numbers at the anchors, shape ``(S, k, p)``.
        drawn: standard normal numbers of the samples, shape ``(S, k)``.
    """
    losses, feasible = data.losses, data.feasible
    some = bool(feasible.any())
    # The smoothing of the improvement is absolute, so losses are measured in steps between the best few.
    ladder = sorted(losses[feasible])[:5] if some else [0.0]
    floor = (
        1e-10 * float(losses.std()) + 1e-14 * abs(float(losses.min())) or 1.0
    )  # nobody needs to come nearer
    unit = max(float(sum(ladder) / len(ladder) - ladder[0]), floor) if some else 1.0
    zero = float(ladder[0])
    loss = surrogate.loss_function(outputs)

    def gain(numbers: Tensor) -> Tensor:
        return (
            (zero - loss(numbers)) / unit if some else -outputs.violation(surrogate.values(numbers))
        )

    if some and not data.noisy:
        best = drawn.new_zeros(len(drawn))
    elif data.noisy:
        best = drawn.new_full((len(drawn),), -torch.inf)
    else:
        best = gain(surrogate.gp(surrogate.gp.inputs)[0]).max().expand(len(drawn))
    if outcomes.shape[-1]:
        at_anchors = outcomes.transpose(1, 2)  # (S, p, k)
        gains = gain(at_anchors)
        if some and outputs.constraint_excesses:
            held = outputs.violation(surrogate.values(at_anchors)) <= 0.0
            gains = torch.where(held, gains, -torch.inf)
        best = torch.maximum(best, gains.amax(-1))
    best = best.clamp(min=-1e6)
    ripple = _misfit_variance(surrogate, data)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = process.fantasies(inputs)
        numbers = (
            mean.permute(2, 0, 1) + (variance + ripple(inputs)).sqrt() * drawn[:, None, :]
        )  # (S, b, k)
        log = log_fat_softplus(gain(numbers) - best[:, None])
        if some and outputs.constraint_excesses:
            modelled = surrogate.values(numbers)
            for excess in outputs.constraint_excesses:
                log = log + torch.nn.functional.logsigmoid(-excess(modelled) / _CONSTRAINT_WIDTH)
        return log_mean_exp(log)

    return score
