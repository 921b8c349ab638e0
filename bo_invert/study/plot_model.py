"""Predictions of a study's surrogate for its plots."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.acquisition.thompson_sample_paths import draw_paths
from bo_invert.models.base import Z_90, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import FittedModel, fit_model
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.charts.study_data import Ends
from bo_invert.report.objective_view import Goal
from bo_invert.types import Array

_LEAST = 3
"""Least number of observations of a model. Engineering choice."""
_SAMPLES = 128
"""Number of samples of a loss; a power of 2 (Sobol sequence). Engineering choice."""
_FUNCTIONS = 48
"""Number of drawn functions. Engineering choice: 5 % quantiles have two of them beyond."""


class SurrogatePredictor:
    """Predictions of expected outputs and losses.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: The oracle is noisy.

    Raises:
        InvalidInputError: There are less than three observations.
    """

    def __init__(self, statement: ProblemStatement, history: History, noisy: bool) -> None:
        n = len(history.completed)
        if n < _LEAST:
            raise InvalidInputError(
                f"a model needs at least {_LEAST} completed trials, the study has {n}"
            )
        self.statement, self.goal = (
            statement,
            Goal(statement.objective.to_json(), statement.outputs),
        )
        inputs = to_unit(statement.domain, history.points)
        subset = select_subset(inputs, history.order)
        with one_thread():
            self.model: FittedModel = fit_model(
                statement, history, inputs, subset=subset, noisy=noisy
            )

    def interval(self, points: Array, output: str | None) -> Ends:
        """Return intervals of an expected output, or of the value of the goal for None."""
        column = self._column(output)
        with torch.no_grad():
            if column is None:
                losses = self.model.outputs.loss(self.model.surrogate.values(self._sampled(points)))
                low, middle, high = np.quantile(losses.numpy(), [0.05, 0.5, 0.95], axis=0)
                ends = [self._values(loss) for loss in (low, middle, high)]
                return Ends(np.minimum(ends[0], ends[2]), ends[1], np.maximum(ends[0], ends[2]))
            surrogate = self.model.surrogate
            mean, std = surrogate.warped_moments(*surrogate.predictive(self._inputs(points)))
            reach = Z_90 * std
            triple = surrogate.unwarp(torch.stack([mean - reach, mean, mean + reach]))
            rows = triple[..., column].numpy()
        return Ends(rows[[0, 2]].min(axis=0), rows[1], rows[[0, 2]].max(axis=0))

    def feasibility(self, points: Array) -> Array:
        """Return the probability that the outcome constraints hold, shape ``(n,)``."""
        with torch.no_grad():
            values = self.model.surrogate.values(self._sampled(points))
            share: Array = (self.model.outputs.violation(values) <= 0.0).double().mean(0).numpy()
            return share

    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of drawn functions at points ``(n, d)``, shape ``(q, n)``."""
        column, surrogate = self._column(output), self.model.surrogate
        with torch.no_grad(), one_thread():
            paths = draw_paths(surrogate.gp, _FUNCTIONS, seed=0)
            scores = paths(self._inputs(points)).permute(2, 0, 1)
            values = surrogate.values(scores)
            if column is not None:
                return np.asarray(values[..., column].numpy())
            return self._values(self.model.outputs.loss(values).numpy())

    def _inputs(self, points: Array) -> torch.Tensor:
        unit = to_unit(self.statement.domain, np.asarray(points))
        return torch.as_tensor(unit).to(self.model.surrogate.offset)

    def _sampled(self, points: Array) -> torch.Tensor:
        """Return samples of the scores ``(s, n, k)``; points share the random numbers."""
        mean, variance = self.model.surrogate.predictive(self._inputs(points))
        uniform = qmc.Sobol(mean.shape[-1], rng=np.random.default_rng(0)).random(_SAMPLES)
        normal = torch.as_tensor(ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9)))[:, None]
        sampled: torch.Tensor = mean + variance.sqrt() * normal
        return sampled

    def _column(self, output: str | None) -> int | None:
        """Return the column of a modelled output; None for the loss.

        Raises:
            InvalidInputError: The model does not contain the output.
        """
        if output is None:
            return None
        names = self.model.outputs.names
        if output not in names:
            raise InvalidInputError(
                f"the objective and the constraints do not use output {output!r}, so the model "
                f"has only {names}"
            )
        return names.index(output)

    def _values(self, losses: Array) -> Array:
        values: Array = np.vectorize(self.goal.value, otypes=[float])(losses)
        return values
