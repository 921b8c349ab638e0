"""Predictions of a study's models for its plots."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from scipy.special import ndtri

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.prediction.components import (
    Component,
    ForestComponent,
    GPComponent,
    MixtureComponent,
)
from bo_invert.models.prediction.predictor import Block, Predictor
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.charts.study_data import Ends
from bo_invert.report.objective_view import Goal
from bo_invert.types import Array

_FUNCTIONS = 48
"""Number of drawn functions. Engineering choice: 5 % quantiles have two of them beyond."""


class PlotModel:
    """Predictions of expected outputs and losses, and functions drawn from a posterior.

    Args:
        statement: Problem statement.
        predictor: Models behind ``study.predict``.
    """

    def __init__(self, statement: ProblemStatement, predictor: Predictor) -> None:
        self.statement, self.predictor = statement, predictor
        self._goal = Goal(statement.objective.to_json(), statement.outputs)

    def interval(self, points: Array, output: str | None) -> Ends:
        """Return intervals of an expected output, or of the value of the goal for None."""
        found = self.predictor.predict(np.asarray(points), noise=False)
        if output is not None:
            return Ends(*found.outputs.quantiles[..., self.statement.outputs.index(output)])
        ends = self._values(found.loss.quantiles[..., 0])
        return Ends(np.minimum(ends[0], ends[2]), ends[1], np.maximum(ends[0], ends[2]))

    def feasibility(self, points: Array) -> Array:
        """Return the probability of outputs that satisfy the constraints, shape ``(n,)``."""
        return self.predictor.feasibility(np.asarray(points))

    @torch.no_grad()
    @one_thread()
    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of drawn functions at points ``(n, d)``, shape ``(q, n)``.

        Functions have the means and calibrated deviations of ``interval``.
        """
        points = np.asarray(points)
        if output is None:
            values = self._drawn(self.predictor.blocks[0], points)
            return self._values(self.predictor.modelled.loss(values).numpy())
        column = self.statement.outputs.index(output)
        block = next(one for one in self.predictor.blocks if column in one.columns)
        return np.asarray(self._drawn(block, points)[..., block.columns.index(column)].numpy())

    def _drawn(self, block: Block, points: Array) -> torch.Tensor:
        """Return values ``(q, n, c)`` of functions drawn from the models of a block."""
        centre, std = block.component.moments(points, noise=False)
        drawn = _functions(block.component, self.statement.domain, points, _FUNCTIONS)
        factor = block.calibration.factor(std)
        return block.component.unwarped(centre + factor * (drawn.cpu() - centre))

    def left_out(self) -> LeftOut:
        """Predict each observation from the others, at fixed hyperparameters."""
        parts = [_left_out(block, self.statement.outputs) for block in self.predictor.blocks]
        return LeftOut(parts)

    def _values(self, losses: Array) -> Array:
        values: Array = np.vectorize(self._goal.value, otypes=[float])(losses)
        return values


def _functions(component: Component, domain: Domain, points: Array, count: int) -> torch.Tensor:
    """Return functions drawn from a model at points ``(n, d)``, warped, shape ``(q, n, c)``."""
    if isinstance(component, MixtureComponent):
        # As many functions of each model as its weight demands.
        ends = [round(count * float(share)) for share in component.weights.cumsum(0)]
        parts = zip(component.components, [0, *ends[:-1]], ends, strict=True)
        return torch.cat([_functions(one, domain, points, b - a) for one, a, b in parts if b > a])
    if isinstance(component, GPComponent):
        surrogate = component.surrogate
        with suppress(InvalidInputError):  # a kernel whose spectral density is unknown
            paths = draw_paths(surrogate.gp, count, seed=0)
            inputs = torch.as_tensor(to_unit(domain, points)).to(surrogate.offset)
            return paths(inputs).permute(2, 0, 1) @ surrogate.weights + surrogate.offset
    if isinstance(component, ForestComponent):  # each tree is a function
        return component.joint_samples(points, count)
    mean, std = component.moments(points, noise=False)
    shift = torch.randn(count, 1, mean.shape[1], generator=torch.Generator().manual_seed(0))
    return mean + std * shift.to(mean)


class LeftOut:
    """Predictions of n observations of c outputs, each by all other observations.

    Args:
        parts: Names, observed values, predictions on the warped scale and their models.
    """

    def __init__(self, parts: list[tuple[list[str], Block, torch.Tensor, torch.Tensor]]) -> None:
        self._parts = parts
        self.names = tuple(name for names, *_ in parts for name in names)
        self.values = np.column_stack(
            [block.component.values.cpu().numpy() for _, block, *_ in parts]
        )

    @property
    def median(self) -> Array:
        """Medians in units of the outputs, shape ``(n, c)``."""
        return self._quantile(0.0)

    @property
    def explained(self) -> Array:
        """Coefficients of determination R^2 of the medians, shape ``(c,)``."""
        errors = ((self.values - self.median) ** 2).mean(axis=0)
        variance = self.values.var(axis=0)
        return np.asarray(1.0 - errors / np.where(variance > 0.0, variance, 1.0))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Return the ends of central intervals with probability ``level``, ``(n, c)`` each."""
        reach = float(ndtri(0.5 + 0.5 * level))
        ends = self._quantile(-reach), self._quantile(reach)
        return np.minimum(*ends), np.maximum(*ends)

    def coverage(self, level: float = 0.9) -> Array:
        """Return the share of values in their intervals, shape ``(c,)``."""
        low, high = self.interval(level)
        return np.asarray(((self.values >= low) & (self.values <= high)).mean(axis=0))

    def _quantile(self, deviations: float) -> Array:
        """Return quantiles at a number of standard deviations from the median, ``(n, c)``."""
        return np.column_stack(
            [
                block.component.unwarped(mean + deviations * std).cpu().numpy()
                for _, block, mean, std in self._parts
            ]
        )


def _left_out(
    block: Block, outputs: tuple[str, ...]
) -> tuple[list[str], Block, torch.Tensor, torch.Tensor]:
    found = block.component.left_out()
    names = ["loss" if column < 0 else outputs[column] for column in block.columns]
    return names, block, found.mean, found.std * block.calibration.factor(found.std)
