"""Rules that recommend a method: enumeration, gradient descent, CMA-ES or a model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from bo_invert.errors import BoInvertError
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problem_doctor.call_budget import CallBudget
from bo_invert.problem_doctor.findings import Finding, advice, every, first, seconds
from bo_invert.problem_doctor.outputs import FAILURES
from bo_invert.problem_doctor.repeatability import Repeatability
from bo_invert.problem_doctor.space import SpaceReport
from bo_invert.problems.problem import Problem
from bo_invert.strategies.auto import Auto
from bo_invert.strategies.base import Request
from bo_invert.types import Cost, Outcome, Query, State, Trial

# Duration in seconds of one gradient step. Engineering choice: below it, descents spend less time
# than a model spends on choosing one point.
_FAST_GRADIENT = 0.1
# Calls (count) of a long run of a plain method. Engineering choice: enough for CMA-ES to converge.
_LONG_RUN = 10_000
# Duration in seconds of a long run that is still cheap. Engineering choice.
_CHEAP_RUN = 100.0
# Designs (count) and duration in seconds up to which enumeration is simpler. Engineering choice.
_ENUMERABLE, _ENUMERATION_SECONDS = 2_000, 3600.0
# Calls (count) of a typical model-based study. Engineering choice.
_TYPICAL_BUDGET = 100
# Share of calls without outputs above which failures need a remedy. Engineering choice.
_FAILURE_SHARE = 0.1
# Trials (count) in the timing of an ask. Engineering choice: a model in the middle of a study.
_TIMING_TRIALS = 40
# Durations in seconds of decoding and of one call above which advice is given. Engineering choice.
_SLOW_DECODING, _SLOW_CALL = 0.05, 1.0


def advise(
    problem: Problem,
    meter: CallBudget,
    space: SpaceReport,
    repeated: Repeatability,
    found: Sequence[Finding],
) -> list[Finding]:
    """Return the recommended method and further advice, most important first."""
    draws = meter.of("fresh")
    # The first call may load a model, so it counts only if it is the only one. Timeouts count.
    call = float(np.mean([one.seconds for one in draws[1:] or draws])) + space.seconds
    noisy = repeated.sigma is not None
    timed = call < 2.0 and space.designs > _ENUMERABLE
    asking = _seconds_to_ask(problem, meter) if timed else None
    ask_text = "" if asking is None else f"; one model-based ask takes {seconds(asking)}"
    codes = {one.code: one for one in found}
    enumeration, long_run = space.designs * call, _LONG_RUN * call
    step = _gradient_seconds(problem, codes)
    domain = problem.space.domain
    # Of the methods, the first that applies wins.
    method = first(
        (
            space.designs <= _ENUMERABLE and enumeration <= _ENUMERATION_SECONDS,
            advice(
                "advice.enumerate",
                f"Evaluate all {space.designs:,.0f} designs, in {seconds(enumeration)}; no "
                "strategy is needed",
                designs=space.designs,
                seconds=enumeration,
            ),
        ),
        (
            not noisy and step <= _FAST_GRADIENT,
            advice(
                "advice.gradient",
                f'Use gradient descent, strategy="gradient": a value with its gradient takes '
                f"{seconds(step)}, so {_LONG_RUN:,} steps take {seconds(_LONG_RUN * step)}"
                f"{ask_text}",
                step=step,
                steps=_LONG_RUN,
                seconds=_LONG_RUN * step,
                asking=asking,
            ),
        ),
        (
            not noisy and long_run <= _CHEAP_RUN,
            advice(
                "advice.cmaes",
                'Calls are cheap: use strategy="cmaes", or screening with '
                f'"{"prior" if domain.continuous else "random"}". '
                f"{_LONG_RUN:,} calls take {seconds(long_run)} in the oracle{ask_text}",
                call=call,
                seconds=long_run,
                asking=asking,
            ),
        ),
    )
    if not method:
        trials = _trials(problem.statement, meter, 0)
        name, why = Auto(noisy=noisy or None).outlook(problem.statement, trials, _TYPICAL_BUDGET)
        text = (
            f'Use strategy="auto"{", noisy=True" if noisy else ""}: a call takes {seconds(call)}, '
            f"so {_TYPICAL_BUDGET} calls take {seconds(_TYPICAL_BUDGET * call)}{ask_text}; it "
            f"would choose {why}"
        )
        method = [advice("advice.auto", text, call=call, would_choose=name, asking=asking)]
    failing = _failure_share(codes)
    oracle = call - space.seconds
    return method + every(
        (
            failing >= _FAILURE_SHARE,
            advice(
                "advice.failures",
                f"{failing:.0%} of calls give no outputs: raise bi.InfeasibleError for designs "
                "that can never be evaluated, and the study learns to avoid them",
                share=failing,
            ),
        ),
        (
            space.seconds > max(_SLOW_DECODING, oracle),
            advice(
                "advice.decoder",
                f"Decoding takes {seconds(space.seconds)}, the oracle {seconds(max(oracle, 0.0))}: "
                "speed up the decoder first (GPU, batch)",
                decoding=space.seconds,
                oracle=oracle,
            ),
        ),
        (
            "space.many_parameters" in codes,
            advice(
                "advice.latent",
                f"{domain.dim} free coordinates are many for a few hundred calls: train a "
                "generator on such designs and search its latent space, "
                "bi.Latent(decoder, dim=...)",
                d=domain.dim,
            ),
        ),
        (
            call > _SLOW_CALL,
            advice(
                "advice.keep",
                f"A call takes {seconds(call)}: record every outcome with "
                'storage="sqlite:///runs.db"; the same command resumes after an interruption',
                call=call,
            ),
        ),
    )


def _gradient_seconds(problem: Problem, codes: Mapping[str, Finding]) -> float:
    """Return the seconds of a value with its correct, exact gradient; infinite without one."""
    wrong = {"gradient.wrong", "gradient.zero", "gradient.fails"} & codes.keys()
    if "gradient.present" not in codes or wrong:
        return math.inf
    exact = problem.oracle is not None and problem.oracle.exact_forward
    return float(codes["gradient.present"].numbers["seconds"]) if exact else math.inf


def _failure_share(codes: Mapping[str, Finding]) -> float:
    """Return the share of calls without outputs."""
    found = [codes[code].numbers for code in FAILURES if code in codes]
    return sum(one["count"] for one in found) / found[0]["of"] if found else 0.0


def _seconds_to_ask(problem: Problem, meter: CallBudget) -> float | None:
    """Measure the duration of a warm, model-based ask on trials with observed outcomes."""
    trials = _trials(problem.statement, meter, _TIMING_TRIALS)
    took = None
    try:
        for number in range(2):
            began = time.perf_counter()
            Auto().ask(problem.statement, trials, Request(number, 1, 0, 10 * _TIMING_TRIALS))
            took = time.perf_counter() - began
            if took > 10.0:
                break
    except BoInvertError:
        return None
    return took


def _trials(statement: ProblemStatement, meter: CallBudget, least: int) -> list[Trial]:
    """Return observations as trials, padded to ``least`` by resampling outcomes."""
    seen = [(one.point, one.outcome) for one in meter.answered]
    rng = np.random.default_rng(0)
    extra = statement.domain.sample(rng, max(0, least - len(seen)))
    seen += [(point, seen[int(rng.integers(len(seen)))][1]) for point in extra] if seen else []
    return [
        Trial(
            number,
            Query(point, origin="data"),
            State.COMPLETED,
            ask=0,  # a study begins with calls of its own
            outcome=Outcome(State.COMPLETED, outcome.y, outcome.loss, outcome.violation, Cost()),
        )
        for number, (point, outcome) in enumerate(seen)
    ]
