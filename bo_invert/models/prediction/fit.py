"""Fit of the models behind predictions, as the strategy ``auto`` would choose them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.acquisition.feasibility import predicted_feasibility
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.forest import fit_forest, forest_inputs
from bo_invert.models.gp.hyperparameter_averaging import average_hyperparameters
from bo_invert.models.gp.hyperparameter_fit import MEASURED
from bo_invert.models.gp.mixed_kernel import column_structure
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.linear.spherical_gp import fit_spherical_gp
from bo_invert.models.model_comparison import linear_is_better
from bo_invert.models.outliers import clip_outliers, too_large
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.prediction.calibration import (
    Calibration,
    Forecasts,
    interval_score,
    joined,
)
from bo_invert.models.prediction.components import (
    Component,
    ForestComponent,
    GPComponent,
    LinearComponent,
    MixtureComponent,
    mixed_moments,
)
from bo_invert.models.prediction.predictor import Block, Predictor
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array, Indices

MIN_OBSERVATIONS = 2
"""Least number of observations. A single one has no spread, so its interval would be empty."""
_MIN_FOREST, _MIN_LINEAR = 20, 6
"""Least numbers of observations of a forest and of a linear process. Engineering choice, as in the
strategy ``auto``."""
_MIN_LINEAR_DIM = 40
"""Least number of latent coordinates of the linear process. Engineering choice, as in the strategy
``auto``."""
FOLDS = 8
"""Number of folds of left-out forecasts. Engineering choice: each fit has most observations."""
_MAX_REFITTED = 120
"""Largest number of observations whose folds have fits of their own. Engineering choice: beyond,
one observation hardly changes the hyperparameters, and fits are slow."""
_SHARPNESS = 6
"""Exponent of interval scores in the weights of a mixture, dimensionless. Engineering choice: with
4 and 8, scores of development functions were lower than without a mixture."""
_SEED = 0
"""Dimensionless seed of forests. Engineering choice: any number serves."""


@one_thread()
def fit_predictor(statement: ProblemStatement, history: History, *, noisy: bool) -> Predictor:
    """Fit models of all outputs to the observations of a log.

    The outputs that objective and constraints read have models of their own, so that others do not
    change the loss. A linear process replaces Gaussian processes where the strategy ``auto``
    prefers it. Beyond 1,000 observations, a subset is used.

    Args:
        statement: Problem statement.
        history: Log with at least two observations.
        noisy: Repeated calls at a point differ.

    Raises:
        InvalidInputError: There are fewer than two observations, or outputs are too large.
    """
    count = len(history.completed)
    if count < MIN_OBSERVATIONS:
        raise InvalidInputError(
            f"predict: the study must have at least {MIN_OBSERVATIONS} observations, got {count}. "
            "Run it, or add observations"
        )
    inputs = to_unit(statement.domain, history.points)
    rows = select_subset(inputs, history.order)
    if not noisy:
        # Equal outputs of a repeated input would exclude structure finer than the lengthscales.
        observed = np.concatenate([inputs[rows], history.y[rows]], axis=1)
        rows = rows[np.sort(np.unique(observed, axis=0, return_index=True)[1])]
    y = history.y[rows]
    modelled = ModelledOutputs(statement, y, history.losses[rows])
    huge = too_large(y, statement.outputs)
    if modelled.modelled_losses and not huge:
        huge = too_large(history.losses[rows, None], ["loss"])
    if huge:
        raise InvalidInputError(f"predict: {huge}")
    fit = _Fit(statement, history.points[rows], _linear(statement, history), noisy)
    columns = [-1] * modelled.modelled_losses + modelled.columns
    blocks = [fit.block(modelled.values, columns, modelled.warp_directions)]
    rest = [j for j in range(len(statement.outputs)) if j not in modelled.columns]
    if rest:
        blocks.append(fit.block(clip_outliers(y[:, rest]), rest))
    failed = to_unit(statement.domain, history.failed_points)
    structure = column_structure(statement.domain)
    log_feasible = predicted_feasibility(inputs, failed, history.order, structure)
    clipped = int((clip_outliers(y) != y).sum())
    return Predictor(statement, modelled, blocks, log_feasible, count, clipped)


def _linear(statement: ProblemStatement, history: History) -> bool:
    """Return True if ``auto`` would prefer a linear process."""
    domain, count = statement.domain, len(history.completed)
    large = domain.latent and domain.dim >= _MIN_LINEAR_DIM and count >= _MIN_LINEAR
    return large and linear_is_better(statement, history)


_Judged: TypeAlias = tuple[Component, Forecasts]
"""Model and its left-out forecasts."""


@dataclass(frozen=True, eq=False)
class _Fit:
    """Fit of one kind of model to n observations.

    Args:
        statement: Problem statement.
        points: Observed points, shape ``(n, d)``.
        linear: Model values by a linear process.
        noisy: Repeated calls at a point differ.
    """

    statement: ProblemStatement
    points: Array
    linear: bool
    noisy: bool

    def block(
        self, values: Array, columns: list[int], directions: tuple[int, ...] | None = None
    ) -> Block:
        """Fit and calibrate a model of values ``(n, c)``.

        Of Gaussian processes with and without an output warp and, for an exact oracle, a random
        forest, the one whose left-out forecasts have the lowest interval score S is used. Without a
        warp, forest and process are mixed with weights proportional to S^-6.

        Args:
            values: Observed values.
            columns: Output of each value; -1 for the loss.
            directions: Warp directions of the values; None for no warp.
        """
        component, forecasts = self._chosen(values, directions)
        return Block(component, columns, Calibration.of(forecasts), forecasts.explained)

    def _chosen(self, values: Array, directions: tuple[int, ...] | None) -> _Judged:
        """Return the model of values ``(n, c)`` and its left-out forecasts."""
        known = torch.as_tensor(values)
        if self.linear:
            process = fit_spherical_gp(self.points, values, directions=True)
            linear = LinearComponent(process, known)
            return linear, linear.left_out()
        gp = self._gp(values, directions)
        # Warps are selected by densities, which a few best values dominate.
        warped = gp if gp[0].warp is not None else None
        models: list[_Judged] = [self._gp(values, None) if warped else gp]
        # Many outputs are sampled through their principal components, which a forest does not have.
        many = values.shape[1] > MAX_INDEPENDENT_OUTPUTS
        unordered = self.statement.domain.has_unordered
        if not (self.noisy or many or unordered or len(values) < _MIN_FOREST):
            inputs = forest_inputs(self.statement)
            forest = ForestComponent(fit_forest(inputs(self.points), values, _SEED), inputs, known)
            models.append((forest, forest.left_out()))
        scores = torch.tensor([interval_score(forecasts, known) for _, forecasts in models])
        if warped is not None and interval_score(warped[1], known) < float(scores.min()):
            return warped
        if len(models) == 1:
            return models[0]
        # A ratio does not overflow; without any spread, all scores are 0.
        weights = (scores / scores.min().clamp(min=1e-300)).clamp(min=1.0) ** -_SHARPNESS
        mixture = MixtureComponent(
            tuple(component for component, _ in models), weights / weights.sum(), known
        )
        forecasts = [forecast for _, forecast in models]
        moments = mixed_moments(
            [one.mean for one in forecasts], [one.std for one in forecasts], mixture.weights
        )
        return mixture, mixture.forecasts(*moments, known)

    def _gp(self, values: Array, directions: tuple[int, ...] | None) -> _Judged:
        """Fit Gaussian processes; also return their left-out forecasts."""
        domain = self.statement.domain
        space = ModelSearchSpace.of("auto", self.noisy, directions, column_structure(domain))
        if self.noisy:
            # Repeated points determine the noise, so its prior is wide.
            space = replace(space, noise_priors=(MEASURED,), averaged=False)
        component = self._fitted(np.arange(len(values)), values, space, None)
        n = len(values)
        if not 2 * FOLDS <= n <= _MAX_REFITTED:
            return component, component.left_out()
        # Hyperparameters are fitted without the fold: fixed ones would make errors too small.
        # n = 0 in the memo keeps the selected model.
        memo = {**component.surrogate.memo, "n": 0}
        parts, order = [], []
        for fold in range(FOLDS):
            out = np.arange(n) % FOLDS == fold
            other = self._fitted(np.flatnonzero(~out), values, space, memo)
            # The warp depends on the observations, so forecasts have the one of their fold.
            moments = other.moments(self.points[out], True)
            parts.append(other.forecasts(*moments, component.values[out]))
            order.append(np.flatnonzero(out))
        return component, joined(parts, np.argsort(np.concatenate(order)))

    def _fitted(
        self, rows: Indices, values: Array, space: ModelSearchSpace, memo: JSON
    ) -> GPComponent:
        domain, inputs = self.statement.domain, to_unit(self.statement.domain, self.points[rows])
        surrogate = fit_surrogate(inputs, values[rows], memo, space)
        average = average_hyperparameters(surrogate.gp, MEASURED) if self.noisy else None
        return GPComponent(surrogate, domain, torch.as_tensor(values[rows]), average)
