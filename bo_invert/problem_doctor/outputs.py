"""Checks of oracle outputs: format, failures and latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bo_invert.oracles.base import MISMATCH
from bo_invert.problem_doctor.call_budget import Call, CallBudget
from bo_invert.problem_doctor.findings import Finding, error, note, ok, seconds, share, warning
from bo_invert.types import Array, State

# Ratio of the first call's duration to the median, dimensionless. Engineering choice.
_SLOW_START = 5.0


class ChecksStopped(Exception):
    """Error finding after which further calls are useless."""


def first_calls(
    meter: CallBudget, points: Sequence[Array], found: list[Finding], count: int = 3
) -> list[Call]:
    """Evaluate the first designs, ``count`` of them if they succeed.

    Raises:
        ChecksStopped: outputs do not match the problem, or every call fails.
    """
    queue = list(points)
    seen: list[Call] = []
    while queue and len(seen) < count and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        misfits = [one for one in seen if one.outcome.reason.startswith(MISMATCH)]
        if len(misfits) == len(seen) == 2:
            reason = misfits[-1].outcome.reason.removeprefix(MISMATCH)
            found.append(
                error(
                    "oracle.misfit",
                    f"outputs do not match the problem: {reason}",
                    "Correct Problem(outputs=...), or the return value of the oracle",
                )
            )
            raise ChecksStopped
    if any(one.y is not None for one in seen):
        return seen
    oracle = meter.problem.oracle
    if oracle is not None and oracle.batched and meter.left >= 4 and len(queue) >= 2:
        together = meter.together(queue[:2])
        if all(one.y is not None for one in together):
            found.append(
                error(
                    "oracle.batch_only",
                    "two designs in a batch succeed, one design alone fails: "
                    f"{seen[-1].outcome.reason}",
                    "Make the oracle accept a batch of one; set batch normalisation to evaluation "
                    "mode",
                )
            )
            raise ChecksStopped
    while queue and len(seen) < 6 and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        if seen[-1].y is not None:
            return seen
    level = error if len(seen) >= 3 else warning
    found.append(
        level(
            "oracle.never_answers",
            f"all {len(seen)} evaluated designs gave no outputs: {seen[-1].outcome.reason}",
            "Run the oracle on one design by hand, then run the doctor again",
            asked=len(seen),
        )
    )
    raise ChecksStopped


def latency(meter: CallBudget) -> list[Finding]:
    """Report the duration of a call, and of the first call."""
    alone = meter.of("fresh")
    times = np.array([one.seconds for one in alone[1:]] or [one.seconds for one in alone])
    median, first = float(np.median(times)), alone[0].seconds
    words = f"a call takes {seconds(median)}" + (
        f" ({seconds(float(times.min()))} to {seconds(float(times.max()))})"
        if len(times) > 2
        else ""
    )
    numbers = {
        "median": median,
        "least": float(times.min()),
        "most": float(times.max()),
        "first": first,
    }
    found = [ok("oracle.latency", words, **numbers)]
    if len(alone) > 1 and first > _SLOW_START * median and first - median > 0.05:
        found.append(
            note(
                "oracle.first_call",
                f"the first call took {seconds(first)}, later ones {seconds(median)}",
                "Each worker pays this once. Load models when the oracle is constructed",
                first=first,
                median=median,
            )
        )
    if len(times) >= 6 and times.max() > 5.0 * median and times.max() > 0.5:
        found.append(
            note(
                "oracle.uneven",
                f"the slowest call took {times.max() / median:.0f} times the median",
                "Use several workers (batch=4, executor=...) and give the oracle a timeout",
                **numbers,
            )
        )
    return found


def failures(meter: CallBudget) -> list[Finding]:
    """Report the draws without outputs and the most common reason."""
    fresh = meter.of("fresh")
    kinds = {
        "oracle.infeasible": [s for s in fresh if s.outcome.state is State.INFEASIBLE],
        "oracle.not_finite": [s for s in fresh if _not_finite(s)],
        "oracle.fails": [
            s for s in fresh if s.outcome.state is State.FAILED and not _not_finite(s)
        ],
    }
    words = {
        "oracle.infeasible": "are infeasible",
        "oracle.not_finite": "returned NaN or infinity",
        "oracle.fails": "failed",
    }
    remedies = {
        "oracle.infeasible": "The feasibility model learns to avoid them. Narrow the space if the "
        "share is large",
        "oracle.not_finite": "They count as failures. Raise bi.InfeasibleError if a retry cannot "
        "succeed",
        "oracle.fails": "Raise bi.InfeasibleError if a retry cannot succeed. Use run(retries=2) "
        "for random "
        "failures and bi.Isolated(oracle, timeout=...) for crashes and hangs",
    }
    found = []
    for code, seen in kinds.items():
        if seen:
            reason = Counter(one.outcome.reason[:120] for one in seen).most_common(1)[0][0]
            level = warning if 5 * len(seen) >= len(fresh) else note
            found.append(
                level(
                    code,
                    f"{share(len(seen), len(fresh))} draws {words[code]}: {reason}",
                    remedies[code],
                    of=len(fresh),
                    count=len(seen),
                )
            )
    return found or [ok("oracle.answers", f"all {len(fresh)} draws gave outputs", of=len(fresh))]


def _not_finite(one: Call) -> bool:
    return one.outcome.state is State.FAILED and "is not finite" in one.outcome.reason
