"""Call budget of the doctor: counts, times and records each oracle call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bo_invert.errors import EvaluationError, FailedError, InfeasibleError
from bo_invert.problems.problem import Problem
from bo_invert.types import Array, Cost, Outcome, Query, State, Trial
from bo_invert.user_code import carried

T = TypeVar("T")


class BudgetSpent(Exception):
    """Exhausted call budget."""


class OracleTimeout(Exception):
    """Oracle call beyond the timeout."""


@dataclass(frozen=True, eq=False)
class Call:
    """One evaluated design.

    Args:
        point: point of the design, shape ``(d,)``.
        outcome: outcome with the cost of this call.
        seconds: duration inside the oracle, without decoding.
        kind: ``"fresh"`` for the first call of a draw, ``"again"`` for a repeated one, ``"batch"``,
            ``"gradient"`` or ``"near"`` for a finite difference.
        home: centre of a finite difference; None for other kinds.
    """

    point: Array
    outcome: Outcome
    seconds: float
    kind: str
    home: Array | None = None

    @property
    def y(self) -> Array | None:
        return self.outcome.y


def recorded_calls(trials: Sequence[Trial]) -> list[Call]:
    """Return the ended trials of a study as calls without a cost; repeated points come again."""
    found, seen = list[Call](), set[bytes]()
    for trial in trials:
        outcome, point = trial.outcome, trial.point
        if outcome is None or trial.state.open or trial.state is State.CANCELLED:
            continue
        kind = "again" if point.tobytes() in seen else "fresh"
        seen.add(point.tobytes())
        free = replace(outcome, cost=Cost(), point=None)
        found.append(Call(np.array(point), free, outcome.cost.seconds, kind))
    return found


class CallBudget:
    """Oracle of a problem with a call counter and a timeout.

    Args:
        problem: problem with an oracle.
        limit: largest number of calls.
        timeout: seconds allowed for one call; None for no limit.
        tick: callback that receives the number of calls made, after each call.
        recorded: calls of a study, which cost nothing here.
    """

    def __init__(
        self,
        problem: Problem,
        limit: int,
        timeout: float | None,
        tick: Callable[[int], None],
        recorded: Sequence[Call] = (),
    ) -> None:
        self.problem, self.limit, self._tick = problem, limit, tick
        self._timeout = math.inf if timeout is None else timeout
        self.recorded = len(recorded)
        self.calls_made: list[Call] = [*recorded]

    @property
    def calls(self) -> int:
        return sum(one.outcome.cost.calls for one in self.calls_made)

    @property
    def left(self) -> int:
        return self.limit - self.calls

    @property
    def seconds(self) -> float:
        """Time inside the oracle."""
        return sum(one.seconds for one in self.calls_made[self.recorded :])

    def of(self, *kinds: str) -> list[Call]:
        """Return the calls of these kinds, in order."""
        return [one for one in self.calls_made if one.kind in kinds]

    @property
    def answered(self) -> list[Call]:
        """Draws with outputs, in order."""
        return [one for one in self.of("fresh") if one.y is not None]

    def ask(self, point: Array, kind: str = "fresh", home: Array | None = None) -> Call:
        """Evaluate one design.

        Raises:
            BudgetSpent: no call is left.
            OracleTimeout: the call exceeds the timeout.
        """
        return self.together([point], kind, home)[0]

    def together(
        self, points: Sequence[Array], kind: str = "batch", home: Array | None = None
    ) -> list[Call]:
        """Evaluate designs in one batch.

        A failing batch is evaluated again one design at a time, so a batch needs a reserve of twice
        its size.

        Raises:
            BudgetSpent: too few calls are left.
            OracleTimeout: the batch exceeds the timeout.
        """
        if self.left < (1 if len(points) == 1 else 2 * len(points)):
            raise BudgetSpent
        oracle, outputs = self.problem.oracle, self.problem.output_names.oracle
        assert oracle is not None
        began = time.perf_counter()
        designs = self.problem.space.decode(np.array(points))
        decoding = (time.perf_counter() - began) / len(points)
        answers, each = self._timed(lambda: oracle.answers(designs, outputs), points, Cost(1), kind)
        outcomes = [
            self.problem.outcome(
                answer.outputs_or_error, Cost(answer.calls, 0, each + decoding), point
            )
            for answer, point in zip(answers, points, strict=True)
        ]
        return self._note(
            [
                Call(np.array(point), outcome, each, kind, home)
                for point, outcome in zip(points, outcomes, strict=True)
            ]
        )

    def slope(self, point: Array) -> Call:
        """Evaluate a value and its gradient, two calls.

        Raises:
            BudgetSpent: too few calls are left.
            OracleTimeout: the call exceeds the timeout.
        """
        if self.left < 2:
            raise BudgetSpent
        (outcome,), took = self._timed(
            lambda: self.problem.evaluate([Query(point, gradient=True)]),
            [point],
            Cost(1, 1),
            "gradient",
        )
        return self._note([Call(np.array(point), outcome, took, "gradient")])[0]

    def observations(self, apart: bool) -> tuple[Array, list[Array | EvaluationError], list[Cost]]:
        """Return points ``(n, d)``, their outputs, and costs that sum to the cost of all calls.

        Args:
            apart: return each repeated call as an observation, as for a noisy oracle; otherwise one
                observation per point. Finite differences never are observations.
        """
        found: list[Call] = []
        costs: list[Cost] = []
        places: dict[bytes, int] = {}
        for one in sorted(self.calls_made[self.recorded :], key=lambda one: one.kind == "near"):
            place = places.get((one.point if one.home is None else one.home).tobytes())
            if place is None or (apart and one.kind != "near"):
                places[one.point.tobytes()] = len(found)
                found.append(one)
                costs.append(one.outcome.cost)
            else:
                costs[place] += one.outcome.cost
        points = np.array([one.point for one in found]).reshape(-1, self.problem.space.domain.dim)
        return points, [_answer(one.outcome) for one in found], costs

    def _note(self, new: list[Call]) -> list[Call]:
        self.calls_made += new
        self._tick(self.calls)
        return new

    def _timed(
        self, fn: Callable[[], T], points: Sequence[Array], cost: Cost, kind: str
    ) -> tuple[T, float]:
        """Run ``fn``, with a timeout in a thread; return its result and the seconds per point.

        After the timeout, bill the calls and leave the thread running.
        """
        began = time.perf_counter()
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(fn())
            except BaseException as error:
                future.set_exception(error)

        if math.isinf(self._timeout):
            call()
        else:
            threading.Thread(target=carried(call), daemon=True, name="bo-invert-doctor").start()
            wait([future], self._timeout * len(points))
        if future.done():
            return future.result(), (time.perf_counter() - began) / len(points)
        failed = Outcome(
            State.FAILED, cost=replace(cost, seconds=self._timeout), reason="no answer in time"
        )
        self._note([Call(np.array(point), failed, self._timeout, kind) for point in points])
        raise OracleTimeout


def _answer(outcome: Outcome) -> Array | EvaluationError:
    if outcome.y is not None:
        return outcome.y
    error = InfeasibleError if outcome.state is State.INFEASIBLE else FailedError
    return error(outcome.reason)
