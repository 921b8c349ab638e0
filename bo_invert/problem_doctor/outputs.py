"""Checks of oracle outputs: format, failures and latency."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bo_invert.oracles.base import MISMATCH
from bo_invert.problem_doctor.call_budget import Call, CallBudget
from bo_invert.problem_doctor.findings import (
    Finding,
    error,
    every,
    note,
    ok,
    seconds,
    share,
    warning,
)
from bo_invert.types import Array, State

# Ratio of the first call's duration to the median, dimensionless. Engineering choice.
_SLOW_START = 5.0

FAILURES = {
    "oracle.infeasible": (
        "are infeasible",
        "The feasibility model learns to avoid them. Narrow the space if the share is large",
    ),
    "oracle.not_finite": (
        "returned NaN or infinity",
        "They count as failures. Raise bi.InfeasibleError if a retry cannot succeed",
    ),
    "oracle.fails": (
        "failed",
        (
            "Raise bi.InfeasibleError if a retry cannot succeed. Use run(retries=2) for random "
            "failures and bi.Isolated(oracle, timeout=...) for crashes and hangs"
        ),
    ),
}
"""Predicate and remedy of each kind of call without outputs, by code."""


class ChecksStopped(Exception):
    """Error after which further calls are useless; the argument is its finding."""


def first_calls(meter: CallBudget, queue: list[Array], count: int) -> None:
    """Evaluate the first designs of the queue, ``count`` of them if they succeed.

    Raises:
        ChecksStopped: outputs do not match the problem, or every call fails.
    """
    seen: list[Call] = []
    while queue and len(seen) < count and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        reasons = [one.outcome.reason for one in seen]
        if len(seen) == 2 and all(reason.startswith(MISMATCH) for reason in reasons):
            raise ChecksStopped(
                error(
                    "oracle.misfit",
                    f"outputs do not match the problem: {reasons[1].removeprefix(MISMATCH)}",
                    "Correct Problem(outputs=...), or the return value of the oracle",
                )
            )
    if meter.answered:
        return
    oracle = meter.problem.oracle
    batched = oracle is not None and oracle.batched and meter.left >= 4 and len(queue) >= 2
    if batched and all(one.y is not None for one in meter.together(queue[:2])):
        raise ChecksStopped(
            error(
                "oracle.batch_only",
                f"two designs in a batch succeed, one design alone fails: {reasons[-1]}",
                "Make the oracle accept a batch of one; set batch normalisation to evaluation mode",
            )
        )
    while queue and len(seen) < 6 and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        if seen[-1].y is not None:
            return
    raise ChecksStopped(
        (error if len(seen) >= 3 else warning)(
            "oracle.never_answers",
            f"all {len(seen)} evaluated designs gave no outputs: {seen[-1].outcome.reason}",
            "Run the oracle on one design by hand, then run the doctor again",
            asked=len(seen),
        )
    )


def latency(meter: CallBudget) -> list[Finding]:
    """Report the duration of a call, and of the first call."""
    # Data of the user have no duration.
    alone = [one.seconds for one in meter.of("fresh") if one.seconds > 0.0]
    if not alone:
        return []
    times = np.array(alone[1:] or alone)
    median, least, most = float(np.median(times)), float(times.min()), float(times.max())
    span = f" ({seconds(least)} to {seconds(most)})" if len(times) > 2 else ""
    numbers = {"median": median, "least": least, "most": most, "first": alone[0]}
    return every(
        (True, ok("oracle.latency", f"a call takes {seconds(median)}{span}", **numbers)),
        (
            len(alone) > 1 and alone[0] > max(_SLOW_START * median, median + 0.05),
            note(
                "oracle.first_call",
                f"the first call took {seconds(alone[0])}, later ones {seconds(median)}",
                "Each worker pays this once. Load models when the oracle is constructed",
                first=alone[0],
                median=median,
            ),
        ),
        (
            len(times) >= 6 and most > max(5.0 * median, 0.5),
            note(
                "oracle.uneven",
                f"the slowest call took {most / max(median, 1e-9):.0f} times the median",
                "Use several workers (batch=4, executor=...) and give the oracle a timeout",
                **numbers,
            ),
        ),
    )


def failures(meter: CallBudget) -> list[Finding]:
    """Report the draws without outputs and the most common reason."""
    fresh = meter.of("fresh")
    found = []
    for code, (predicate, remedy) in FAILURES.items():
        reasons = Counter(one.outcome.reason[:120] for one in fresh if _failure(one) == code)
        if reasons:
            count = reasons.total()
            found.append(
                (warning if 5 * count >= len(fresh) else note)(
                    code,
                    f"{share(count, len(fresh))} draws {predicate}: {reasons.most_common(1)[0][0]}",
                    remedy,
                    of=len(fresh),
                    count=count,
                )
            )
    return found or [ok("oracle.answers", f"all {len(fresh)} draws gave outputs", of=len(fresh))]


def _failure(one: Call) -> str:
    """Return the code of a call without outputs; empty for other calls."""
    if one.outcome.state is not State.FAILED:
        return "oracle.infeasible" if one.outcome.state is State.INFEASIBLE else ""
    return "oracle.not_finite" if "is not finite" in one.outcome.reason else "oracle.fails"
