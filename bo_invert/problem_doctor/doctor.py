"""Doctor: checks of a problem in the order of their importance."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError, bar_options, printable
from bo_invert.oracles.base import time_limit
from bo_invert.problem_doctor.advice import advise
from bo_invert.problem_doctor.call_budget import (
    BudgetSpent,
    CallBudget,
    OracleTimeout,
    recorded_calls,
)
from bo_invert.problem_doctor.findings import DoctorReport, Finding, Severity, error, note, seconds
from bo_invert.problem_doctor.gradient_check import check_gradient
from bo_invert.problem_doctor.objective import (
    check_constraints,
    check_judge,
    check_outputs,
    check_target,
)
from bo_invert.problem_doctor.outputs import ChecksStopped, failures, first_calls, latency
from bo_invert.problem_doctor.pictures import check_display
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
from bo_invert.problems.recorded_versions import provenance
from bo_invert.types import Array
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number

if TYPE_CHECKING:
    from bo_invert.study.study import Study

CALLS = 30
# Ratio of all calls to gradient calls, dimensionless. Engineering choice: one third of the budget.
_GRADIENT_RATIO = 3
# Budget (count) below which a gradient, two calls, replaces the third draw. Engineering choice.
_SMALL_BUDGET = 8
# Recorded trials (count) from which no further draws are made. Engineering choice: as many as draws
# of a default budget.
_ENOUGH = 20


@own_settings()
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
            important checks. An oracle that retries by itself may exceed it. With ``study``, 0
            checks the recorded trials alone.
        seed: seed of the draws.
        timeout: seconds allowed for one call. The checks end after the first longer call, which
            continues in its thread. ``bi.Isolated`` ends such calls.
        study: study whose trials replace new calls: they serve as draws, repeated points as
            repeated calls. It receives the observations and the bill of all new calls; they count
            in ``study.spent`` and in the budget of ``study.run``.
        progress: show a progress bar.

    Returns:
        The report with findings and advice; ``print`` it, display it, or use ``to_json()``.

    Raises:
        InvalidInputError: ``calls`` or ``timeout`` is not positive, or the study's problem differs.
    """
    calls = whole_number("doctor", "calls", calls, 1 if study is None else 0)
    seed = whole_number("doctor", "seed", seed, 0)
    timeout = time_limit("doctor", "timeout", timeout)
    if study is not None and (
        changes := differences(study.journal.header["problem"], problem.to_json())
    ):
        raise InvalidInputError(
            f"doctor: study {study.name!r} has another problem: {'; '.join(changes)}"
        )
    from tqdm.auto import tqdm

    with tqdm(
        total=calls, desc=printable(f"doctor {problem.name}"), unit="call",
        dynamic_ncols=True, **bar_options(progress),
    ) as bar:  # fmt: skip

        def tick(made: int) -> None:
            bar.n = min(made, bar.total)
            bar.refresh()

        recorded = [] if study is None else recorded_calls(study.trials)
        meter = CallBudget(problem, calls, timeout, tick, recorded)
        checks = _Checks(problem, meter, np.random.default_rng(seed))
        finished = checks.run()
    if study is not None and len(meter.calls_made) > meter.recorded:
        points, answers, costs = meter.observations(apart=checks.state.sigma is not None)
        study.add(points=points, Y=answers, costs=costs)
    return DoctorReport(
        problem.name,
        tuple(checks.found),
        meter.calls,
        meter.limit,
        meter.seconds,
        checks.judged,
        provenance(problem.oracle, problem.space),
        finished,
    )


class _Checks:
    """Running checks of one report."""

    def __init__(self, problem: Problem, meter: CallBudget, rng: np.random.Generator) -> None:
        self.problem, self.meter, self.rng = problem, meter, rng
        self.found: list[Finding] = []
        self.state = Repeatability()
        self.judged = 0

    def run(self) -> bool:
        """Run all checks; return False if they stopped early."""
        try:
            self._all()
            return True
        except ChecksStopped as stop:
            self.found += stop.args
            return False
        except OracleTimeout:
            stopped = error(
                "oracle.hangs",
                f"a call did not end within {seconds(self.meter.calls_made[-1].seconds)}; the "
                "checks stopped",
                "Use bi.Isolated(oracle, timeout=...), which ends such calls at the cost of one "
                "attempt",
            )
        except KeyboardInterrupt:
            stopped = note("doctor.interrupted", "the user interrupted the checks")
        self.found.append(stopped)
        if self.meter.answered:
            self._conclude()
        return False

    def _all(self) -> None:
        problem, meter, found = self.problem, self.meter, self.found
        space = check_space(problem, self.rng)
        found += space.findings
        if len(space.points) < 2:
            raise ChecksStopped
        found += check_display(problem, problem.space.decode(space.points[:16]))
        if problem.oracle is None:
            found.append(
                note("oracle.missing", "the problem has no oracle: designs are evaluated elsewhere")
            )
            return
        if meter.recorded:
            text = f"{meter.recorded} recorded trials of the study replace new calls"
            found.append(note("study.recorded", text, count=meter.recorded))
        few_calls = problem.differentiable and meter.limit < _SMALL_BUDGET
        queue = list(space.points)
        missing = (2 if few_calls else 3) - len(meter.answered)
        if missing > 0:
            first_calls(meter, queue, missing)
        with suppress(BudgetSpent):
            check_repeatability(meter, self.state)
        with suppress(BudgetSpent):
            most = min(meter.left, max(meter.limit // _GRADIENT_RATIO, 2))
            found += check_gradient(meter, self.rng, self.state.exact, most)
        with suppress(BudgetSpent):
            found += check_batches(meter, self.state)
        # Two calls recheck an early design; with few calls left, draws are worth more.
        spare = max(0, min(2, (meter.left - 1) // 2))
        self._draws(queue, spare if self.state.exact and len(meter.of("fresh")) > 1 else 0)
        with suppress(BudgetSpent):
            recheck(meter, self.state)
        self._draws(queue)
        found += repeatability_findings(meter, self.state)
        self._conclude()
        findings, self.judged = check_judge(problem, space.points)
        found += findings
        if not any(one.severity is Severity.error for one in found):
            found += advise(problem, meter, space, self.state, found)

    def _draws(self, queue: list[Array], reserve: int = 0) -> None:
        meter = self.meter
        while (
            queue and meter.left > reserve and not len(meter.answered) >= _ENOUGH <= meter.recorded
        ):
            self.meter.ask(queue.pop(0))

    def _conclude(self) -> None:
        """Add the findings that follow from the observations so far."""
        seen = self.meter.answered
        self.found += [
            *failures(self.meter),
            *latency(self.meter),
            *check_outputs(self.problem, seen),
            *check_target(self.problem, seen, self.state),
            *check_constraints(self.problem, seen),
        ]
