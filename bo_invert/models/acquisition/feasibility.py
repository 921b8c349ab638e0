"""Feasibility: probability that the oracle returns outputs, learned from failed trials."""

from __future__ import annotations

import numpy as np

from bo_invert.history import History
from bo_invert.models.acquisition.expected_improvement import Score, log_feasibility
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp.hyperparameter_fit import LABELS
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.objectives import ProblemStatement
from bo_invert.types import JSON, Array, Indices


def feasibility_and_plausibility(
    statement: ProblemStatement, history: History, memo: JSON
) -> tuple[Score | None, JSON]:
    """Build log feasibility plus the plausibility penalty of unit inputs, and a memo.

    The score is None without failed trials and without a plausibility bound.

    Args:
        statement: Problem statement.
        history: Log with at least one completed trial.
        memo: Memo of an earlier ask.
    """
    domain = statement.domain
    feasibility, note = fit_feasibility(
        to_unit(domain, history.points), to_unit(domain, history.failed_points), history.order, memo
    )
    penalty = plausibility_penalty(domain)
    return penalty if feasibility is None else with_feasibility(feasibility, penalty), note


def fit_feasibility(
    observed: Array, failed: Array, order: Indices, memo: JSON
) -> tuple[Score | None, JSON]:
    """Fit a surrogate of labels; return log feasibility and a memo, or None without failures.

    Failures that depend on the design are learned; others disappear in the noise of the labels.

    Args:
        observed: Unit inputs with outputs, shape ``(n, d)``.
        failed: Unit inputs of failed trials, shape ``(k, d)``.
        order: Positions of the observed inputs, best first, shape ``(n,)``.
        memo: Memo of an earlier ask.
    """
    if not len(failed):
        return None, None
    # Failures rank last, so that the subset holds the best points and those near them.
    inputs = np.concatenate([observed, failed])
    labels = np.repeat([1.0, 0.0], [len(observed), len(failed)])
    some = select_subset(inputs, np.append(order, np.arange(len(observed), len(inputs))))
    # The noise prior of labels keeps lengthscales long: a boundary, not isolated holes.
    search_space = ModelSearchSpace(noise_priors=(LABELS,))
    surrogate = fit_surrogate(
        inputs[some], labels[some, None], memo, search_space, total=len(inputs)
    )
    return log_feasibility(surrogate), surrogate.memo


def with_feasibility(score: Score, log_feasible: Score | None) -> Score:
    """Add a log probability to one score, or to many at once."""
    # EI of a feasible improvement is P(feasible) EI, a sum of logarithms (Gardner et al. 2014).
    return score if log_feasible is None else lambda inputs: score(inputs) + log_feasible(inputs)
