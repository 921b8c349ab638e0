"""Doctor: checks of a problem in the order of their importance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Never

import numpy as np

from bo_invert.errors import InvalidInputError, whole_number
from bo_invert.problem_doctor.advice import advise
from bo_invert.problem_doctor.call_budget import BudgetSpent, CallBudget, OracleTimeout
from bo_invert.problem_doctor.findings import DoctorReport, Finding, Severity, error, note, seconds
from bo_invert.problem_doctor.gradient_check import check_gradient
from bo_invert.problem_doctor.objective import (
    check_constraints,
    check_display,
    check_judge,
    check_outputs,
    check_target,
)
from bo_invert.problem_doctor.outputs import ChecksStopped, failures, first_calls, latency
from bo_invert.problem_doctor.repeatability import (
    Repeatability,
    check_batches,
    check_repeatability,
    recheck,
    repeatability_findings,
)
from bo_invert.problem_doctor.space import check_space
from bo_invert.problems.json_diff import differences
from bo_invert.problems.problem import Problem
from bo_invert.problems.provenance import provenance
from bo_invert.types import Array

if TYPE_CHECKING:
    from tqdm import tqdm

    from bo_invert.study.study import Study

CALLS = 30
# Ratio of all calls to gradient calls, dimensionless. Engineering choice: one third of the budget.
_GRADIENT_RATIO = 3
# Budget (count) below which a gradient, two calls, replaces the third draw. Engineering choice.
_SMALL_BUDGET = 8


def doctor(
    problem: Problem,
    calls: int = CALLS,
    *,
    seed: int = 0,
    timeout: float | None = None,
    study: Study | None = None,
    progress: bool = False,
) -> DoctorReport:
    """Check a problem before a study: outputs, repeatability, cost, gradients and method.

    The space needs no oracle calls. The oracle evaluates three draws, one of them again, a gradient
    against finite differences, a batch against single calls, and further draws. The checks stop
    early if no further call can help. Ctrl-C returns the findings so far.

    Args:
        problem: problem to check.
        calls: largest number of oracle calls, values plus gradients; 5 suffice for the most
            important checks. An oracle that retries by itself may exceed it.
        seed: seed of the draws.
        timeout: seconds allowed for one call. The checks end after the first longer call, which
            continues in its thread. ``bi.Isolated`` ends such calls.
        study: study that receives the observations and the bill of all calls; they count in
            ``study.spent`` and in the budget of ``study.run``.
        progress: show a progress bar.

    Returns:
        The report with findings and advice; ``print`` it, display it, or use ``to_json()``.

    Raises:
        InvalidInputError: ``calls`` or ``timeout`` is not positive, or the study's problem differs.
    """
    whole_number("doctor", "calls", calls)
    if timeout is not None and not timeout > 0:
        raise InvalidInputError(
            f"doctor: timeout must be a positive number of seconds, got {timeout!r}"
        )
    if study is not None and (
        changes := differences(study.journal.header["problem"], problem.to_json())
    ):
        raise InvalidInputError(
            f"doctor: study {study.name!r} has another problem: {'; '.join(changes)}"
        )
    found: list[Finding] = []
    with _bar(problem, int(calls), progress) as tick:
        meter = CallBudget(problem, int(calls), timeout, tick)
        checks = _Checks(problem, meter, found, np.random.default_rng(seed))
        finished = checks.run()
    if study is not None and meter.calls_made:
        points, answers, costs = meter.observations(apart=checks.state.sigma is not None)
        study.add(points=points, Y=answers, costs=costs)
    return DoctorReport(
        problem.name,
        tuple(found),
        meter.calls,
        meter.limit,
        meter.seconds,
        checks.judged,
        provenance(problem.oracle, problem.space),
        finished,
    )


class _Checks:
    """Running checks of one report."""

    def __init__(
        self, problem: Problem, meter: CallBudget, found: list[Finding], rng: np.random.Generator
    ) -> None:
        self.problem, self.meter, self.found, self.rng = problem, meter, found, rng
        self.state = Repeatability()
        self.judged = 0

    def run(self) -> bool:
        """Run all checks; return False if they stopped early."""
        try:
            self._all()
        except ChecksStopped:
            return False
        except OracleTimeout:
            self._add(
                error(
                    "oracle.hangs",
                    "a call did not end within "
                    f"{seconds(self.meter.calls_made[-1].seconds)}; the checks stopped",
                    "Use bi.Isolated(oracle, timeout=...), which ends such calls at the cost of "
                    "one attempt",
                )
            )
        except KeyboardInterrupt:
            self._add(note("doctor.interrupted", "the user interrupted the checks"))
        else:
            return True
        if any(one.y is not None for one in self.meter.of("fresh")):
            self._conclude()
        return False

    def _all(self) -> None:
        space = check_space(self.problem, self.rng)
        self._add(*space.findings)
        if len(space.points) < 2:
            raise ChecksStopped
        self._add(*check_display(self.problem, self.problem.space.decode(space.points[:4])))
        if self.problem.oracle is None:
            self._add(
                note("oracle.missing", "the problem has no oracle: designs are evaluated elsewhere")
            )
            return
        queue = list(space.points)
        count = 2 if self.problem.differentiable and self.meter.limit < _SMALL_BUDGET else 3
        first = first_calls(self.meter, queue, self.found, count)
        queue = queue[len(self.meter.of("fresh")) :]
        with _within_budget():
            check_repeatability(self.meter, self.state)
        self._gradient()
        with _within_budget():
            self._add(*check_batches(self.meter, self.state))
        reserve = (
            (2 if self.meter.left > 4 else self.meter.left > 2)
            if self.state.exact and len(first) > 1
            else 0
        )
        self._draws(queue, reserve)
        with _within_budget():
            recheck(self.meter, self.state)
        self._draws(queue, 0)
        self._add(*repeatability_findings(self.meter, self.state))
        self._conclude()
        findings, self.judged = check_judge(self.problem, space.points)
        self._add(*findings)
        if not any(one.severity is Severity.error for one in self.found):
            self._add(*advise(self.problem, self.meter, space, self.state, self.found))

    def _draws(self, queue: list[Array], reserve: int) -> None:
        while queue and self.meter.left > reserve:
            self.meter.ask(queue.pop(0))

    def _gradient(self) -> None:
        most = min(self.meter.left, max(self.meter.limit // _GRADIENT_RATIO, 2))
        if not self.problem.differentiable or most >= 2:
            with _within_budget():
                self._add(*check_gradient(self.meter, self.rng, self.state.exact, most))

    def _conclude(self) -> None:
        """Add the findings that follow from the observations so far."""
        seen = [one for one in self.meter.of("fresh") if one.y is not None]
        self._add(*failures(self.meter), *latency(self.meter))
        self._add(*check_outputs(self.problem, seen))
        self._add(
            *check_target(self.problem, seen, self.state),
            *check_constraints(self.problem, seen),
        )

    def _add(self, *findings: Finding) -> None:
        self.found += findings


@contextmanager
def _within_budget() -> Iterator[None]:
    with suppress(BudgetSpent):
        yield


@contextmanager
def _bar(problem: Problem, calls: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """Yield a callback that receives the number of calls made."""
    if not progress:
        yield lambda made: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=calls, desc=f"doctor {problem.name}", unit="call", dynamic_ncols=True) as bar:
        yield partial(_set, bar)


def _set(bar: tqdm[Never], made: int) -> None:
    bar.n = min(made, bar.total)
    bar.refresh()
