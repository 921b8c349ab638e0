"""The order in which things are looked at: what decides whether a study makes sense comes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InvalidInputError, whole_number
from bo_invert.problem_doctor.advice import advise
from bo_invert.problem_doctor.call_budget import Hung, Meter, Spent
from bo_invert.problem_doctor.findings import DoctorReport, Finding, Severity, error, note, seconds
from bo_invert.problem_doctor.gradient_check import look_at_gradient
from bo_invert.problem_doctor.objective import (
    look_at_constraints,
    look_at_judge,
    look_at_outputs,
    look_at_pictures,
    look_at_target,
)
from bo_invert.problem_doctor.outputs import Hopeless, failures, first_answers, latency
from bo_invert.problem_doctor.repeatability import (
    Steadiness,
    batches,
    last_look,
    steadiness,
    tell_steadiness,
)
from bo_invert.problem_doctor.space import look_at_space
from bo_invert.problems.json_diff import differences
from bo_invert.problems.problem import Problem
from bo_invert.problems.provenance import provenance
from bo_invert.types import Array

if TYPE_CHECKING:
    from bo_invert.study.study import Study

CALLS = 30
_SHARE = 3
"""At most one in so many calls goes to the gradient."""
_SMALL = 8
"""With fewer calls than this a gradient, which takes two, is worth more than a third draw."""


def doctor(
    problem: Problem,
    calls: int = CALLS,
    *,
    seed: int = 0,
    timeout: float | None = None,
    study: Study | None = None,
    progress: bool = False,
) -> DoctorReport:
    """Look at a problem before money is spent: does the oracle fit, is it steady, what does it cost, what suits it.

    The space is looked at without calls. Then the oracle is asked, most important things first: three draws, one of
    them again, its gradient beside finite differences, a batch beside single answers, and further draws. It stops
    early where nothing can help. An interruption (Ctrl-C) returns what was learnt by then.

    Args:
        problem: what is to be inverted.
        calls: of the oracle at most, gradients included; 5 do for the most important things. An oracle that repeats
            calls by itself bills them, and is not stopped in the middle.
        seed: of the draws.
        timeout: seconds that one call may take. After the first that takes longer the checkup ends; the call is left
            to itself, as a thread cannot be stopped. ``bi.Isolated`` stops such calls.
        study: takes what was answered, and is billed for every call: they count in ``study.spent`` and use up the
            budget of ``study.run``, as they would have there. Finite differences are on the bill of their point.
        progress: show a bar of calls.

    Returns:
        What was found, with advice; shown by ``print``, in notebooks, or as ``to_json()``.

    Raises:
        InvalidInputError: no call is allowed, or the study is about another problem.
    """
    whole_number("doctor", "calls", calls)
    if timeout is not None and not timeout > 0:
        raise InvalidInputError(f"doctor: timeout is a number of seconds > 0, got {timeout!r}")
    if study is not None and (
        changes := differences(study.journal.header["problem"], problem.to_json())
    ):
        raise InvalidInputError(
            f"doctor: study {study.name!r} is about another problem: {'; '.join(changes)}"
        )
    found: list[Finding] = []
    with _bar(problem, int(calls), progress) as tick:
        meter = Meter(problem, int(calls), timeout, tick)
        looks = _Looks(problem, meter, found, np.random.default_rng(seed))
        finished = looks.run()
    if study is not None and meter.seen:
        points, answers, costs = meter.observations(apart=looks.state.sigma is not None)
        study.add(points=points, Y=answers, costs=costs)
    return DoctorReport(
        problem.name,
        tuple(found),
        meter.calls,
        meter.limit,
        meter.seconds,
        looks.judged,
        provenance(problem.oracle, problem.space),
        finished,
    )


class _Looks:
    """One checkup under way."""

    def __init__(
        self, problem: Problem, meter: Meter, found: list[Finding], rng: np.random.Generator
    ) -> None:
        self.problem, self.meter, self.found, self.rng = problem, meter, found, rng
        self.state = Steadiness()
        self.judged = 0

    def run(self) -> bool:
        """Whether all was looked at."""
        try:
            self._all()
        except Hopeless:
            return False
        except Hung:
            self._tell(
                error(
                    "oracle.hangs",
                    f"a call did not end within {seconds(self.meter.seen[-1].seconds)}; nothing more was asked",
                    "bi.Isolated(oracle, timeout=...) ends such calls, at the cost of one attempt each",
                )
            )
        except KeyboardInterrupt:
            self._tell(
                note("doctor.interrupted", "it was interrupted; this is what was learnt by then")
            )
        else:
            return True
        if any(one.y is not None for one in self.meter.of("fresh")):
            self._conclude()
        return False

    def _all(self) -> None:
        looked = look_at_space(self.problem, self.rng)
        self._tell(*looked.findings)
        if len(looked.points) < 2:
            raise Hopeless
        self._tell(*look_at_pictures(self.problem, self.problem.space.decode(looked.points[:4])))
        if self.problem.oracle is None:
            self._tell(
                note("oracle.missing", "there is no oracle to ask: designs are evaluated elsewhere")
            )
            return
        queue = list(looked.points)
        count = 2 if self.problem.differentiable and self.meter.limit < _SMALL else 3
        first = first_answers(self.meter, queue, self.found, count)
        queue = queue[len(self.meter.of("fresh")) :]
        with _as_far_as_calls_go():
            steadiness(self.meter, self.state)
        self._gradient()
        with _as_far_as_calls_go():
            self._tell(*batches(self.meter, self.state))
        reserve = (
            (2 if self.meter.left > 4 else self.meter.left > 2)
            if self.state.exact and len(first) > 1
            else 0
        )
        self._draws(queue, reserve)
        with _as_far_as_calls_go():
            last_look(self.meter, self.state)
        self._draws(queue, 0)
        self._tell(*tell_steadiness(self.meter, self.state))
        self._conclude()
        findings, self.judged = look_at_judge(self.problem, looked.points)
        self._tell(*findings)
        if not any(one.severity is Severity.error for one in self.found):
            self._tell(*advise(self.problem, self.meter, looked, self.state, self.found))

    def _draws(self, queue: list[Array], reserve: int) -> None:
        while queue and self.meter.left > reserve:
            self.meter.ask(queue.pop(0))

    def _gradient(self) -> None:
        most = min(self.meter.left, max(self.meter.limit // _SHARE, 2))
        if not self.problem.differentiable or most >= 2:
            with _as_far_as_calls_go():
                self._tell(*look_at_gradient(self.meter, self.rng, self.state.exact, most))

    def _conclude(self) -> None:
        """What follows from the answers there are."""
        seen = [one for one in self.meter.of("fresh") if one.y is not None]
        self._tell(*failures(self.meter), *latency(self.meter))
        self._tell(*look_at_outputs(self.problem, seen))
        self._tell(
            *look_at_target(self.problem, seen, self.state),
            *look_at_constraints(self.problem, seen),
        )

    def _tell(self, *findings: Finding) -> None:
        self.found += findings


@contextmanager
def _as_far_as_calls_go() -> Iterator[None]:
    with suppress(Spent):
        yield


@contextmanager
def _bar(problem: Problem, calls: int, progress: bool) -> Iterator[Any]:
    """Something to tell the number of calls made."""
    if not progress:
        yield lambda made: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=calls, desc=f"doctor {problem.name}", unit="call", dynamic_ncols=True) as bar:
        yield partial(_set, bar)


def _set(bar: Any, made: int) -> None:
    bar.n = min(made, bar.total)
    bar.refresh()
