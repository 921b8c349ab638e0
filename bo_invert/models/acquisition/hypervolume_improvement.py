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
from bo_invert.models.acquisition.constant_faces import constant_faces
from bo_invert.models.acquisition.face_moments import FaceMoments
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
_SEARCH_MARGIN = 0.5
"""Distance of an inferred reference point from the worst loss of the front, as a share of its
range. Engineering choice: the ends of a front that is not complete lie beyond those observed."""
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
    coordinates = _Coordinates.of(surrogate, outputs)
    front = _ObservedFront.of(coordinates, data)
    linear = coordinates.linear(front)
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
        criteria = front.scaled(coordinates(values))
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
                front.scaled_tensor(coordinates(values)), outputs.constraint_excesses(values)
            )

        head: AutogradHead | AnalyticHypervolumeHead = AutogradHead(score)
    else:
        bounds = [(i, sense, float(b)) for i, sense, b in surrogate.standardized_bounds(outputs)]
        head = AnalyticHypervolumeHead(linear, boxes, bounds, as_array(misfit))
    if not on_host(gp.inputs):
        return moment_score(gp, head, varying)
    moments = gp.array_moments
    if front.known is not None:
        moments = KnownMoments.replacing(moments, front.known)
    elif coordinates.columns is not None and not data.noisy:
        observed = as_array(surrogate.gp.inputs), as_array(surrogate.gp.values[..., 0].mT)
        moments = FaceMoments.of(moments, constant_faces(*observed, coordinates.columns))
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
    def of(coordinates: _Coordinates, data: AcquisitionData) -> _ObservedFront:
        """Return the front of observed values, or of posterior means for a noisy oracle."""
        surrogate, outputs = coordinates.surrogate, coordinates.outputs
        objective = outputs.statement.objective
        assert isinstance(objective, Pareto)
        known = _known(surrogate, outputs)
        values = torch.as_tensor(outputs.values).to(surrogate.offset)
        feasible = data.feasible
        if data.noisy:
            values = surrogate.mean(surrogate.gp.inputs)
            expected = np.asarray(as_array(outputs.violation(values)) <= 0.0)
            expected &= True if data.inside is None else data.inside
            feasible = expected if expected.any() else feasible
        raw, losses = as_array(outputs.criteria(values)), as_array(coordinates(values))
        usable = raw[feasible]
        mask = non_dominated(usable)
        reference = reference_point(
            usable[mask], usable, objective.reference_losses, _SEARCH_MARGIN
        )
        reference = coordinates.of_losses(reference)
        front = losses[feasible][mask]
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


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """Coordinates of the criteria, in which a hypervolume is measured: increasing in the losses.

    Criteria that are plus or minus one score each are warped as their outputs are. A warp is linear
    near the best values, so it preserves fronts, and volumes but for their far ends.

    Args:
        outputs: Modelled outputs.
        surrogate: Surrogate with the warp.
        columns: Modelled outputs of the criteria; None if a criterion is another function.
    """

    outputs: ModelledOutputs
    surrogate: Surrogate
    columns: list[int] | None

    @staticmethod
    def of(surrogate: Surrogate, outputs: ModelledOutputs) -> _Coordinates:
        """Return the coordinates of a surrogate."""
        projected = surrogate.weights.shape[0] < surrogate.weights.shape[1]
        columns = None if projected else outputs.criteria_columns
        return _Coordinates(outputs, surrogate, columns)

    def __call__(self, values: Tensor) -> Tensor:
        """Return coordinates ``(..., q)`` of modelled outputs ``(..., c)``."""
        if self.columns is None:
            return self.outputs.criteria(values)
        warp = self.surrogate.warp
        warped = values if warp is None else warp(values)
        return warped[..., self.columns] * values.new_tensor(self._signs)

    def of_losses(self, losses: Array) -> Array:
        """Return coordinates ``(q,)`` of losses ``(q,)``."""
        if self.columns is None or self.surrogate.warp is None:
            return losses
        row = self.surrogate.offset.new_zeros(self.surrogate.weights.shape[1])
        row[self.columns] = row.new_tensor(losses * self._signs)
        return as_array(self(row))

    def linear(self, front: _ObservedFront) -> LinearCriteria | None:
        """Return the scaled coordinates as functions of the scores; None if they are not linear."""
        if self.columns is None:
            return None
        slopes = self._signs * as_array(self.surrogate.weights.diagonal())[self.columns]
        shift = self._signs * as_array(self.surrogate.offset)[self.columns]
        return LinearCriteria(
            np.array(self.columns), slopes / front.unit, (shift - front.lowest) / front.unit
        )

    @property
    def _signs(self) -> Array:
        objective = self.outputs.statement.objective
        assert isinstance(objective, Pareto)
        return objective.signs
