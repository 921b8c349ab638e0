"""Every call that a checkup makes: counted, timed, kept, and never more of them than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from bo_invert.errors import FailedError, InfeasibleError
from bo_invert.problems.problem import Problem
from bo_invert.types import Array, Cost, Outcome, Query, State

T = TypeVar("T")


class Spent(Exception):
    """The calls that were allowed are made."""


class Hung(Exception):
    """The oracle did not answer in time."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One design that was asked for.

    Args:
        point: of the design, shape ``(d,)``.
        outcome: what came of it; its cost is what this asking took.
        seconds: of the oracle alone, decoding not included.
        kind: ``"fresh"`` for a draw asked for the first time, ``"again"``, ``"batch"``, ``"gradient"`` or ``"near"``.
        home: the point it was asked for the sake of, where that is another one.
    """

    point: Array
    outcome: Outcome
    seconds: float
    kind: str
    home: Array | None = None

    @property
    def y(self) -> Array | None:
        return self.outcome.y


class Meter:
    """The oracle of a problem behind a counter.

    Args:
        problem: has an oracle.
        limit: calls in all.
        timeout: seconds that one call may take; None for any time.
        tick: told how many calls were made, after each.
    """

    def __init__(
        self, problem: Problem, limit: int, timeout: float | None, tick: Callable[[int], None]
    ) -> None:
        self.problem, self.limit, self._timeout, self._tick = problem, limit, timeout, tick
        self.seen: list[Seen] = []

    @property
    def calls(self) -> int:
        return sum(one.outcome.cost.calls for one in self.seen)

    @property
    def left(self) -> int:
        return self.limit - self.calls

    @property
    def seconds(self) -> float:
        """Spent in the oracle."""
        return sum(one.seconds for one in self.seen)

    def of(self, *kinds: str) -> list[Seen]:
        """What was asked for of these kinds, in order."""
        return [one for one in self.seen if one.kind in kinds]

    def ask(self, point: Array, kind: str = "fresh", home: Array | None = None) -> Seen:
        """One design, alone.

        Raises:
            Spent: no call is left.
            Hung: there was no answer in time.
        """
        return self.together([point], kind, home)[0]

    def together(
        self, points: Sequence[Array], kind: str = "batch", home: Array | None = None
    ) -> list[Seen]:
        """Designs in one piece.

        An oracle that fails on a batch is asked for each design alone, so a batch is begun only if twice as many calls
        are left.

        Raises:
            Spent: too few calls are left.
            Hung: there was no answer in time.
        """
        needed = len(points) if len(points) == 1 else 2 * len(points)
        if self.left < needed:
            raise Spent
        oracle, outputs = self.problem.oracle, self.problem.outputs
        assert oracle is not None
        began = time.perf_counter()
        designs = self.problem.space.decode(np.array(points))
        decoding = (time.perf_counter() - began) / len(points)
        began = time.perf_counter()
        answers = self._in_time(lambda: oracle.answers(designs, outputs), points, Cost(1), kind)
        each = (time.perf_counter() - began) / len(points)
        new = []
        for point, answer in zip(points, answers, strict=True):
            said: Any = answer.y if answer.verdict is None else answer.verdict
            outcome = self.problem.outcome(said, Cost(answer.calls, 0, each + decoding))
            new.append(Seen(np.array(point), outcome, each, kind, home))
        return self._note(new)

    def slope(self, point: Array) -> Seen:
        """A value and a gradient; two calls.

        Raises:
            Spent: too few calls are left.
            Hung: there was no answer in time.
        """
        if self.left < 2:
            raise Spent
        began = time.perf_counter()
        outcome = self._in_time(
            lambda: self.problem.evaluate([Query(point, gradient=True)])[0],
            [point],
            Cost(1, 1),
            "gradient",
        )
        took = time.perf_counter() - began
        return self._note([Seen(np.array(point), outcome, took, "gradient")])[0]

    def observations(self, apart: bool) -> tuple[Array, list[Any], list[Cost]]:
        """Points ``(n, d)``, their answers, and what was spent on each: all calls are in one of the bills.

        Args:
            apart: whether every answer is an observation of its own, as those of a noisy oracle are; otherwise a point
                that was asked several times is one. Points very near to another one, which finite differences need,
                never are.
        """
        found: list[Seen] = []
        places: dict[bytes, int] = {}
        for one in sorted(self.seen, key=lambda one: one.kind == "near"):
            place = places.get((one.point if one.home is None else one.home).tobytes())
            if place is None or (apart and one.kind != "near"):
                places[one.point.tobytes()] = len(found)
                found.append(one)
            else:
                cost = found[place].outcome.cost + one.outcome.cost
                found[place] = replace(
                    found[place], outcome=replace(found[place].outcome, cost=cost)
                )
        points = np.array([one.point for one in found]).reshape(
            len(found), self.problem.space.domain.dim
        )
        return points, [_answer(one.outcome) for one in found], [one.outcome.cost for one in found]

    def _note(self, new: list[Seen]) -> list[Seen]:
        self.seen += new
        self._tick(self.calls)
        return new

    def _in_time(self, fn: Callable[[], T], points: Sequence[Array], cost: Cost, kind: str) -> T:
        """What ``fn`` gives; it runs beside, and where it does not end it is left there, and its calls are billed."""
        if self._timeout is None:
            return fn()
        found: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                found.append(fn())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=call, daemon=True, name="bo-invert-checkup")
        thread.start()
        thread.join(self._timeout * len(points))
        if thread.is_alive():
            failed = Outcome(
                State.FAILED, cost=replace(cost, seconds=self._timeout), reason="no answer in time"
            )
            self._note([Seen(np.array(point), failed, self._timeout, kind) for point in points])
            raise Hung
        if errors:
            raise errors[0]
        return found[0]


def _answer(outcome: Outcome) -> Any:
    if outcome.y is not None:
        return outcome.y
    return (
        InfeasibleError(outcome.reason)
        if outcome.state is State.INFEASIBLE
        else FailedError(outcome.reason)
    )
