"""Comparisons of the surrogate of ``gp`` with others by left-out predictions."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.forest import fit_forest, forest_inputs
from bo_invert.models.gp.derivative_gp import fit_derivative_gp
from bo_invert.models.gp.mixed_kernel import column_structure
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.linear.spherical_gp import fit_spherical_gp
from bo_invert.models.observed_derivatives import observed_derivatives
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array

_MAX_POINTS = 300
"""Largest number of observations in a comparison. Engineering choice: bounds its cost."""
_FOLDS = 5
"""Number of folds of the cross-validation. Engineering choice."""


@one_thread()
def linear_is_better(statement: ProblemStatement, history: History) -> bool:
    """Return whether the linear process has the lower cross-validated squared error.

    Both models predict the modelled outputs. The model of ``gp`` is selected once on all
    data, but its hyperparameters are fitted in each fold. With one lengthscale per coordinate,
    training values can predict one another.

    Args:
        statement: Statement of a problem with a latent.
        history: Log with at least six completed trials.
    """
    n = len(history.completed)
    rows = np.linspace(0, n - 1, min(n, _MAX_POINTS)).round().astype(int)
    points = history.points[rows]
    outputs = ModelledOutputs(statement, history.y[rows], history.losses[rows])
    values, inputs = outputs.values, to_unit(statement.domain, points)
    values = values / np.maximum(values.std(0), 1e-300)
    search_space = ModelSearchSpace.of("auto", history.noise_observed, outputs.warp_directions)
    linear_error = smooth_error = 0.0
    # n = 0 in the memo keeps the selected model and fits its hyperparameters again.
    memo = {**fit_surrogate(inputs, values, search_space=search_space).memo, "n": 0}
    for fold in range(_FOLDS):
        # Interleaved folds cover every phase of the search.
        out = np.arange(len(points)) % _FOLDS == fold
        linear = fit_spherical_gp(points[~out], values[~out], directions=True)
        smooth = fit_surrogate(inputs[~out], values[~out], memo, search_space)
        smooth_mean = smooth.mean(torch.tensor(inputs[out])).numpy()
        linear_error += float(((linear.posterior(points[out])[0] - values[out]) ** 2).sum())
        smooth_error += float(((smooth_mean - values[out]) ** 2).sum())
    return linear_error < smooth_error


@one_thread()
def compare_forest(
    statement: ProblemStatement, history: History, memo: JSON, seed: int
) -> tuple[float, float]:
    """Return how well a random forest and the surrogate of ``gp`` order left-out losses.

    The criterion is Spearman's correlation of losses and their predictions, which no monotone
    transformation changes. The forest predicts an observation by the trees without it. The process
    has hyperparameters of all observations, which favours it.

    Args:
        statement: Problem statement.
        history: Log with at least two completed trials.
        memo: Memo of the surrogate of ``gp``.
        seed: Seed of the forest.
    """
    n = len(history.completed)
    rows = np.linspace(0, n - 1, min(n, _MAX_POINTS)).round().astype(int)
    domain, points = statement.domain, history.points[rows]
    outputs = ModelledOutputs(statement, history.y[rows], history.losses[rows])
    search_space = ModelSearchSpace.of(
        "auto", False, outputs.warp_directions, column_structure(domain)
    )
    surrogate = fit_surrogate(to_unit(domain, points), outputs.values, memo, search_space)
    means = surrogate.gp.leave_one_out()[0]
    smooth = outputs.loss(surrogate.values(means)).numpy()
    forest = fit_forest(forest_inputs(statement)(points), outputs.values, seed)
    stepped = outputs.loss(torch.as_tensor(forest.left_out_mean())).numpy()
    losses = history.losses[rows]
    return _rank_correlation(stepped, losses), _rank_correlation(smooth, losses)


@one_thread()
def derivatives_predict(statement: ProblemStatement, history: History, memo: JSON) -> bool:
    """Return whether a process of values and derivatives predicts left-out values better.

    It is compared with the surrogate of the values alone. Both have hyperparameters of all
    observations. The criterion is the squared error. Derivatives make predictions worse where they
    change within less than the distance of observations.

    Args:
        statement: Problem statement with real parameters.
        history: Log with at least three completed trials.
        memo: Memo of the process of values and derivatives.
    """
    data = observed_derivatives(statement, history)
    process, _ = fit_derivative_gp(data, memo)
    values = process.data.values[:, None]
    surrogate = fit_surrogate(
        data.inputs.numpy(), values.numpy(), search_space=ModelSearchSpace.of("auto", False, None)
    )
    alone = surrogate.values(surrogate.gp.leave_one_out()[0])
    errors = [values - process.leave_one_out()[:, None], values - alone.reshape(values.shape)]
    joint, single = (float(error.square().mean()) for error in errors)
    return joint < single


def _rank_correlation(predicted: Array, losses: Array) -> float:
    """Return Spearman's correlation; 0 if either of both is constant."""
    a, b = rankdata(predicted), rankdata(losses)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0.0 and b.std() > 0.0 else 0.0
