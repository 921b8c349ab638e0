"""Judgement of a target by the log of a study: reached, unreachable or undecided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.study import hopes
from bo_invert.study.distinct_queries import exhausted
from bo_invert.study.estimate_cache import EstimateCache
from bo_invert.study.posterior import MIN_OBSERVATIONS, checked_tolerance, require_target
from bo_invert.study.verdict_result import NearestOutputs, Verdict
from bo_invert.types import Array, Design, Trial
from bo_invert.user_data import real

if TYPE_CHECKING:
    from bo_invert.models.inverse.attainability import Attainability
    from bo_invert.models.inverse.limiting_factors import Limit

_SLIGHT = 0.1
"""Gain up to which observed outputs are preferred to predicted ones, as a share of the tolerance.
Engineering choice: predictions have larger errors."""
Decode = Callable[[Array], Design]
"""Function from a point ``(d,)`` to a design."""


@dataclass(frozen=True)
class VerdictRequest:
    """Arguments of ``Study.verdict``.

    Args:
        alpha: Largest probability of a hit of an unreachable target.
        tolerance: Tolerance of a target without one; None for a default.
        seed: Seed of the study.
        noisy: Repeated calls at a point differ.
    """

    alpha: float
    tolerance: float | None
    seed: int
    noisy: bool

    def __post_init__(self) -> None:
        alpha = real("verdict", "alpha", self.alpha)
        if not 0.0 < alpha <= 0.5:
            raise InvalidInputError(f"verdict: alpha must be in (0, 0.5], got {self.alpha!r}")


@one_thread()
def verdict(
    statement: ProblemStatement,
    history: History,
    request: VerdictRequest,
    cache: EstimateCache,
    decode: Decode,
) -> Verdict:
    """Return the verdict on a log.

    Args:
        statement: Problem statement.
        history: Trials.
        request: Arguments of ``Study.verdict``.
        cache: Estimates of the study.
        decode: Function from points to designs.

    Raises:
        InvalidInputError: The objective is no target, or the tolerance is invalid.
    """
    target = require_target(statement, "verdict")
    tolerance = checked_tolerance(target, "verdict", request.tolerance, ranges=True)
    hit = next((t for t in history.ranking if t.feasible and target.satisfied(t.y)), None)
    if hit is not None:
        return _reached(statement, history, hit)
    every = _all_tried(statement, history) if not request.noisy else ""
    why = every or hopes.too_few(statement, history)
    if every and len(history.completed) < MIN_OBSERVATIONS:
        return Verdict("unreachable", 0.0, history.calls, None, (), why, statement.domain)
    if why and not every:
        return Verdict("undecided", None, history.calls, None, (), why, statement.domain)
    estimate = cache.get(statement, history, request.seed, noisy=request.noisy, tolerance=tolerance)
    first = estimate.nearest_trials
    if not target.satisfiable and len(first) and estimate.observed_excess[first[0]] <= 0.0:
        return _reached(statement, history, history.completed[first[0]])
    nearest, limits = _nearest(estimate, decode, np.inf if every else _SLIGHT)
    if every:
        return Verdict("unreachable", 0.0, history.calls, nearest, (), why, statement.domain)
    why = estimate.distrust
    probability = estimate.probability
    unlikely = not why and probability <= request.alpha
    status = "undecided"
    if unlikely:
        why = hopes.shortage(history.trials, request.alpha)
        status = "undecided" if why else "unreachable"
    if probability > 0.5 and not why:
        limits = ()
    return Verdict(status, probability, history.calls, nearest, limits, why, statement.domain)


def _all_tried(statement: ProblemStatement, history: History) -> str:
    """Return that all designs of a domain with few of them are tried; empty if they are not."""
    finished = [trial for trial in history.trials if not trial.state.open]
    count = exhausted(statement.domain, finished)
    return f"all {count} designs were tried" if count else ""


def _reached(statement: ProblemStatement, history: History, hit: Trial) -> Verdict:
    """Return the verdict of a verified hit."""
    target = statement.objective
    assert isinstance(target, Target)
    assert hit.y is not None
    names = _read_names(statement)
    outputs = {name: float(hit.y[statement.outputs.index(name)]) for name in names}
    nearest = NearestOutputs(
        outputs, {}, _wanted(statement, target.tolerances), 0.0, hit.point, hit.design, hit.number
    )
    return Verdict("reached", 1.0, history.calls, nearest, (), "", statement.domain)


def _nearest(
    estimate: Attainability, decode: Decode, slight: float
) -> tuple[NearestOutputs, tuple[Limit, ...]]:
    """Return the nearest of the observed outputs and of those that the model predicts, and limits.

    Args:
        estimate: Model of the log.
        decode: Function from a point to a design.
        slight: Gain in tolerances up to which observed outputs are preferred to predicted ones.
    """
    statement, history, reach = estimate.statement, estimate.history, estimate.reach
    modelled = estimate.fit.fitted.outputs
    target = statement.objective
    assert isinstance(target, Target)
    point, values, trial = reach.points[0], reach.outputs[0], None
    design = None
    excess = float(reach.excess[0])
    first = estimate.nearest_trials
    if len(first) and estimate.observed_excess[first[0]] <= excess + slight:
        best = history.completed[first[0]]
        assert best.y is not None
        point, values, trial = best.point, best.y[modelled.columns], best.number
        excess = float(estimate.observed_excess[first[0]])
        design = best.design
    spread = reach.outputs[1:].std(0)
    outputs = dict(zip(modelled.names, values.tolist(), strict=True))
    return NearestOutputs(
        outputs, dict(zip(modelled.names, spread.tolist(), strict=True)),
        _wanted(statement, estimate.fit.tolerances), max(excess, 0.0), point,
        decode(point) if trial is None else design, trial,
    ), estimate.limits  # fmt: skip


def _read_names(statement: ProblemStatement) -> list[str]:
    """Return the outputs that the target and the constraints read, in their order."""
    target = statement.objective
    assert isinstance(target, Target)
    read = {*target.indices, *(one.index for one in statement.constraints)}
    return [statement.outputs[index] for index in sorted(read)]


def _wanted(statement: ProblemStatement, tolerances: Sequence[float]) -> dict[str, str]:
    """Return the wanted values of each output as texts."""
    target = statement.objective
    assert isinstance(target, Target)
    entries = target.entries
    texts: dict[str, list[str]] = {}
    rows = zip(
        target.indices, entries.lower, entries.upper, entries.avoided, tolerances, strict=True
    )
    for index, low, high, avoided, width in rows:
        if low == high:
            text = f"{low:.4g}" + (f" ± {width:.3g}" if width else "")
        elif math.isinf(low):
            text = f"<= {high:.4g}"
        elif math.isinf(high):
            text = f">= {low:.4g}"
        else:
            text = f"{'not ' if avoided else ''}{low:.4g} to {high:.4g}"
        texts.setdefault(statement.outputs[index], []).append(text)
    for one in statement.constraints:
        texts.setdefault(statement.outputs[one.index], []).append(f"{one.sense} {one.bound:.4g}")
    return {name: ", ".join(parts) for name, parts in texts.items()}
