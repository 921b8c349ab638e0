"""Repeatability of an oracle: noise, hidden state, drift and batch effects."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from bo_invert.problem_doctor.call_budget import BudgetSpent, Call, CallBudget
from bo_invert.problem_doctor.findings import (
    Finding,
    error,
    every,
    first,
    note,
    ok,
    seconds,
    share,
    warning,
)
from bo_invert.types import Array

# Difference of repeated outputs, as a share of the spread over designs. Engineering choice: above
# the rounding of single precision; the same value as in ``History``.
_ROUNDING = 1e-5
# Repeats (count) of one design in the drift test. Engineering choice: six independent values are
# monotone with probability 2 / 6! = 1/360.
_REPEATS = 6

_HIDDEN_STATE = error(
    "oracle.state",
    "a design has other outputs after other designs, but the same outputs twice in a row: "
    "outputs depend on earlier calls",
    "Reset the oracle's state in every call (warm starts, buffers, counters, training mode)",
)


@dataclass
class Repeatability:
    """Result of repeated calls.

    Args:
        findings: findings so far.
        exact: repeated outputs differ by rounding only.
        sigma: noise standard deviation in output units, shape ``(m,)``; None if not noisy.
    """

    findings: list[Finding] = field(default_factory=list)
    exact: bool = True
    sigma: Array | None = None


def check_repeatability(meter: CallBudget, state: Repeatability) -> None:
    """Evaluate one design again and classify a difference.

    Repeated points of a study replace the calls.
    """
    known = meter.of("again")
    if known:
        firsts = {one.point.tobytes(): one for one in meter.of("fresh")}
        state.exact = not any(_differs(meter, firsts[one.point.tobytes()], one) for one in known)
        if not state.exact:
            state.findings.append(_noise(meter, state))
        return
    again = _repeat(meter, state, meter.answered[0])
    if again is not None:
        with suppress(BudgetSpent):
            state.findings += _classify(meter, again)
        if not state.findings:
            state.findings.append(_noise(meter, state))


def _repeat(meter: CallBudget, state: Repeatability, known: Call) -> Call | None:
    """Evaluate a design again; return the call if it has other outputs."""
    again = meter.ask(known.point, "again")
    if again.y is None:
        state.findings.append(
            warning(
                "oracle.flaky",
                f"a design succeeded once and failed the second time: {again.outcome.reason}",
                "Use study.run(retries=2); each attempt is billed",
            )
        )
    elif _differs(meter, known, again):
        state.exact = False
        return again
    return None


def _classify(meter: CallBudget, again: Call) -> list[Finding]:
    """Distinguish hidden state (repeats at once), drift (monotone) and noise (no finding)."""
    fresh = meter.answered
    known = fresh[0]
    for _ in range(2):
        before, again = again, meter.ask(known.point, "again")
        if again.y is not None and not _differs(meter, before, again):
            return [_HIDDEN_STATE]
    while len(_answers(meter, known)) < _REPEATS and meter.left > 2:
        meter.ask(known.point, "again")
    series = _answers(meter, known)
    if len(series) >= _REPEATS and _drifts(series):
        return [
            error(
                "oracle.drift",
                f"outputs of one design drift, {len(series)} values in one direction",
                "Reset the oracle's internal counters in every call; otherwise designs cannot be "
                "compared",
            )
        ]
    for other in fresh[1:3]:
        if meter.left > 2:
            meter.ask(other.point, "again")
    return []


def recheck(meter: CallBudget, state: Repeatability) -> None:
    """Evaluate an early design again after all others, to detect late hidden state."""
    fresh = meter.answered
    if state.findings or len(fresh) < 2 or meter.left < 1:
        return
    again = _repeat(meter, state, fresh[1])
    if again is not None:
        once_more = meter.ask(again.point, "again") if meter.left else None
        noisy = once_more is None or once_more.y is None or _differs(meter, again, once_more)
        state.findings.append(_noise(meter, state) if noisy else _HIDDEN_STATE)


def repeatability_findings(meter: CallBudget, state: Repeatability) -> list[Finding]:
    """Return the findings, with a note if a cache hides noise."""
    again = meter.of("again")
    if state.findings or not again:
        return state.findings
    fresh = float(np.median([one.seconds for one in meter.of("fresh")]))
    fastest = min(one.seconds for one in again)
    count = len(again)
    return every(
        (
            True,
            ok("oracle.exact", f"repeated calls return the same outputs, {count} of {count} times"),
        ),
        (
            any(one.outcome.cost.calls == 0 for one in again)
            or (fresh > 2e-3 and fastest < 0.05 * fresh),
            note(
                "oracle.remembers",
                f"a repeated call takes {seconds(fastest)} instead of {seconds(fresh)}: the "
                "oracle caches outputs, so noise cannot be measured",
                "Run the doctor without the cache if the oracle may be noisy",
            ),
        ),
    )


def check_batches(meter: CallBudget, state: Repeatability) -> list[Finding]:
    """Compare a batch in another order with single calls."""
    oracle = meter.problem.oracle
    count = min(4, len(meter.answered), meter.left // 2)
    if oracle is None or not oracle.batched or count < 2:
        return []
    chosen = meter.answered[:count][::-1]
    together = meter.together([one.point for one in chosen])
    sigma = 0.0 if state.sigma is None else state.sigma
    wrong = sum(
        _differs(meter, one, other, sigma) for one, other in zip(chosen, together, strict=True)
    )
    return first(
        (
            any(one.outcome.cost.values > 1 for one in together),
            warning(
                "oracle.batch_fails",
                f"a batch of {count} designs raises or returns another number of rows; "
                "each design was evaluated again and billed twice",
                "Correct the batch evaluation, or pass batched=False",
            ),
        ),
        (
            wrong,
            error(
                "oracle.batch_differs",
                f"{share(wrong, count)} designs have other outputs in a batch than alone",
                "Set batch normalisation to evaluation mode, and return rows in the order of the "
                "designs",
                different=wrong,
                designs=count,
            ),
        ),
        (
            True,
            ok(
                "oracle.batch",
                f"a batch of {count} designs in another order gives the same outputs as single "
                "calls",
            ),
        ),
    )


def _differs(meter: CallBudget, one: Call, other: Call, sigma: Array | float = 0.0) -> bool:
    """Test for a difference beyond rounding and beyond six deviations of the noise ``sigma``."""
    if one.y is None or other.y is None:
        return (one.y is None) != (other.y is None)
    rounding = _ROUNDING * _spread(meter) + 1e-6 * np.abs(one.y)
    return bool((np.abs(one.y - other.y) > rounding + 6.0 * np.sqrt(2.0) * sigma).any())


def _answers(meter: CallBudget, known: Call) -> Array:
    """Return the outputs of one design in the order of the calls, shape ``(k, m)``."""
    return np.array(
        [
            one.y
            for one in meter.of("fresh", "again")
            if one.y is not None and np.array_equal(one.point, known.point)
        ]
    )


def _drifts(series: Array) -> bool:
    """Test for an output that is monotone and nearly linear in the number of the call."""
    steps = np.diff(series, axis=0)
    steady = (steps > 0).all(axis=0) | (steps < 0).all(axis=0)
    size = np.abs(steps)
    return bool((steady & (size.max(axis=0) < 10.0 * size.min(axis=0))).any())


def _noise(meter: CallBudget, state: Repeatability) -> Finding:
    """Estimate the noise standard deviation ``state.sigma`` and report it."""
    designs = {one.point.tobytes(): one for one in meter.of("fresh", "again") if one.y is not None}
    repeated = [group for one in designs.values() if len(group := _answers(meter, one)) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in repeated)
    state.sigma = np.sqrt(squares / max(degrees, 1))
    level = float((state.sigma / _spread(meter)).max())
    hidden = level > 1.0 and degrees >= 5
    return (error if hidden else warning)(
        "oracle.noisy",
        f"repeated calls differ: noise standard deviation {level:.2g} of the spread over "
        f"designs ({degrees + len(repeated)} calls of {len(repeated)} designs)",
        "Average repeats inside the oracle: noise exceeds the spread over designs"
        if hidden
        else "Pass noisy=True, and use study.recommend() instead of the best value",
        level=level,
        sigma=state.sigma.tolist(),
    )


def _spread(meter: CallBudget) -> Array:
    """Return the spread of each output over designs, ``(m,)``; its magnitude if it is constant."""
    y = np.array([one.y for one in meter.answered])
    size, spread = np.abs(y).max(axis=0), y.std(axis=0)
    return np.asarray(np.where(spread > 1e-12 * size, spread, np.maximum(size, 1e-300)))
