"""Results of a batch of descents on the host: best values, traces, costs and failures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from bo_invert.errors import EvaluationError, FailedError, InfeasibleError
from bo_invert.objectives.base import Objective
from bo_invert.types import Array, Cost, Indices, Mask, Outcome, Query, State


class EvaluatedProblem(Protocol):
    """Part of a problem that results need; ``bo_invert.Problem`` implements it."""

    outputs: tuple[str, ...]
    objective: Objective

    def violations(self, y: Array) -> Array:
        """Return the constraint violations ``(...)`` of outputs ``(..., m)``."""

    def outcome(self, answer: object, cost: Cost, **extra: Any) -> Outcome:
        """Convert raw outputs or an ``EvaluationError`` to an outcome."""

    def evaluate(self, queries: Sequence[Query]) -> list[Outcome]:
        """Evaluate plain queries."""


class Scores(NamedTuple):
    """True losses and constraint violations, NaN and infinite where one is not finite."""

    loss: Array
    violation: Array


class DescentResults:
    """Results of n descents.

    Attributes:
        alive: descents that can move on, shape ``(n,)``.
        seen: descents with a finite value, shape ``(n,)``.
        values: oracle values spent, shape ``(n,)``.
        gradients: gradients spent, shape ``(n,)``.
        loss: best losses, shape ``(n,)``.
        violation: violations of the best values, shape ``(n,)``.
        y: outputs of the best values, shape ``(n, m)``.
        failures: errors by descent.
    """

    def __init__(self, problem: EvaluatedProblem, n: int) -> None:
        self.problem = problem
        self.alive, self.seen = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
        self.values, self.gradients = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
        self.loss, self.violation = np.full(n, np.inf), np.full(n, np.inf)
        self.y = np.full((n, len(problem.outputs)), np.nan)
        self.failures: dict[int, EvaluationError] = {}
        # Losses in the order of the values, and their number: a trace also holds cached values.
        self._trace, self._length = np.empty((n, 0)), np.zeros(n, dtype=int)
        self._started = time.perf_counter()

    def fail(self, row: int, error: BaseException) -> None:
        """End a descent by an error."""
        self.alive[row] = False
        self.failures[int(row)] = (
            error
            if isinstance(error, EvaluationError)
            else FailedError(f"{type(error).__name__}: {error}")
        )

    def forget(self) -> None:
        """Drop all values, but not their costs."""
        self.seen[:], self.loss[:], self.violation[:] = False, np.inf, np.inf
        self._trace[:] = np.nan

    def scores(self, rows: Indices, y: Array) -> Scores:
        """Return the scores of outputs ``(k, a, m)`` of ``rows`` ``(a,)``, shape ``(k, a)``.

        An objective that raises ends the descent.
        """
        flat = y.reshape(-1, y.shape[-1])
        objective, violations = self.problem.objective, self.problem.violations
        with np.errstate(invalid="ignore", over="ignore"):
            try:
                loss, violation = np.array(objective.loss(flat), dtype=float), violations(flat)
            except Exception:
                loss, violation = np.full((2, len(flat)), np.nan)
                for i in np.flatnonzero(np.isfinite(flat).all(axis=1)):
                    try:
                        loss[i], violation[i] = objective.loss(flat[i]), violations(flat[i])
                    except Exception as error:
                        self.fail(rows[i % len(rows)], error)
        usable = np.isfinite(loss) & np.isfinite(violation) & np.isfinite(flat).all(axis=1)
        loss, violation = np.where(usable, loss, np.nan), np.where(usable, violation, np.inf)
        return Scores(loss.reshape(y.shape[:2]), violation.reshape(y.shape[:2]))

    def trace(self, rows: Indices, scores: Scores, counts: Indices) -> None:
        """Append the first ``counts`` ``(a,)`` of the losses ``(k, a)``, NaN if infeasible."""
        first, steps = self._length[rows], len(scores.loss)
        lack = int(first.max(initial=0)) + steps - self._trace.shape[1]
        if lack > 0:
            more = max(lack, self._trace.shape[1])
            self._trace = np.pad(self._trace, ((0, 0), (0, more)), constant_values=np.nan)
        shown = np.where(scores.violation <= 0, scores.loss, np.nan)
        if (first == first[0]).all():  # a slice is faster
            self._trace[rows, first[0] : first[0] + steps] = shown.T
        else:
            self._trace[rows[:, None], first[:, None] + np.arange(steps)] = shown.T
        self._length[rows] += counts

    def improve(self, rows: Indices, y: Array, scores: Scores) -> tuple[Mask, Indices]:
        """Store the best of outputs ``(k, a, m)`` where it is better than the best so far.

        Values rank by violation, then by loss, then by step.

        Returns:
            Mask of the improved ``rows``, and the step ``(a,)`` of the best value of each row.
        """
        loss, violation = np.nan_to_num(scores.loss, nan=np.inf, neginf=-np.inf), scores.violation
        at = np.where(violation > violation.min(0), np.inf, loss).argmin(0)
        columns = np.arange(len(rows))
        best, broken = loss[at, columns], violation[at, columns]
        better = np.isfinite(best) & (
            (broken < self.violation[rows])
            | ((broken == self.violation[rows]) & (best < self.loss[rows]))
        )
        improved = rows[better]
        self.loss[improved], self.violation[improved] = best[better], broken[better]
        self.y[improved], self.seen[improved] = y[at, columns][better], True
        return better, at

    def verify(self, points: Array) -> None:
        """Evaluate points ``(n, d)``, the best ones, with the oracle itself, one value each."""
        for i, outcome in enumerate(self.problem.evaluate([Query(point) for point in points])):
            row, calls = np.array([i]), outcome.cost.values
            y = np.full((max(calls, 1), 1, self.y.shape[1]), np.nan)
            if outcome.y is None:
                infeasible = outcome.state is State.INFEASIBLE
                self.fail(i, (InfeasibleError if infeasible else FailedError)(outcome.reason))
            else:
                y[-1] = outcome.y
            # One entry per call, the last one with the value; a cached value has no call.
            scores = self.scores(row, y)
            self.trace(row, scores, np.array([len(y)]))
            self.improve(row, y, scores)
            self.values[i] += calls

    def outcomes(self, points: Array) -> list[Outcome]:
        """Return the best outcome of each descent, at ``points`` ``(n, d)``, or its failure."""
        seconds = (time.perf_counter() - self._started) / len(points)
        none = FailedError("no value of the descent was finite")
        columns = (self.seen, self.values, self.gradients, self._length, self.loss, self.violation)
        outcomes = []
        for i, (seen, values, gradients, length, loss, violation) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            cost = Cost(values, gradients, seconds)
            extra = {"point": points[i], "trace": self._trace[i, :length]}
            if seen:
                done = Outcome(State.COMPLETED, self.y[i], loss, violation, cost, **extra)
            else:
                done = replace(self.problem.outcome(self.failures.get(i, none), cost), **extra)
            outcomes.append(done)
        return outcomes
