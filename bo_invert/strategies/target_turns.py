"""Turns of ``gp`` and ``least_squares`` in the search for a target; numpy only."""

from __future__ import annotations

import math

import numpy as np

from bo_invert.history import History
from bo_invert.models.least_squares.target_reached import target_reached
from bo_invert.objectives import ProblemStatement

# Engineering choice: factor of the best loss that counts as a gain.
_GAIN = 0.9
# Engineering choice: best loss, as a share of an ordinary one, below which a start is expected to
# converge. Its Jacobian then costs d calls, and a few steps reach the rounding error.
_NEAR = 1e-4
# Engineering choices: calls without a gain after which a turn ends. Near the target, ``gp`` has a
# quarter of a Jacobian's cost; a start of ``least_squares`` has a Jacobian and some steps.
_PATIENCE, _STEPS = 8, 6


def target_turn(statement: ProblemStatement, history: History, budget: int | None) -> str:
    """Return ``"gp"`` or ``"least_squares"``, the strategy whose turn it is.

    ``gp`` begins: a model of all outputs gains more from the first calls than a Jacobian of finite
    differences. It loses its turn when it no longer gains, at once near the target in few
    dimensions. ``least_squares`` then steps from the best point, and loses its turn likewise.

    Args:
        statement: problem statement with a target.
        history: log.
        budget: largest number of calls of the study; None for no limit.
    """
    dim = statement.domain.dim
    if target_reached(statement.objective, history):
        return "least_squares"  # it finishes a running start and proposes nothing else
    turn, idle, best, level = "gp", 0, math.inf, math.inf
    losses: list[float] = []
    for trial in history.completed:
        loss = math.inf if trial.loss is None else trial.loss
        losses.append(loss)
        best = min(best, loss if trial.feasible else math.inf)
        if best < _GAIN * level or level == math.inf:
            level, idle = best, 0
        elif trial.origin == turn and "design" not in trial.query.meta:
            idle += 1
        if idle and idle >= _patience(turn, idle, dim, best, losses):
            turn, idle, level = "least_squares" if turn == "gp" else "gp", 0, best
    left = math.inf if budget is None else budget - history.committed
    # A start that has no calls for its Jacobian gains nothing.
    return "gp" if turn == "least_squares" and not idle and left <= dim + 1 else turn


def _patience(turn: str, idle: int, dim: int, best: float, losses: list[float]) -> int:
    if turn == "least_squares":
        return dim + _STEPS
    soon = max(1, dim // 4)
    if idle >= soon and best <= _NEAR * float(np.quantile(losses, 0.75)):
        return soon
    return max(_PATIENCE, dim // 2)
