"""Yield, or expected loss, of designs under noise of their inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.base import Z_90
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.inverse.input_yield import InputYield
from bo_invert.models.inverse.robust_fit import RobustOptions, fit_input_yield
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.study.posterior import MIN_OBSERVATIONS
from bo_invert.study.yield_estimate import YieldEstimate
from bo_invert.types import Array, Trial

_DRAWS = 1024
"""Number of deviations of a design. Engineering choice: the Monte Carlo error is below 1.6 %."""
_FIRST_DRAWS, _COMPARED = 64, 32
"""Number of deviations of all trials, and number of trials that are compared with all deviations.
Engineering choice: bounds the time of a recommendation."""


@dataclass(frozen=True, eq=False)
class FittedYields:
    """Yields of designs under a model of all observations.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: Repeated calls at a point differ.

    Raises:
        InvalidInputError: The problem has no input noise, or there are fewer than two observations.
    """

    statement: ProblemStatement
    history: History
    noisy: bool

    def __post_init__(self) -> None:
        name, known = self.statement.name, len(self.history.completed)
        if not self.statement.input_noise:
            raise InvalidInputError(
                f"input_yield: problem {name!r} must have noise of the inputs. Use "
                "Problem(input_noise={...})"
            )
        if known < MIN_OBSERVATIONS:
            raise InvalidInputError(
                f"input_yield: the study must have at least {MIN_OBSERVATIONS} observations, got "
                f"{known}. Run it, or add observations"
            )

    @one_thread()
    def of(self, points: Array) -> list[YieldEstimate]:
        """Return the yields, or expected losses, of points ``(n, d)``."""
        quality = self._quality
        expected = quality.quality(points)
        low, high = quality.interval(points)
        error = np.zeros(len(points))
        if quality.target is not None:  # the deviations are a sample, too
            error = Z_90 * np.sqrt(expected * (1.0 - expected) / quality.draws)
        low, high = np.minimum(low, expected) - error, np.maximum(high, expected) + error
        if quality.target is not None:
            rows = zip(expected, low.clip(0.0), high.clip(max=1.0), strict=True)
            return [YieldEstimate(float(e), float(a), float(b), "yield") for e, a, b in rows]
        rows = zip(-expected, -high, -low, strict=True)
        return [YieldEstimate(float(e), float(a), float(b), "expected loss") for e, a, b in rows]

    @one_thread()
    def best(self) -> tuple[Trial, YieldEstimate, YieldEstimate | None]:
        """Return the trial of the best yield, its estimate, and that of the nominal best one."""
        history, quality = self.history, self._quality
        ranking = [trial for trial in history.ranking if trial.feasible] or list(history.ranking)
        points = np.array([trial.point for trial in ranking])
        coarse = replace(quality, draws=_FIRST_DRAWS)
        order = np.argsort(-coarse.quality(points), kind="stable")[:_COMPARED]
        place = int(order[int(np.argmax(quality.quality(points[order])))])
        nominal = None if history.best is None else self.of(history.best.point[None])[0]
        return ranking[place], self.of(points[place : place + 1])[0], nominal

    @cached_property
    def _quality(self) -> InputYield:
        options = RobustOptions(draws=_DRAWS, noisy=self.noisy)
        return fit_input_yield(self.statement, self.history, options, seed=0)[0]
