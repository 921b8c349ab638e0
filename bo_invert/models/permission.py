"""Whether a point should be asked for at all, whatever it promises: will it be answered, and is it plausible?"""

from __future__ import annotations

import numpy as np

from bo_invert.history import History
from bo_invert.models import exact
from bo_invert.models.acquisition import Score, feasibility
from bo_invert.models.base import to_unit
from bo_invert.models.fit import LABELS
from bo_invert.models.realism import realism
from bo_invert.models.selection import telling
from bo_invert.statement import Statement
from bo_invert.types import JSON


def permission(statement: Statement, history: History, memo: JSON) -> tuple[Score | None, JSON]:
    """Log probability that a point gives outputs and is as plausible as the domain wants, and a memo.

    None as long as nothing went wrong and nothing is wanted. Failures that depend on the place are learned like
    infeasible designs; others drown in the noise of the labels.

    Args:
        statement: of the problem.
        history: with at least one completed trial.
        memo: of an earlier ask.
    """
    wish = realism(statement.domain)
    if not history.barren:
        return wish, None
    lost = np.array([trial.point for trial in history.barren])
    points = to_unit(statement.domain, np.concatenate([history.points, lost]))
    labels = np.repeat([1.0, 0.0], [len(history.points), len(lost)])
    order = np.concatenate([history.order, np.arange(len(history.points), len(points))])
    some = telling(points, order)
    surrogate = exact.fit(points[some], labels[some, None], memo, exact.Choice(beliefs=(LABELS,)), told=len(points))
    chance = feasibility(surrogate)
    if wish is None:
        return chance, surrogate.memo
    return lambda inputs: chance(inputs) + wish(inputs), surrogate.memo
