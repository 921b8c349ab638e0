"""Turns of two strategies that continue each other's search, as a function of the log; numpy only.

A strategy keeps its turn as long as it gains. Both see all trials, so each goes on from what the
other has found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bo_invert.history import History
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.least_squares.target_reached import target_reached
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import State, Trial

# Engineering choice: factor of the best loss that counts as a gain towards a target.
_TARGET_GAIN = 0.9
# Engineering choice: best loss, as a share of an ordinary one, below which a start is expected to
# converge. Its Jacobian then costs d calls, and a few steps reach the rounding error.
_NEAR = 1e-4
# Engineering choices: calls without a gain after which a turn ends. Near the target, ``gp`` has a
# quarter of a Jacobian's cost; a start of ``least_squares`` has a Jacobian and some steps, and its
# surrogate of the residuals as many calls as ``gp``.
_PATIENCE, _STEPS = 8, 6
# Engineering choice: share of the distance between the median of all losses and the incumbent that
# counts as a gain, and queries of ``gradient_gp`` without one.
_GAIN, _GRADIENT_QUERIES = 0.01, 10

# Engineering choices: share of the best loss below which a query of ``retarget`` gains; queries in
# a row without a gain whose outcomes exceed their intervals; queries in a row without a gain. The
# last number is at least the number of parameters, which a Jacobian of finite differences costs.
_RETARGET_GAIN, _EXCEEDING, _RETARGET_PATIENCE = 0.5, 2, 6

Patience = Callable[[Trial, float, list[float]], float]
"""Function from a trial, the best loss and all losses to the number of such queries without a gain
that its strategy may spend."""


def target_turn(
    statement: ProblemStatement, history: History, budget: int | None, batch: int = 1
) -> str:
    """Return ``"gp"`` or ``"least_squares"``, the strategy whose turn it is.

    ``gp`` begins: a model of all outputs gains more from the first calls than a Jacobian of finite
    differences. It loses its turn when it no longer gains, at once near the target in few
    dimensions. ``least_squares`` then steps from the best point, and loses its turn likewise. More
    than 15 outputs belong to ``least_squares``, whose model of all outputs in one learned metric
    reaches targets with fewer calls, although it gains less from the first ones.

    Args:
        statement: problem statement with a target.
        history: log.
        budget: largest number of calls of the study; None for no limit.
        batch: number of requested queries. Near the target, several of ``gp`` would be alike, but
            those of a Jacobian are independent.
    """
    dim = statement.domain.dim
    if len(statement.outputs) > MAX_INDEPENDENT_OUTPUTS:
        return "least_squares"
    if target_reached(statement.objective, history):
        return "least_squares"  # it finishes a running start and proposes nothing else

    def patience(trial: Trial, best: float, losses: list[float]) -> int:
        if "start" in trial.query.meta:
            return dim + _STEPS
        near = trial.origin == "gp" and _near(losses, best)
        return max(1, dim // 4) if near else max(_PATIENCE, dim // 2)

    turn, spent = _turn(
        history, ("gp", "least_squares"), patience, lambda best, _: (1.0 - _TARGET_GAIN) * best
    )
    if turn == "gp" and batch > 1 and _near(history.losses.tolist()):
        turn = "least_squares"
    left = math.inf if budget is None else budget - history.committed
    # A start that has no calls for its Jacobian gains nothing.
    return "gp" if turn == "least_squares" and not spent and left <= dim + 1 else turn


def data_predict(statement: ProblemStatement, history: History) -> bool:
    """Return True while the model of a study that begins with data predicts a missed target.

    The study must begin with ``d + 2`` observations, as a linear model and its test need. A query
    of ``retarget`` gains if it halves the best loss. After two queries in a row without a gain
    whose outcomes exceed their prediction intervals, or ``max(6, d)`` without a gain, the search
    continues as without this strategy.
    """
    d, asked = statement.domain.parameter_count, [t for t in history.trials if t.ask is not None]
    first = asked[0].number if asked else math.inf
    given = [t for t in history.completed if t.ask is None and t.number < first]
    if len(given) < d + 2 or target_reached(statement.objective, history):
        return False
    best = min((t.loss for t in given if t.feasible and t.loss is not None), default=math.inf)
    idle = exceeding = 0
    for trial in history.trials:
        if trial.origin != "retarget" or trial.state.open or trial.state is State.CANCELLED:
            continue
        loss = math.inf if trial.loss is None or not trial.feasible else trial.loss
        if loss <= _RETARGET_GAIN * best and loss < math.inf:
            best, idle, exceeding = loss, 0, 0
            continue
        idle += 1
        exceeding = exceeding + 1 if _exceeds(statement, trial) else 0
        if exceeding >= _EXCEEDING or idle >= max(_RETARGET_PATIENCE, d):
            return False
    return True


def _exceeds(statement: ProblemStatement, trial: Trial) -> bool:
    """Return True if an outcome lies outside of a prediction interval, or is missing."""
    if trial.y is None:
        return True
    places = {name: j for j, name in enumerate(statement.outputs)}
    return any(
        not low <= float(trial.y[places[name]]) <= high
        for name, (low, _, high) in trial.expected.items()
        if name in places
    )


def _near(losses: list[float], best: float | None = None) -> bool:
    """Return True if the best loss is near the target."""
    best = min(losses, default=math.inf) if best is None else best
    return bool(losses) and best <= _NEAR * float(np.quantile(losses, 0.75))


def gradients_gain(history: History, dim: int) -> bool:
    """Return False after the first queries of ``gradient_gp`` without a gain.

    Values cost one call a query. A model of them finds other basins where gradients change faster
    than the surrogate predicts.
    """
    patience = {"gradient_gp": max(_GRADIENT_QUERIES, dim // 2), "gp": math.inf}
    turn, _ = _turn(
        history, ("gradient_gp", "gp"), lambda trial, *_: patience[trial.origin],
        lambda best, losses: _GAIN * (float(np.median(losses)) - best),
    )  # fmt: skip
    return turn == "gradient_gp"


def descents_gain(history: History) -> bool:
    """Return False if the latest descent did not gain on the best loss before it."""
    best, losses, gained = math.inf, list[float](), True
    for trial in history.completed:
        loss = math.inf if trial.loss is None or not trial.feasible else trial.loss
        losses.append(loss)
        if trial.query.descent is not None:
            gained = loss < best - _GAIN * (float(np.median(losses)) - best)
        best = min(best, loss)
    return gained


def _turn(
    history: History,
    pair: tuple[str, str],
    patience: Patience,
    least_gain: Callable[[float, list[float]], float],
) -> tuple[str, float]:
    """Return the strategy whose turn it is, and the share of its patience that is spent.

    Args:
        history: log.
        pair: names of the strategies; the first one begins.
        patience: number of queries without a gain, which depends on the kind of a query.
        least_gain: function from the best loss and all losses to the least difference that counts.
    """
    turn, spent, best, level = pair[0], 0.0, math.inf, math.inf
    losses: list[float] = []
    for trial in history.completed:
        loss = math.inf if trial.loss is None else trial.loss
        losses.append(loss)
        best = min(best, loss if trial.feasible else math.inf)
        gains = best < level and (level == math.inf or best < level - least_gain(best, losses))
        if gains or level == math.inf:
            level, spent = best, 0.0
        elif trial.origin == turn and "design" not in trial.query.meta:
            spent += 1.0 / patience(trial, best, losses)
            # Sums of reciprocals, such as 8 / 8, are exact to rounding.
            if spent >= 1.0 - 1e-9:
                turn, spent, level = pair[1] if turn == pair[0] else pair[0], 0.0, best
    return turn, spent
