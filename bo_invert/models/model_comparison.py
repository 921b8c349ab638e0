"""Cross-validated comparison of the spherical-linear process and the surrogate of ``gp``."""

from __future__ import annotations

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.linear.spherical_gp import fit_spherical_gp
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives import ProblemStatement

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
