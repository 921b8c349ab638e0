"""Whether a point should be asked for at all, whatever it promises: will it be answered, and is it plausible?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bo_invert.history import History
from bo_invert.models.acquisition.expected_improvement import Score, log_feasibility
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp import surrogate as exact
from bo_invert.models.gp.hyperparameters import LABELS
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array


def feasibility_and_plausibility(
    statement: ProblemStatement, history: History, memo: JSON
) -> tuple[Score | None, JSON]:
    """Log probability that a point gives outputs and is as plausible as the domain wants, and a memo.

    It takes unit inputs. None as long as nothing went wrong and nothing is wanted.

    Args:
        statement: of the problem.
        history: with at least one completed trial.
        memo: of an earlier ask.
    """
    domain = statement.domain
    told, lost = (to_unit(domain, points) for points in (history.points, history.failed_points))
    answered, note = fit_feasibility(told, lost, history.order, memo)
    wish = plausibility_penalty(domain)
    return wish if answered is None else with_feasibility(answered, wish), note


def fit_feasibility(
    observed: Array, failed: Array, order: NDArray[np.intp], memo: JSON
) -> tuple[Score | None, JSON]:
    """Log probability that an input gives outputs, and a memo; None as long as nothing went wrong.

    Failures that depend on the place are learned like infeasible designs; others drown in the noise of the labels.

    Args:
        told: inputs that gave outputs, on the scale of the unit cube, shape ``(n, d)``.
        lost: inputs that gave none, shape ``(k, d)``.
        order: positions of the told inputs, best first, shape ``(n,)``.
        memo: of an earlier ask.
    """
    if not len(failed):
        return None, None
    inputs = np.concatenate([observed, failed])
    labels = np.repeat([1.0, 0.0], [len(observed), len(failed)])
    some = select_subset(inputs, np.concatenate([order, np.arange(len(observed), len(inputs))]))
    surrogate = exact.fit_surrogate(
        inputs[some],
        labels[some, None],
        memo,
        exact.ModelSearchSpace(noise_priors=(LABELS,)),
        total=len(inputs),
    )
    return log_feasibility(surrogate), surrogate.memo


def with_feasibility(score: Score, log_feasible: Score | None) -> Score:
    """A score, or many at once, that also counts whether a point should be asked for."""
    return score if log_feasible is None else lambda inputs: score(inputs) + log_feasible(inputs)
