"""Fitted model of all outputs of a log, with calibrated predictions of outputs and loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.base import Z_90, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.prediction.calibration import Calibration
from bo_invert.models.prediction.components import Component, GPComponent
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.types import Array, Mask

_NODES = 64
"""Number of quantiles that represent a distribution of a warped output. Engineering choice."""
_SAMPLES = 512
"""Number of samples of a loss. Engineering choice: a standard error of 4 % of the deviation."""
_MAX_SAMPLED = 2_000_000
"""Largest number of sampled outputs in memory, 16 MB. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Distributions of c quantities at b points.

    Args:
        mean: Means, shape ``(b, c)``.
        std: Standard deviations, shape ``(b, c)``.
        quantiles: 5 %, 50 % and 95 % quantiles, shape ``(3, b, c)``.
    """

    mean: Array
    std: Array
    quantiles: Array


@dataclass(frozen=True, eq=False)
class PointPredictions:
    """Predictions at b points.

    Args:
        outputs: Distributions of the m outputs.
        loss: Distribution of the loss, one column.
        feasible: Probability that the oracle returns outputs and all constraints hold, ``(b,)``.
        hit: Probability that all outputs of a target lie within its tolerance, shape ``(b,)``; None
            without a tolerance.
    """

    outputs: Moments
    loss: Moments
    feasible: Array
    hit: Array | None


@dataclass(frozen=True, eq=False)
class Block:
    """Component with the outputs it models and the calibration of its intervals.

    Args:
        component: Model of c values.
        columns: Output of each value; -1 for the loss.
        calibration: Factors of its standard deviations.
        explained: Share of the variance that left-out forecasts explain.
    """

    component: Component
    columns: list[int]
    calibration: Calibration
    explained: float

    def distribution(self, points: Array, noise: bool) -> tuple[Tensor, Tensor]:
        """Return medians and calibrated deviations on the warped scale, ``(b, c)`` each."""
        centre, std = self.component.moments(points, noise)
        return centre, std * self.calibration.factor(std)

    def joint_samples(self, points: Array, count: int) -> Tensor:
        """Return joint samples ``(S, b, c)`` of expected values, with calibrated deviations."""
        centre, std = self.component.moments(points, noise=False)
        sampled = self.component.joint_samples(points, count)
        return self.component.unwarped(centre + self.calibration.factor(std) * (sampled - centre))

    def moments(self, points: Array, noise: bool) -> Moments:
        """Return the distributions of the values in their units."""
        centre, std = self.distribution(points, noise)
        # A monotone warp maps quantiles to quantiles.
        ends = torch.stack([centre - Z_90 * std, centre, centre + Z_90 * std])
        quantiles = self.component.unwarped(ends).numpy()
        if self.component.warp is None:
            return Moments(centre.numpy(), std.numpy(), quantiles)
        values = self.component.unwarped(centre + normal_nodes(centre)[:, None, None] * std)
        return Moments(values.mean(0).numpy(), values.std(0, False).numpy(), quantiles)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Fitted models of all outputs of a log. Its methods do not change it.

    Args:
        statement: Problem statement.
        modelled: Outputs of the first block.
        blocks: Models; the first holds the outputs that objective and constraints read.
        log_feasible: Log probability of outputs at unit inputs; None without failures.
        observations: Number of observations.
        clipped: Number of observed outputs that are outliers, which the models clip.
    """

    statement: ProblemStatement
    modelled: ModelledOutputs
    blocks: list[Block]
    log_feasible: Score | None
    observations: int
    clipped: int = 0

    @property
    def about(self) -> str:
        """Description of the models."""
        kinds = dict.fromkeys(block.component.about for block in self.blocks)
        outliers = f", {self.clipped} outlying values clipped" if self.clipped else ""
        return f"{'; '.join(kinds)}, {self.observations} observations{outliers}"

    @one_thread()
    @torch.no_grad()
    def predict(self, points: Array, noise: bool = True) -> PointPredictions:
        """Predict outputs and loss at points ``(b, d)``.

        Args:
            points: Points of the domain.
            noise: Predict outcomes with the noise of the oracle, instead of expected outputs.
        """
        b, m = len(points), len(self.statement.outputs)
        outputs = Moments(np.empty((b, m)), np.empty((b, m)), np.empty((3, b, m)))
        for block in self.blocks:
            found = block.moments(points, noise)
            known = [i for i, column in enumerate(block.columns) if column >= 0]
            at = [block.columns[i] for i in known]
            outputs.mean[:, at] = found.mean[:, known]
            outputs.std[:, at] = found.std[:, known]
            outputs.quantiles[..., at] = found.quantiles[..., known]
        loss, hit = self._loss(points, noise)
        return PointPredictions(outputs, loss, self.feasibility(points), hit)

    @torch.no_grad()
    def feasibility(self, points: Array) -> Array:
        """Return the probability of outputs that satisfy all constraints, shape ``(b,)``."""
        log = torch.zeros(len(points), dtype=torch.float64)
        if self.log_feasible is not None:
            log = log + self.log_feasible(torch.as_tensor(to_unit(self.statement.domain, points)))
        block = self.blocks[0]
        if self.statement.constraints:
            centre, std = block.distribution(points, True)
            # The distribution is normal on the warped scale, so the bounds are warped, too.
            for column, sense, row in self.modelled.constraint_bounds(centre):
                gap = block.component.warped(row)[column] - centre[:, column]
                log = log + torch.special.log_ndtr(sense * gap / std[:, column])
        return log.exp().numpy()

    @torch.no_grad()
    def joint_losses(self, points: Array, count: int) -> tuple[Array, Mask]:
        """Sample the losses of points jointly, and whether they are feasible, ``(S, b)`` each.

        Args:
            points: Points of the domain, shape ``(b, d)``.
            count: Number of samples S.
        """
        values = self.blocks[0].joint_samples(points, count)
        losses = self.modelled.loss(values).nan_to_num(torch.inf)
        return losses.numpy(), self._allowed(points, values, losses < torch.inf).numpy()

    @torch.no_grad()
    def joint_criteria(self, points: Array, count: int) -> tuple[Array, Mask]:
        """Sample the criteria of ``Pareto`` jointly, ``(S, b, q)``, and feasibility ``(S, b)``.

        Arguments are those of ``joint_losses``.
        """
        values = self.blocks[0].joint_samples(points, count)
        losses = self.modelled.criteria(values).nan_to_num(torch.inf)
        finite = (losses < torch.inf).all(-1)
        return losses.numpy(), self._allowed(points, values, finite).numpy()

    @one_thread()
    @torch.no_grad()
    def low_criteria(self, points: Array, level: float) -> tuple[Array, Array]:
        """Return quantiles of the criteria of ``Pareto``, and the probability of feasibility.

        Args:
            points: Points of the domain, shape ``(b, d)``.
            level: Level of the quantiles.

        Returns:
            Quantiles of the losses, shape ``(b, q)``, and probabilities, shape ``(b,)``.
        """
        parts = [
            self.modelled.criteria(values).nan_to_num(torch.inf).quantile(level, dim=0)
            for values in self._samples(points, noise=False)
        ]
        return torch.cat(parts).numpy(), self.feasibility(points)

    def _allowed(self, points: Array, values: Tensor, finite: Tensor) -> Tensor:
        """Return the mask ``(S, b)`` of samples ``(S, b, c)`` that are feasible."""
        excesses = self.modelled.constraint_excesses(values)
        allowed = torch.stack([excess <= 0.0 for excess in excesses]).all(0) if excesses else finite
        if self.log_feasible is not None:
            probability = self.log_feasible(
                torch.as_tensor(to_unit(self.statement.domain, points))
            ).exp()
            uniform = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(0))
            allowed = allowed & (uniform < probability)
        return allowed

    @property
    def explained(self) -> float:
        """Share of the variance that left-out forecasts of the first block explain."""
        return self.blocks[0].explained

    def _loss(self, points: Array, noise: bool) -> tuple[Moments, Array | None]:
        """Return the distribution of the loss and the probability of hitting a target."""
        block, target = self.blocks[0], self.statement.objective
        hit = target if isinstance(target, Target) and target.satisfiable else None
        if not self.modelled.composite:  # the loss is plus or minus one modelled value
            found = block.moments(points, noise)
            modelled = (torch.as_tensor(found.mean), torch.as_tensor(found.quantiles))
            mean, quantiles = (self.modelled.loss(values)[..., None] for values in modelled)
            column = self.modelled.loss_position
            std = found.std[:, column, None]
            return Moments(mean.numpy(), std, quantiles.sort(0).values.numpy()), None
        parts, hits = [], []
        levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
        for values in self._samples(points, noise):
            sampled = self.modelled.loss(values).nan_to_num(torch.inf)  # (S, b)
            quantiles = sampled.quantile(levels, dim=0)
            parts.append((sampled.mean(0), sampled.std(0, False), quantiles))
            if hit is not None:
                hits.append(hit.within(self.modelled.raw(values)).double().mean(0))
        every = [torch.cat(part, -1)[..., None].numpy() for part in zip(*parts, strict=True)]
        return Moments(*every), torch.cat(hits).numpy() if hits else None

    def _samples(self, points: Array, noise: bool) -> Iterator[Tensor]:
        """Yield samples ``(S, b', c)`` of the modelled outputs, for parts of the points."""
        block = self.blocks[0]
        step = max(1, _MAX_SAMPLED // (_SAMPLES * len(block.columns)))
        for start in range(0, len(points), step):
            yield _samples(block, points[start : start + step], noise)


def _samples(block: Block, points: Array, noise: bool) -> Tensor:
    """Return samples ``(S, b, c)`` of the values of a block."""
    component = block.component
    if isinstance(component, GPComponent) and component.projected:
        # Outputs share their components, so the scores are sampled. One factor serves for all.
        mean, variance = component.scores(points, noise)
        _, std = component.moments(points, noise)
        factor = block.calibration.factor(std).median(1).values[:, None]
        normals = sobol_normals(_SAMPLES, mean.shape[1], 0, mean)
        return component.surrogate.values(mean + factor * variance.sqrt() * normals[:, None])
    centre, std = block.distribution(points, noise)
    normals = sobol_normals(_SAMPLES, centre.shape[1], 0, centre)[:, None]
    return component.unwarped(centre + normals * std)


def normal_nodes(like: Tensor) -> Tensor:
    """Return evenly probable quantiles of a standard normal, with variance 1, shape ``(q,)``."""
    levels = (torch.arange(_NODES).to(like) + 0.5) / _NODES
    nodes: Tensor = torch.special.ndtri(levels)
    return nodes / nodes.square().mean().sqrt()
