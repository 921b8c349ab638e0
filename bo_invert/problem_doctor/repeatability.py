"""Whether the same design is answered the same: again, after others, and in a batch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from bo_invert.problem_doctor.call_budget import Meter, Seen, Spent
from bo_invert.problem_doctor.findings import Finding, error, note, ok, seconds, share, warning
from bo_invert.types import Array

_ROUNDING = 1e-5
"""Share of the spread over designs below which two answers to one design differ by rounding; as in ``History``."""
_REPEATS = 6
"""Answers to one design from which a trend is told from chance: so many are in order once in 360."""


@dataclass
class Steadiness:
    """How an oracle answers the same design again.

    Args:
        findings: about it.
        level: standard deviation of answers to one design, as a share of the spread over designs; 0 of an exact one.
        exact: whether nothing but rounding was seen.
        sigma: that standard deviation in units of the outputs, shape ``(m,)``.
    """

    findings: list[Finding] = field(default_factory=list)
    level: float = 0.0
    exact: bool = True
    sigma: Array | None = None


def steadiness(meter: Meter, state: Steadiness) -> None:
    """Ask again for a design that was answered, and find out what a difference means."""
    fresh = [one for one in meter.of("fresh") if one.y is not None]
    known = fresh[0]
    again = meter.ask(known.point, "again")
    if _flaky(again, state):
        return
    if not _differs(meter, known, again):
        return
    state.exact = False
    with suppress(Spent):
        _tell_apart(meter, state, fresh, again)
    if not state.findings:
        _tell_noise(meter, state)


def _tell_apart(meter: Meter, state: Steadiness, fresh: list[Seen], again: Seen) -> None:
    """Hidden state repeats itself at once, drift keeps its direction; anything else is noise."""
    known = fresh[0]
    for _ in range(2):
        before, again = again, meter.ask(known.point, "again")
        if again.y is not None and not _differs(meter, before, again):
            _tell_state(state)
            return
    while len(_answers(meter, known)) < _REPEATS and meter.left > 2:
        meter.ask(known.point, "again")
    series = _answers(meter, known)
    if len(series) >= _REPEATS and _drifts(series):
        state.findings.append(
            error(
                "oracle.drift",
                f"answers to one design move steadily, {len(series)} in a row",
                "Something inside counts or wears: reset it in every call, or no two designs can be compared",
            )
        )
        return
    for other in fresh[1:3]:
        if meter.left > 2:
            meter.ask(other.point, "again")


def last_look(meter: Meter, state: Steadiness) -> None:
    """After all other designs, one of the first again: hidden state shows late."""
    fresh = [one for one in meter.of("fresh") if one.y is not None]
    if state.findings or len(fresh) < 2 or meter.left < 1:
        return
    again = meter.ask(fresh[1].point, "again")
    if not _flaky(again, state) and _differs(meter, fresh[1], again):
        state.exact = False
        once_more = meter.ask(fresh[1].point, "again") if meter.left else None
        if once_more is None or once_more.y is None or _differs(meter, again, once_more):
            _tell_noise(meter, state)
        else:
            _tell_state(state)


def tell_steadiness(meter: Meter, state: Steadiness) -> list[Finding]:
    """What was seen, with what a cache hides."""
    again = meter.of("again")
    if state.findings or not again:
        return state.findings
    fresh = float(np.median([one.seconds for one in meter.of("fresh")]))
    fastest = min(one.seconds for one in again)
    found = [
        ok(
            "oracle.exact",
            f"the same design is answered the same, {len(again)} of {len(again)} times",
        )
    ]
    if any(one.outcome.cost.calls == 0 for one in again) or (
        fresh > 2e-3 and fastest < 0.05 * fresh
    ):
        found.append(
            note(
                "oracle.remembers",
                f"a design asked again is answered in {seconds(fastest)} instead of {seconds(fresh)}: the oracle "
                "remembers it, so whether it is noisy cannot be seen",
                "If it may be noisy, look without the memory",
            )
        )
    return found


def batches(meter: Meter, state: Steadiness) -> list[Finding]:
    """The same designs together, in another order."""
    oracle = meter.problem.oracle
    fresh = [one for one in meter.of("fresh") if one.y is not None]
    count = min(4, len(fresh), meter.left // 2)
    if oracle is None or not oracle.batched or count < 2:
        return []
    chosen = fresh[:count][::-1]
    together = meter.together([one.point for one in chosen])
    if any(one.outcome.cost.values > 1 for one in together):
        return [
            warning(
                "oracle.batch_fails",
                f"asked for {count} designs together it raises or answers another "
                "number; each was asked for alone and billed twice",
                "Mend the batch, or say batched=False",
            )
        ]
    wrong = sum(
        _differs(meter, one, other, state) for one, other in zip(chosen, together, strict=True)
    )
    if wrong:
        return [
            error(
                "oracle.batch_differs",
                f"{share(wrong, count)} designs are answered differently in a batch than alone",
                "An answer may depend on its own design only: fixed statistics instead of the batch's (batch "
                "normalisation in evaluation mode), and answers in the order of the designs",
                {"different": wrong, "designs": count},
            )
        ]
    return [
        ok(
            "oracle.batch",
            f"{count} designs together, in another order, are answered as they are alone",
        )
    ]


def _differs(meter: Meter, one: Seen, other: Seen, noise: Steadiness | None = None) -> bool:
    """Whether two answers to one design differ by more than rounding; by more than six times the noise, if given."""
    if one.y is None or other.y is None:
        return (one.y is None) != (other.y is None)
    allowed = _ROUNDING * _spread(meter) + 1e-6 * np.abs(one.y)
    if noise is not None and noise.sigma is not None:
        allowed = allowed + 6.0 * np.sqrt(2.0) * noise.sigma
    return bool((np.abs(one.y - other.y) > allowed).any())


def _flaky(again: Seen, state: Steadiness) -> bool:
    if again.y is not None:
        return False
    state.findings.append(
        warning(
            "oracle.flaky",
            f"a design that was answered once failed the second time: {again.outcome.reason}",
            "study.run(retries=2) tries failures again, and bills every try",
        )
    )
    return True


def _tell_state(state: Steadiness) -> None:
    state.findings.append(
        error(
            "oracle.state",
            "a design asked for again, after others, is answered differently; twice in a row, "
            "the same: answers depend on what was asked before",
            "Reset whatever the oracle keeps between calls (warm starts, buffers, counters, training mode)",
        )
    )


def _answers(meter: Meter, known: Seen) -> Array:
    """Answers to one design in the order in which they were given, shape ``(k, m)``."""
    same = [
        one.y
        for one in meter.of("fresh", "again")
        if one.y is not None and np.array_equal(one.point, known.point)
    ]
    return np.array(same)


def _drifts(series: Array) -> bool:
    """Whether an output of one design moves in one direction, nearly in a line."""
    steps = np.diff(series, axis=0)
    steady = (steps > 0).all(axis=0) | (steps < 0).all(axis=0)
    size = np.abs(steps)
    return bool((steady & (size.max(axis=0) < 10.0 * size.min(axis=0))).any())


def _tell_noise(meter: Meter, state: Steadiness) -> None:
    groups: dict[bytes, list[Array]] = {}
    for one in meter.of("fresh", "again"):
        if one.y is not None:
            groups.setdefault(one.point.tobytes(), []).append(one.y)
    repeated = [np.array(group) for group in groups.values() if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    sigma = np.sqrt(
        sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in repeated) / max(degrees, 1)
    )
    level = float((sigma / _spread(meter)).max())
    state.level, state.sigma = level, sigma
    hidden = level > 1.0 and degrees >= 5
    state.findings.append(
        (error if hidden else warning)(
            "oracle.noisy",
            f"the same design is answered differently: standard deviation {level:.2g} of the spread over designs "
            f"(from {degrees + len(repeated)} answers to {len(repeated)} designs)",
            "Average inside the oracle: its noise hides the designs"
            if hidden
            else "Say noisy=True, and act on study.recommend() rather than on the best value",
            {"level": level, "sigma": sigma.tolist()},
        )
    )


def _spread(meter: Meter) -> Array:
    """Over designs, per output, shape ``(m,)``; the size of an output where it does not move."""
    y = np.array([one.y for one in meter.of("fresh") if one.y is not None])
    spread = y.std(axis=0)
    size: Array = np.where(
        spread > 1e-12 * np.abs(y).max(axis=0), spread, np.maximum(np.abs(y).max(axis=0), 1e-300)
    )
    return size
