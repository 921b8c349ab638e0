"""What an oracle answers: whether it fits, what fails, how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bo_invert.oracles.base import MISFIT
from bo_invert.problem_doctor.call_budget import Meter, Seen
from bo_invert.problem_doctor.findings import Finding, error, note, ok, seconds, share, warning
from bo_invert.types import Array, State

_SLOW_START = 5.0
"""A first call that takes so many times as long as the others."""


class Hopeless(Exception):
    """No further call can help."""


def first_answers(
    meter: Meter, points: Sequence[Array], found: list[Finding], count: int = 3
) -> list[Seen]:
    """Ask for a few designs, ``count`` of them if they are answered.

    Raises:
        Hopeless: answers do not fit the problem, or there are none.
    """
    queue = list(points)
    seen: list[Seen] = []
    while queue and len(seen) < count and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        misfits = [one for one in seen if one.outcome.reason.startswith(MISFIT)]
        if len(misfits) == len(seen) == 2:
            said = misfits[-1].outcome.reason.removeprefix(MISFIT)
            found.append(
                error(
                    "oracle.misfit",
                    f"answers do not fit the problem: {said}",
                    "Mend the problem's outputs, or what the oracle returns",
                )
            )
            raise Hopeless
    if any(one.y is not None for one in seen):
        return seen
    oracle = meter.problem.oracle
    if oracle is not None and oracle.batched and meter.left >= 4 and len(queue) >= 2:
        together = meter.together(queue[:2])
        if all(one.y is not None for one in together):
            found.append(
                error(
                    "oracle.batch_only",
                    f"designs are answered two at a time, and fail alone: {seen[-1].outcome.reason}",
                    "Let the oracle take a batch of one; batch normalisation belongs into evaluation mode",
                )
            )
            raise Hopeless
    while queue and len(seen) < 6 and meter.left > 0:
        seen.append(meter.ask(queue.pop(0)))
        if seen[-1].y is not None:
            return seen
    tell = error if len(seen) >= 3 else warning
    found.append(
        tell(
            "oracle.never_answers",
            f"{share(len(seen), len(seen))} designs asked for gave no outputs: {seen[-1].outcome.reason}",
            "Run it on one design by hand, then look again",
            {"asked": len(seen)},
        )
    )
    raise Hopeless


def latency(meter: Meter) -> list[Finding]:
    """How long a call takes, the first apart."""
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
    found = [ok("oracle.latency", words, "", numbers)]
    if len(alone) > 1 and first > _SLOW_START * median and first - median > 0.05:
        found.append(
            note(
                "oracle.first_call",
                f"the first call took {seconds(first)}, later ones {seconds(median)}",
                "Whoever starts workers waits for that once in each: load things when the oracle is made",
                {"first": first, "median": median},
            )
        )
    if len(times) >= 6 and times.max() > 5.0 * median and times.max() > 0.5:
        found.append(
            note(
                "oracle.uneven",
                f"the slowest call took {times.max() / median:.0f} times the usual",
                "With several workers (batch=4, executor=...) nobody waits for the slowest, but give the "
                "oracle a timeout",
                numbers,
            )
        )
    return found


def failures(meter: Meter) -> list[Finding]:
    """Which draws gave no outputs, and why."""
    fresh = meter.of("fresh")
    kinds = {
        "oracle.infeasible": [s for s in fresh if s.outcome.state is State.INFEASIBLE],
        "oracle.not_finite": [s for s in fresh if _not_finite(s)],
        "oracle.fails": [
            s for s in fresh if s.outcome.state is State.FAILED and not _not_finite(s)
        ],
    }
    words = {
        "oracle.infeasible": "were called infeasible",
        "oracle.not_finite": "gave NaN or infinity",
        "oracle.fails": "failed",
    }
    remedies = {
        "oracle.infeasible": "They are billed and teach a model where not to ask; narrow the space if they are many",
        "oracle.not_finite": "They count as failures. If such a design can never be evaluated, raise bi.InfeasibleError",
        "oracle.fails": "raise bi.InfeasibleError where a design can never be evaluated; run(retries=2) where it is chance; "
        "bi.Isolated(oracle, timeout=...) where it crashes or hangs",
    }
    found = []
    for code, seen in kinds.items():
        if seen:
            said = Counter(one.outcome.reason[:120] for one in seen).most_common(1)[0][0]
            tell = warning if 5 * len(seen) >= len(fresh) else note
            found.append(
                tell(
                    code,
                    f"{share(len(seen), len(fresh))} draws {words[code]}: {said}",
                    remedies[code],
                    {"of": len(fresh), "count": len(seen)},
                )
            )
    return found or [
        ok("oracle.answers", f"all {len(fresh)} draws were answered", "", {"of": len(fresh)})
    ]


def _not_finite(one: Seen) -> bool:
    return one.outcome.state is State.FAILED and "is not finite" in one.outcome.reason
