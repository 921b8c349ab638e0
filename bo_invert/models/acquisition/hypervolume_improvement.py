"""Log expected hypervolume improvement of ``Pareto`` objectives, with noise and pending points.

The analytic form needs criteria that are plus or minus one output each. Other criteria, such as
targets, are sampled (qLogNEHVI; Daulton et al. 2021, Ament et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.acquisition_data import AcquisitionData, added_variance
from bo_invert.models.acquisition.hypervolume_head import (
    AnalyticHypervolumeHead,
    Boxes,
    LinearCriteria,
    SampledHypervolume,
)
from bo_invert.models.acquisition.known_plausibility import (
    KnownMoments,
    KnownOutput,
    known_plausibility,
)
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.acquisition.moment_score import AutogradHead, MomentScore, moment_score
from bo_invert.models.array_module import as_array, on_host
from bo_invert.models.base import from_unit
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import dominance_order, non_dominated, reference_point
from bo_invert.types import Array

_FANTASIES = {2: 32, 3: 16}
"""Number of fantasies of the analytic form by the number of criteria. Engineering choice: a front
of three criteria takes some hundredths of a second to divide."""
_MOST_FANTASIES = 8
"""The same, samples for more than three criteria. Engineering choice."""
_SAMPLES = {2: 128, 3: 64}
"""Number of samples of the sampled form by the number of criteria. Engineering choice."""
_MOST_SAMPLES = 32
"""The same, samples for more than three criteria. Engineering choice."""
_MAX_ANCHORS = 24
"""Largest number of observed anchors of a noisy oracle. Engineering choice: cost O(p^3)."""


def log_hypervolume_improvement(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData, *, seed: int
) -> Score:
    """Build the log expected hypervolume improvement over the feasible front.

    Pending points are anchors: samples of their outcomes condition the surrogate and extend the
    front of each fantasy. With noise, the observed points that may lie on the front are anchors,
    too, and the front of a fantasy is that of its samples. Constraints multiply the improvement by
    the probability of feasibility.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Modelled outputs of a ``Pareto`` objective.
        data: Observed and pending points; at least one is feasible.
        seed: Seed of the quasi-random numbers.
    """
    objective = outputs.statement.objective
    assert isinstance(objective, Pareto)
    front = _ObservedFront.of(surrogate, outputs, data)
    linear = _linear_criteria(surrogate, outputs, front)
    like, gp = surrogate.offset, surrogate.gp
    anchors = torch.as_tensor(data.pending, dtype=like.dtype, device=like.device)
    if data.noisy:
        anchors = torch.cat([gp.inputs[front.promising], anchors])
    k, p, q = len(gp.log_lengthscales), len(anchors), len(front.reference)
    count = _SAMPLES.get(q, _MOST_SAMPLES) if linear is None else _FANTASIES.get(q, _MOST_FANTASIES)
    # One Sobol point holds the normals of a fantasy at all anchors and those of its outcome.
    normals = sobol_normals(count, k * (p + 1), seed, like).reshape(count, p + 1, k)
    fronts = [np.empty((0, q)) if data.noisy else front.losses]
    if p:
        gp, outcomes = gp.fantasize(anchors, normals[:, :p].transpose(1, 2))
        scores = front.with_known(outcomes.transpose(1, 2), anchors)  # (F, p, k)
        values = surrogate.values(scores)
        criteria = front.scaled(outputs.criteria(values))
        allowed = as_array(outputs.violation(values)) <= 0.0
        fronts = [
            np.concatenate([fronts[0], own[mask]])
            for own, mask in zip(criteria, allowed, strict=True)
        ]
    boxes = Boxes.of(fronts, np.ones(q))
    misfit, varying = added_variance(surrogate, data)
    if linear is None:
        sampled = SampledHypervolume(boxes)
        standard = normals[:, p]

        def score(mean: Tensor, variance: Tensor) -> Tensor:
            drawn = mean.permute(2, 0, 1) + (variance + misfit).sqrt() * standard[:, None]
            values = surrogate.values(drawn)  # (S, b, c)
            return sampled(
                front.scaled_tensor(outputs.criteria(values)), outputs.constraint_excesses(values)
            )

        head: AutogradHead | AnalyticHypervolumeHead = AutogradHead(score)
    else:
        bounds = [(i, sense, float(b)) for i, sense, b in surrogate.standardized_bounds(outputs)]
        head = AnalyticHypervolumeHead(linear, boxes, bounds, as_array(misfit))
    if front.known is None or not on_host(gp.inputs):
        return moment_score(gp, head, varying)
    moments = KnownMoments.replacing(gp.array_moments, front.known)
    return MomentScore(moments, head, None if varying is None else varying.on_host())


@dataclass(frozen=True, eq=False)
class _ObservedFront:
    """Front of the observations, in units in which the reference point is 1.

    Args:
        losses: Losses of the front, shape ``(n, q)``; 0 for the best one.
        lowest: Loss that is 0, shape ``(q,)``.
        unit: Difference of the reference point from it, shape ``(q,)``.
        reference: Reference point, shape ``(q,)``, in losses.
        promising: Positions of the observations that are anchors of a noisy oracle.
        known: Plausibility as a known output; None without it.
    """

    losses: Array
    lowest: Array
    unit: Array
    reference: Array
    promising: list[int]
    known: KnownOutput | None

    @staticmethod
    @torch.no_grad()
    def of(surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData) -> _ObservedFront:
        """Return the front of observed values, or of posterior means for a noisy oracle."""
        objective = outputs.statement.objective
        assert isinstance(objective, Pareto)
        known = _known(surrogate, outputs)
        values = torch.as_tensor(outputs.values).to(surrogate.offset)
        feasible = data.feasible
        if data.noisy:
            values = surrogate.mean(surrogate.gp.inputs)
            expected = np.asarray(as_array(outputs.violation(values)) <= 0.0)
            feasible = expected if expected.any() else feasible
        losses = as_array(outputs.criteria(values))
        usable = losses[feasible]
        front = usable[non_dominated(usable)]
        reference = reference_point(front, usable, objective.reference_losses)
        lowest = np.minimum(front.min(0), reference)
        # A reference point below all observations leaves their spread as the unit.
        spread = np.maximum(np.ptp(losses, axis=0), 1e-12 * np.abs(reference) + 1e-300)
        unit = np.where(reference > lowest, reference - lowest, spread)
        lowest = reference - unit
        ranks = dominance_order(np.where(feasible[:, None], losses, np.inf))
        ranks = np.where(feasible, ranks, len(ranks))
        promising = np.argsort(ranks, kind="stable")[:_MAX_ANCHORS].tolist()
        return _ObservedFront((front - lowest) / unit, lowest, unit, reference, promising, known)

    def scaled(self, losses: Tensor) -> Array:
        """Return losses ``(..., q)`` in the units of the front."""
        return np.asarray((as_array(losses) - self.lowest) / self.unit)

    def scaled_tensor(self, losses: Tensor) -> Tensor:
        """Return losses ``(..., q)`` in the units of the front."""
        return (losses - losses.new_tensor(self.lowest)) / losses.new_tensor(self.unit)

    def with_known(self, scores: Tensor, inputs: Tensor) -> Tensor:
        """Return scores ``(..., p, k)`` at inputs ``(p, d)`` with those of a known output."""
        if self.known is None:
            return scores
        scores = scores.clone()
        scores[..., self.known.column] = scores.new_tensor(self.known.scores(as_array(inputs)))
        return scores


def _known(surrogate: Surrogate, outputs: ModelledOutputs) -> KnownOutput | None:
    """Return the plausibility as a known output; None without it, or if observations differ."""
    objective, domain = outputs.statement.objective, outputs.statement.domain
    assert isinstance(objective, Pareto)
    projected = surrogate.weights.shape[0] < surrogate.weights.shape[1]
    if objective.plausibility is None or outputs.modelled_losses or projected:
        return None
    column = outputs.column(objective.plausibility.index)
    points = from_unit(domain, as_array(surrogate.gp.inputs))
    slope = known_plausibility(domain, points, outputs.values[:, column])
    scale, offset = surrogate.weights[column, column], surrogate.offset[column]
    return None if slope is None else KnownOutput(column, slope, float(scale), float(offset))


def _linear_criteria(
    surrogate: Surrogate, outputs: ModelledOutputs, front: _ObservedFront
) -> LinearCriteria | None:
    """Return criteria that are linear in different scores; None if they are not."""
    objective = outputs.statement.objective
    assert isinstance(objective, Pareto)
    projected = surrogate.weights.shape[0] < surrogate.weights.shape[1]
    if outputs.modelled_losses or projected or surrogate.warp is not None:
        return None
    indices = [getattr(one, "index", None) for one in objective.objectives]
    constrained = {constraint.index for constraint in outputs.statement.constraints}
    if None in indices or len(set(indices)) < len(indices) or constrained & set(indices):
        return None
    columns = [outputs.column(index) for index in indices if index is not None]
    weights = as_array(surrogate.weights.diagonal())[columns]
    slopes = objective.signs * weights / front.unit
    shift = objective.signs * as_array(surrogate.offset)[columns]
    return LinearCriteria(np.array(columns), slopes, (shift - front.lowest) / front.unit)
