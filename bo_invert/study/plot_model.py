"""Predictions of a study's models for its plots."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy.special import ndtri

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import FittedModel, fit_model
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
        history: Trials.
        predictor: Models behind ``study.predict``.
        noisy: The oracle is noisy.
    """

    def __init__(
        self, statement: ProblemStatement, history: History, predictor: Predictor, noisy: bool
    ) -> None:
        self.statement, self.predictor = statement, predictor
        self._history, self._noisy = history, noisy
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

    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of drawn functions at points ``(n, d)``, shape ``(q, n)``."""
        surrogate, outputs = self._fitted.surrogate, self._fitted.outputs
        if output is not None and output not in outputs.names:
            raise InvalidInputError(
                f"param_importances: target must be one of {outputs.names}, the outputs that "
                f"objective and constraints use, got {output!r}"
            )
        unit = to_unit(self.statement.domain, np.asarray(points))
        with torch.no_grad(), one_thread():
            paths = draw_paths(surrogate.gp, _FUNCTIONS, seed=0)
            scores = paths(torch.as_tensor(unit).to(surrogate.offset)).permute(2, 0, 1)
            values = surrogate.values(scores)
            if output is None:
                return self._values(outputs.loss(values).numpy())
            return np.asarray(values[..., outputs.names.index(output)].numpy())

    def left_out(self) -> LeftOut:
        """Predict each observation from the others, at fixed hyperparameters."""
        parts = [_left_out(block, self.statement.outputs) for block in self.predictor.blocks]
        return LeftOut(parts)

    @cached_property
    def _fitted(self) -> FittedModel:
        """Surrogate whose posterior functions can be drawn; forests have none."""
        inputs = to_unit(self.statement.domain, self._history.points)
        subset = select_subset(inputs, self._history.order)
        with one_thread():
            return fit_model(
                self.statement, self._history, inputs, subset=subset, noisy=self._noisy
            )

    def _values(self, losses: Array) -> Array:
        values: Array = np.vectorize(self._goal.value, otypes=[float])(losses)
        return values


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
