"""Models of different kinds compared by what they predict of left-out trials."""

from __future__ import annotations

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.linear import spherical_gp as spherical
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.threads import one_thread
from bo_invert.problem_statement import ProblemStatement

_GLANCE = 300
_FOLDS = 5


def linear_is_better(statement: ProblemStatement, history: History) -> bool:
    """Whether a linear process on the shell predicts left-out values better than the process of ``gp`` does.

    Compared is what would be used: the numbers that objective and constraints read, and of smooth processes any that
    ``gp`` may choose. Both are fitted afresh without the left-out values: with a lengthscale per coordinate the smooth
    one can make the values it was fitted to predict each other.

    Args:
        statement: of a problem with a latent.
        history: with at least six completed trials; of many, some are looked at.
    """
    rows = np.arange(len(history.completed))
    if len(rows) > _GLANCE:
        rows = np.linspace(0, len(rows) - 1, _GLANCE).round().astype(int)
    points, outputs = (
        history.points[rows],
        ModelledOutputs(statement, history.y[rows], history.losses[rows]),
    )
    values, inputs = outputs.values, to_unit(statement.domain, points)
    values = values / np.maximum(values.std(0), 1e-300)
    choice = ModelSearchSpace.of("auto", history.noise_observed, outputs.warp_directions)
    of_linear = of_smooth = 0.0
    with one_thread():
        kind = {**fit_surrogate(inputs, values, search_space=choice).memo, "n": 0}
        for fold in range(_FOLDS):
            out = np.arange(len(points)) % _FOLDS == fold
            linear = spherical.fit_spherical_gp(
                points[~out], values[~out], directions=True
            ).posterior(points[out])[0]
            smooth = (
                fit_surrogate(inputs[~out], values[~out], kind, choice)
                .mean(torch.tensor(inputs[out]))
                .numpy()
            )
            of_linear += float(((linear - values[out]) ** 2).sum())
            of_smooth += float(((smooth - values[out]) ** 2).sum())
    return of_linear < of_smooth
