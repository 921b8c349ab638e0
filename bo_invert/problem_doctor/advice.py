"""Which strategy the numbers speak for: gradient descent, screening, CMA-ES, or a model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bo_invert.errors import BoInvertError
from bo_invert.problem_doctor.call_budget import Meter
from bo_invert.problem_doctor.findings import Finding, Severity, seconds
from bo_invert.problem_doctor.repeatability import Steadiness
from bo_invert.problem_doctor.space import Looked
from bo_invert.problem_statement import ProblemStatement
from bo_invert.problems.problem import Problem
from bo_invert.strategies.auto import Auto
from bo_invert.strategies.base import Request
from bo_invert.types import Array, Cost, Outcome, Query, State, Trial

_QUICK = 0.1
"""Seconds of a value with its gradient up to which descents beat a model that takes as long to choose one point."""
_MANY = 10_000
_AFFORDABLE = 100.0
"""Seconds for which ``_MANY`` calls are cheap."""
_FEW = 2_000
"""Designs of a finite box that are rather all asked for."""
_BUDGET = 100
_MANY_FAIL = 0.1
_TOLD = 40
"""Trials that a model is timed with."""


def advise(
    problem: Problem, meter: Meter, looked: Looked, state: Steadiness, found: Sequence[Finding]
) -> list[Finding]:
    """What to do, most important first; one sentence each, with the numbers."""
    codes = {one.code: one for one in found}
    asked = meter.of("fresh")
    call = (
        float(np.mean([one.seconds for one in asked[1:] or asked])) + looked.seconds
    )  # time-outs count
    cheap = _MANY * call <= _AFFORDABLE
    present, wrong = (
        codes.get("gradient.present"),
        {"gradient.wrong", "gradient.zero", "gradient.fails"} & set(codes),
    )
    own = problem.oracle is not None and problem.oracle.exact_forward
    asking = (
        _seconds_to_choose(problem, meter) if call < 2.0 and not looked.designs <= _FEW else None
    )
    slow = (
        "" if asking is None else f"; choosing a point by a model takes {seconds(asking)} each time"
    )
    noisy = bool(state.sigma is not None)
    kept = ", noisy=True" if noisy else ""
    advice = []
    if looked.designs <= _FEW and looked.designs * call <= 3600.0:
        advice.append(
            _advice(
                "enumerate",
                f"Ask for all of them: the box holds {looked.designs:,.0f} designs, "
                f"{seconds(looked.designs * call)} in all; no strategy is needed",
                designs=looked.designs,
                seconds=looked.designs * call,
            )
        )
    elif (
        present is not None
        and own
        and not wrong
        and not noisy
        and (took := present.numbers["seconds"]) <= _QUICK
    ):
        advice.append(
            _advice(
                "gradient",
                f'Use gradient descent, strategy="gradient": a value with its gradient '
                f"takes {seconds(took)}, so {_MANY:,} steps take {seconds(_MANY * took)}{slow}",
                step=took,
                steps=_MANY,
                seconds=_MANY * took,
                asking=asking,
            )
        )
    elif cheap and not noisy:
        typed = not problem.space.domain.continuous
        plain = (
            'strategy="cmaes", or screening with "prior"'
            if not typed
            else 'strategy="cmaes", or screening with "random"'
        )
        advice.append(
            _advice(
                "cmaes",
                f"Calls are cheap, so a plain method will do, {plain}: {_MANY:,} calls take "
                f"{seconds(_MANY * call)} in the oracle{slow}",
                call=call,
                seconds=_MANY * call,
                asking=asking,
            )
        )
    else:
        name, why = _outlook(problem.statement, meter, noisy)
        advice.append(
            _advice(
                "auto",
                f'Use strategy="auto"{kept}: a call takes {seconds(call)}, so {_BUDGET} calls take '
                f"{seconds(_BUDGET * call)}{slow}; it would take {why}",
                call=call,
                would_choose=name,
                asking=asking,
            )
        )
    return [*advice, *_besides(problem, looked, codes, call)]


def _besides(
    problem: Problem, looked: Looked, codes: dict[str, Finding], call: float
) -> list[Finding]:
    oracle = call - looked.seconds
    advice = []
    lost = [
        codes[code]
        for code in ("oracle.fails", "oracle.not_finite", "oracle.infeasible")
        if code in codes
    ]
    share = sum(one.numbers["count"] for one in lost) / lost[0].numbers["of"] if lost else 0.0
    if share >= _MANY_FAIL:
        advice.append(
            _advice(
                "failures",
                f"Some {share:.0%} of calls give no outputs: raise bi.InfeasibleError where that is "
                "for ever, and a study learns to stay away",
                share=share,
            )
        )
    if looked.seconds > 0.05 and looked.seconds > oracle:
        advice.append(
            _advice(
                "decoder",
                f"Decoding takes {seconds(looked.seconds)}, the oracle {seconds(max(oracle, 0.0))}: "
                "a faster decoder (GPU, batch) pays first",
                decoding=looked.seconds,
                oracle=oracle,
            )
        )
    if "space.many_parameters" in codes:
        dim = problem.space.domain.dim
        advice.append(
            _advice(
                "latent",
                f"{dim} free coordinates are many for a few hundred calls: learn a latent of such "
                "designs and search that, bi.Latent(decoder, dim=...)",
                d=dim,
            )
        )
    if call > 1.0:
        advice.append(
            _advice(
                "keep",
                f'With {seconds(call)} a call, keep every answer: storage="sqlite:///runs.db"; the '
                "same line goes on after an interruption",
                call=call,
            )
        )
    return advice


def _advice(code: str, message: str, **numbers: object) -> Finding:
    return Finding(f"advice.{code}", Severity.advice, message, "", numbers)


def _outlook(statement: ProblemStatement, meter: Meter, noisy: bool) -> tuple[str, str]:
    """What ``auto`` would take once it has looked around, and why."""
    trials = _told(statement, meter, 0)
    return Auto(noisy=noisy or None).outlook(statement, trials, _BUDGET)


def _seconds_to_choose(problem: Problem, meter: Meter) -> float | None:
    """How long an ask of a model takes here: the second one, of some trials with answers that were seen."""
    trials = _told(problem.statement, meter, _TOLD)
    took = None
    try:
        for number in range(2):
            began = time.perf_counter()
            Auto().ask(problem.statement, trials, Request(number, 1, 0, 10 * _TOLD))
            took = time.perf_counter() - began
            if took > 10.0:
                break
    except BoInvertError:
        return None
    return took


def _told(statement: ProblemStatement, meter: Meter, least: int) -> list[Trial]:
    """What was seen as trials, and made-up ones at random points until there are enough."""
    seen: list[tuple[Array, Outcome]] = [
        (s.point, s.outcome) for s in meter.of("fresh") if s.y is not None
    ]
    rng = np.random.default_rng(0)
    missing = max(0, least - len(seen))
    extra = statement.domain.sample(rng, missing)
    seen += [(point, seen[int(rng.integers(len(seen)))][1]) for point in extra] if seen else []
    return [
        Trial(
            number,
            Query(point, origin="data"),
            State.COMPLETED,
            outcome=Outcome(State.COMPLETED, outcome.y, outcome.loss, outcome.violation, Cost()),
        )
        for number, (point, outcome) in enumerate(seen)
    ]
