"""Rules that recommend a method: enumeration, gradient descent, CMA-ES or a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import BoInvertError
from bo_invert.ledger import Cost
from bo_invert.objectives import ProblemStatement
from bo_invert.problem_doctor.call_budget import CallBudget
from bo_invert.problem_doctor.findings import Finding, advice, seconds
from bo_invert.problem_doctor.repeatability import Repeatability
from bo_invert.problem_doctor.space import SpaceReport
from bo_invert.problems.problem import Problem
from bo_invert.strategies.auto import Auto
from bo_invert.strategies.base import Request
from bo_invert.types import Array, Outcome, Query, State, Trial

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


@dataclass(frozen=True)
class _Measured:
    """Facts of one report that the rules read.

    Args:
        problem: problem under check.
        space: findings on the space.
        codes: findings by code.
        call: mean seconds of one call with decoding.
        asking: seconds of one model-based ask; None if not measured.
        noisy: the oracle is noisy.
        outlook: name of the strategy that ``auto`` would choose, and its reason.
    """

    problem: Problem
    space: SpaceReport
    codes: Mapping[str, Finding]
    call: float
    asking: float | None
    noisy: bool
    outlook: Callable[[], tuple[str, str]]

    @property
    def asking_text(self) -> str:
        return "" if self.asking is None else f"; one model-based ask takes {seconds(self.asking)}"

    @property
    def gradient_seconds(self) -> float:
        """Seconds of a value with its correct, exact gradient; infinite without one."""
        present = self.codes.get("gradient.present")
        wrong = {"gradient.wrong", "gradient.zero", "gradient.fails"} & set(self.codes)
        oracle = self.problem.oracle
        if present is None or wrong or oracle is None or not oracle.exact_forward:
            return math.inf
        return float(present.numbers["seconds"])

    @property
    def failure_share(self) -> float:
        """Share of calls without outputs."""
        codes = ("oracle.fails", "oracle.not_finite", "oracle.infeasible")
        found = [self.codes[code] for code in codes if code in self.codes]
        return sum(one.numbers["count"] for one in found) / found[0].numbers["of"] if found else 0.0


def _enumerate(facts: _Measured) -> Finding | None:
    designs, total = facts.space.designs, facts.space.designs * facts.call
    if designs > _ENUMERABLE or total > _ENUMERATION_SECONDS:
        return None
    text = f"Evaluate all {designs:,.0f} designs, in {seconds(total)}; no strategy is needed"
    return advice("advice.enumerate", text, designs=designs, seconds=total)


def _gradient(facts: _Measured) -> Finding | None:
    step = facts.gradient_seconds
    if facts.noisy or step > _FAST_GRADIENT:
        return None
    total = _LONG_RUN * step
    return advice(
        "advice.gradient",
        f'Use gradient descent, strategy="gradient": a value with its gradient takes '
        f"{seconds(step)}, so {_LONG_RUN:,} steps take {seconds(total)}{facts.asking_text}",
        step=step,
        steps=_LONG_RUN,
        seconds=total,
        asking=facts.asking,
    )


def _cmaes(facts: _Measured) -> Finding | None:
    total = _LONG_RUN * facts.call
    if facts.noisy or total > _CHEAP_RUN:
        return None
    screening = "prior" if facts.problem.space.domain.continuous else "random"
    return advice(
        "advice.cmaes",
        f'Calls are cheap: use strategy="cmaes", or screening with "{screening}". '
        f"{_LONG_RUN:,} calls take {seconds(total)} in the oracle{facts.asking_text}",
        call=facts.call,
        seconds=total,
        asking=facts.asking,
    )


def _auto(facts: _Measured) -> Finding:
    name, why = facts.outlook()
    return advice(
        "advice.auto",
        f'Use strategy="auto"{", noisy=True" if facts.noisy else ""}: a call takes '
        f"{seconds(facts.call)}, so {_TYPICAL_BUDGET} calls take "
        f"{seconds(_TYPICAL_BUDGET * facts.call)}{facts.asking_text}; it would choose {why}",
        call=facts.call,
        would_choose=name,
        asking=facts.asking,
    )


def _failures(facts: _Measured) -> Finding | None:
    share = facts.failure_share
    if share < _FAILURE_SHARE:
        return None
    return advice(
        "advice.failures",
        f"{share:.0%} of calls give no outputs: raise bi.InfeasibleError for designs that can "
        f"never "
        "be evaluated, and the study learns to avoid them",
        share=share,
    )


def _decoder(facts: _Measured) -> Finding | None:
    decoding, oracle = facts.space.seconds, facts.call - facts.space.seconds
    if decoding <= max(_SLOW_DECODING, oracle):
        return None
    return advice(
        "advice.decoder",
        f"Decoding takes {seconds(decoding)}, the oracle {seconds(max(oracle, 0.0))}: "
        "speed up the decoder first (GPU, batch)",
        decoding=decoding,
        oracle=oracle,
    )


def _latent(facts: _Measured) -> Finding | None:
    if "space.many_parameters" not in facts.codes:
        return None
    dim = facts.problem.space.domain.dim
    return advice(
        "advice.latent",
        f"{dim} free coordinates are many for a few hundred calls: train a generator on such "
        f"designs "
        "and search its latent space, bi.Latent(decoder, dim=...)",
        d=dim,
    )


def _storage(facts: _Measured) -> Finding | None:
    if facts.call <= _SLOW_CALL:
        return None
    return advice(
        "advice.keep",
        f"A call takes {seconds(facts.call)}: record every outcome with "
        f'storage="sqlite:///runs.db"; '
        "the same command resumes after an interruption",
        call=facts.call,
    )


_METHODS = (_enumerate, _gradient, _cmaes, _auto)
"""Rules for the method; the first that applies wins."""
_FURTHER = (_failures, _decoder, _latent, _storage)
"""Rules that apply besides."""


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
    facts = _Measured(
        problem,
        space,
        {one.code: one for one in found},
        call,
        _seconds_to_ask(problem, meter) if timed else None,
        noisy,
        lambda: _outlook(problem.statement, meter, noisy),
    )
    method = next(one for rule in _METHODS if (one := rule(facts)) is not None)
    return [method, *(one for rule in _FURTHER if (one := rule(facts)) is not None)]


def _outlook(statement: ProblemStatement, meter: CallBudget, noisy: bool) -> tuple[str, str]:
    """Return the strategy that ``auto`` chooses after the initial design, and its reason."""
    trials = _trials(statement, meter, 0)
    return Auto(noisy=noisy or None).outlook(statement, trials, _TYPICAL_BUDGET)


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
