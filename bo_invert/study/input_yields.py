"""Yield, or expected loss, of designs under noise of their inputs."""

from __future__ import annotations

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.base import Z_90
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.inverse.input_yield import InputYield
from bo_invert.models.inverse.robust_fit import RobustOptions, fit_input_yield
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.study.posterior import MIN_OBSERVATIONS
from bo_invert.study.recommendation import YieldEstimate
from bo_invert.types import Array, Trial

_DRAWS = 1024
"""Number of deviations of a design. Engineering choice: the Monte Carlo error is below 1.6 %."""
_FIRST_DRAWS, _COMPARED = 64, 32
"""Number of deviations of all trials, and number of trials that are compared with all deviations.
Engineering choice: bounds the time of a recommendation."""


@one_thread()
def input_yields(
    statement: ProblemStatement, history: History, noisy: bool, points: Array
) -> list[YieldEstimate]:
    """Return the yields, or expected losses, of points ``(n, d)``, without a call.

    Raises:
        InvalidInputError: The problem has no input noise, or there are fewer than two observations.
    """
    return _estimates(_fitted(statement, history, noisy, _DRAWS), points)


@one_thread()
def most_robust(
    statement: ProblemStatement, history: History, noisy: bool
) -> tuple[Trial, YieldEstimate, YieldEstimate | None]:
    """Return the observed trial of the best yield, its estimate, and that of the nominal best one.

    Raises:
        InvalidInputError: See ``input_yields``.
    """
    quality = _fitted(statement, history, noisy, _FIRST_DRAWS)
    ranking = [trial for trial in history.ranking if trial.feasible] or list(history.ranking)
    points = np.array([trial.point for trial in ranking])
    order = np.argsort(-quality.quality(points), kind="stable")[:_COMPARED]
    fine = _fitted(statement, history, noisy, _DRAWS)
    place = int(order[int(np.argmax(fine.quality(points[order])))])
    best = history.best
    nominal = None if best is None else _estimates(fine, best.point[None])[0]
    return ranking[place], _estimates(fine, points[place : place + 1])[0], nominal


def _fitted(statement: ProblemStatement, history: History, noisy: bool, draws: int) -> InputYield:
    if not statement.input_noise:
        raise InvalidInputError(
            f"input_yield: problem {statement.name!r} must have noise of the inputs. Use "
            "Problem(input_noise={...})"
        )
    if len(history.completed) < MIN_OBSERVATIONS:
        raise InvalidInputError(
            f"input_yield: the study must have at least {MIN_OBSERVATIONS} observations, got "
            f"{len(history.completed)}. Run it, or add observations"
        )
    options = RobustOptions(draws=draws, noisy=noisy)
    return fit_input_yield(statement, history, options, seed=0)[0]


def _estimates(quality: InputYield, points: Array) -> list[YieldEstimate]:
    expected, sampled = quality.quality(points), quality.sampled(points)
    error = np.zeros(len(points))
    if quality.target is not None:  # the deviations are a sample, too
        error = Z_90 * np.sqrt(expected * (1.0 - expected) / quality.draws)
    low, high = np.quantile(sampled, [0.05, 0.95], axis=1)
    low, high = np.minimum(low, expected) - error, np.maximum(high, expected) + error
    if quality.target is not None:
        rows = zip(expected, low.clip(0.0), high.clip(max=1.0), strict=True)
        return [YieldEstimate(float(e), float(a), float(b), "yield") for e, a, b in rows]
    rows = zip(-expected, -high, -low, strict=True)
    return [YieldEstimate(float(e), float(a), float(b), "expected loss") for e, a, b in rows]
