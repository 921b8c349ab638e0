"""Losses and gradients of a log as data of a Gaussian process."""

from __future__ import annotations

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.gp.derivative_data import DerivativeData
from bo_invert.models.outliers import clip_outliers
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Indices


def observed_derivatives(
    statement: ProblemStatement, history: History, rows: Indices | slice = slice(None)
) -> DerivativeData:
    """Return standardised losses and their gradients in unit inputs.

    Args:
        statement: Problem statement with real parameters.
        history: Log.
        rows: Completed trials; all by default.
    """
    domain = statement.domain
    losses = clip_outliers(history.losses[rows, None])[:, 0]
    gradients = np.full((len(losses), domain.dim), np.nan)
    for i, row in enumerate(np.arange(len(history.completed))[rows]):
        outcome = history.completed[row].outcome
        if outcome is not None and outcome.gradient is not None and outcome.point is None:
            gradients[i] = outcome.gradient * np.ptp(domain.bounds, 0)
    unit = float(losses.std()) or 1.0
    return DerivativeData.of(
        torch.tensor(to_unit(domain, history.points[rows])),
        torch.tensor((losses - losses.mean()) / unit),
        torch.tensor(gradients / unit),
    )
