"""Verdict on a target: reached, unreachable or undecided, and the nearest attainable outputs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.report.table import Table
from bo_invert.study import hopes
from bo_invert.study.posterior import checked_tolerance, require_target
from bo_invert.types import JSON, Array, Design, Trial
from bo_invert.user_data import real

if TYPE_CHECKING:
    from bo_invert.models.inverse.attainability import Attainability
    from bo_invert.models.inverse.limiting_factors import Limit

_SLIGHT = 0.1
"""Gain up to which observed outputs are preferred to predicted ones, as a share of the tolerance.
Engineering choice: predictions have larger errors."""
Decode = Callable[[Array], Design]
"""Function from a point ``(d,)`` to a design."""


@dataclass(frozen=True, eq=False)
class NearestOutputs:
    """Attainable outputs that are nearest to a target.

    Args:
        outputs: Outputs that the target and the constraints read, by name.
        spread: Standard deviations of these outputs at the nearest points of drawn functions.
        wanted: Wanted value or range of each output, as text.
        excess: Distance from the target region in tolerances; 0 inside of it.
        point: Point of the domain, shape ``(d,)``.
        design: Its design.
        trial: Number of the trial that attained the outputs; None if a model predicts them.
    """

    outputs: Mapping[str, float]
    spread: Mapping[str, float]
    wanted: Mapping[str, str]
    excess: float
    point: Array
    design: Design
    trial: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """Verdict on the target of a study.

    Args:
        status: ``"reached"`` if a trial meets the target. ``"unreachable"`` if the probability of a
            hit was at most alpha at the latest estimates in a row, with a best hope tried after
            each but the last one.
            ``"undecided"`` otherwise.
        probability: Probability that some valid design meets the target; None without a model.
        calls: Calls so far.
        nearest: Nearest attainable outputs; None without an observation.
        limits: Limits that keep the outputs from the target.
        why: Reason for ``"undecided"``, or empty.
        domain: Search domain.
    """

    status: str
    probability: float | None
    calls: int
    nearest: NearestOutputs | None
    limits: tuple[Limit, ...]
    why: str
    domain: Domain

    @property
    def limited_by(self) -> tuple[str, ...]:
        """Limits in words."""
        return tuple(_in_words(limit, self.domain) for limit in self.limits)

    @property
    def reason(self) -> str:
        """Status in one line."""
        chance = "" if self.probability is None else f", probability of a hit {self._chance}"
        if self.status == "reached":
            assert self.nearest is not None
            return f"the target is reached in trial {self.nearest.trial}"
        head = f"the target is {self.status}" + (chance if self.status == "unreachable" else "")
        if self.status == "undecided":
            head = f"undecided{chance}"
        text = f"{head}; {self.why}" if self.why else head
        if self.nearest is not None and self.nearest.excess > 0.0:
            text += f"; nearest outputs {self.nearest.excess:.3g} tolerances outside"
        return text + (f"; limited by {', '.join(self.limited_by)}" if self.limits else "")

    @property
    def _chance(self) -> str:
        p = self.probability
        return "unknown" if p is None else f"{p:.0%}" if p >= 0.01 or p == 0.0 else f"{p:.1%}"

    def to_json(self) -> JSON:
        """Return plain data; designs as named values or coordinates."""
        nearest = None
        if self.nearest is not None:
            one = self.nearest
            nearest = {
                "outputs": dict(one.outputs), "spread": dict(one.spread),
                "wanted": dict(one.wanted), "excess": one.excess, "point": one.point.tolist(),
                "values": self.domain.named(one.point, measured=True), "trial": one.trial,
            }  # fmt: skip
        return {
            "status": self.status, "probability": self.probability, "calls": self.calls,
            "nearest": nearest, "limited_by": list(self.limited_by),
            "limits": [vars(limit) for limit in self.limits], "why": self.why,
        }  # fmt: skip

    def table(self) -> Table:
        """Return one row for each output, with status, design and limits around it."""
        caption = f"{self.reason.split('; ')[0]} after {self.calls} calls"
        notes = [self.why] if self.why else []
        rows: list[tuple[object, ...]] = []
        if self.nearest is not None:
            one = self.nearest
            rows = [
                (name, one.wanted.get(name, ""), value, one.spread.get(name))
                for name, value in one.outputs.items()
            ]
            origin = "predicted" if one.trial is None else f"trial {one.trial}"
            where = ", ".join(
                f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in list(self.domain.named(one.point, measured=True).items())[:12]
            )
            notes.append(f"{origin}, {one.excess:.3g} tolerances outside the target: {where}")
        if self.limits:
            notes.append(f"limited by: {', '.join(self.limited_by)}")
        columns = ("output", "wanted", "nearest", "± std")
        return Table(columns, tuple(rows), caption=caption, notes=tuple(notes))

    def __repr__(self) -> str:
        return printable(self.table().text())

    def _repr_html_(self) -> str:
        return self.table().html()


class EstimateCache:
    """Estimate of a log, made again after new outcomes. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: object = None
        self._estimate: Attainability | None = None

    def get(
        self,
        statement: ProblemStatement,
        history: History,
        seed: int,
        *,
        noisy: bool,
        tolerance: float | None = None,
    ) -> Attainability:
        """Return the estimate of all outcomes of a log.

        Args:
            statement: Problem statement with a target.
            history: Log with at least two observations.
            seed: Seed of the study.
            noisy: Repeated calls at a point differ.
            tolerance: Tolerance of a target without one.
        """
        from bo_invert.models.inverse.attainability import Attainability

        outcomes = tuple((t.number, t.outcome) for t in history.trials if not t.state.open)
        key = outcomes, statement.domain.floor, statement.objective, seed, noisy, tolerance
        with self._lock:
            if self._estimate is None or self._key != key:
                with one_thread():
                    self._estimate = Attainability.of(
                        statement, history, seed, noisy=noisy, tolerance=tolerance
                    )
                self._key = key
            return self._estimate


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
    least = hopes.least_observations(statement)
    if not hopes.enough_observations(statement, history):
        why = f"{len(history.completed)} observations, at least {least} are needed"
        return Verdict("undecided", None, history.calls, None, (), why, statement.domain)
    estimate = cache.get(statement, history, request.seed, noisy=request.noisy, tolerance=tolerance)
    first = estimate.nearest_trials
    if not target.satisfiable and len(first) and estimate.observed_excess[first[0]] <= 0.0:
        return _reached(statement, history, history.completed[first[0]])
    nearest, limits = _nearest(estimate, decode)
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


def _nearest(estimate: Attainability, decode: Decode) -> tuple[NearestOutputs, tuple[Limit, ...]]:
    """Return the nearest of the observed outputs and of those that the model predicts."""
    statement, history, reach = estimate.statement, estimate.history, estimate.reach
    modelled = estimate.fit.fitted.outputs
    target = statement.objective
    assert isinstance(target, Target)
    point, values, trial = reach.points[0], reach.outputs[0], None
    design = None
    excess = float(reach.excess[0])
    first = estimate.nearest_trials
    if len(first) and estimate.observed_excess[first[0]] <= excess + _SLIGHT:
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


def _in_words(limit: Limit, domain: Domain) -> str:
    """Return a limit in words."""
    if limit.kind in ("output", "outcome constraint"):
        kind = "" if limit.kind == "output" else " (outcome constraint)"
        return f"{limit.name} too {'high' if limit.side > 0 else 'low'}{kind}"
    if limit.kind == "parameter":
        side = "upper" if limit.side > 0 else "lower"
        return f"{limit.name} at its {side} bound{_bound(limit, domain)}"
    if limit.kind == "input constraint":
        return f"the input constraint: {limit.text}"
    if limit.kind == "plausibility":
        return "the least plausibility of designs"
    return "failures of the oracle nearby"


def _bound(limit: Limit, domain: Domain) -> str:
    """Return the value of a bound, for parameters with names."""
    parameter: Any = domain.axes[limit.name]
    value = getattr(parameter, "high" if limit.side > 0 else "low", None)
    return "" if value is None else f" {value:.4g}"
