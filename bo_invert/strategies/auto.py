"""Automatic strategy selection."""

from __future__ import annotations

import json
import math
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from bo_invert.history import History
from bo_invert.models.least_squares.target_reached import target_reached
from bo_invert.objectives import ProblemStatement, Target
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.strategies.target_turns import target_turn
from bo_invert.types import JSON, Query, Trial

# The thresholds are tuned on the benchmark suite, see docs/benchmarks.md.
# Observations beyond which a local surrogate replaces a global one: Engineering choice, the size
# at which ``gp`` starts to model a subset of the observations.
_MAX_GLOBAL = 1000
# Engineering choice: least number of latent coordinates at which the linear model is compared.
_MIN_LINEAR_DIM = 40
# Engineering choice: fitted noise, as a share of an output's variance, from which one point is
# evaluated again. The second value holds for warped outputs, which enlarge small differences.
_SUSPECT_NOISE, _SUSPECT_WARPED_NOISE = 1e-3, 5e-2
# Engineering choice: initial side of the trust region after a global search, in units of the unit
# cube. The search starts at a good point, so it is shorter than TuRBO's 0.8.
_REFINING_LENGTH = 0.2
# Engineering choice: share of the distance between the median of the latest 20 losses and the
# incumbent that counts as an improvement.
_IMPROVEMENT = 0.05
# Engineering choice: share of the distance between the median of all losses and the incumbent
# below which no improvement counts. The latest losses alone shrink with the trust region.
_NEGLIGIBLE = 1e-3
# Engineering choice: wide samples that may be owed; a single known output causes none.
_ALLOWED_DEBT = 2.0
# Engineering choice: gradients after which descents replace a global model of them. A descent of
# 100 steps then costs less time than one ask.
_MAX_GRADIENTS = 100
# Engineering choice: noise of derivatives, in units of their prior variance, above which they tell
# the surrogate almost nothing, and observations from which this is known.
_MAX_SLOPE_NOISE, _FEWEST_GRADIENTS = 1.0, 8
_PATIENT = ("gp", "turbo")
_WIDE: dict[str, JSON] = {
    "pcn": {"name": "pcn"},
    # Engineering choice: number of candidates for a point far from all known ones.
    "prior": {"name": "prior", "options": {"candidates": 32}},
}


@dataclass(frozen=True)
class Auto(Strategy):
    """Automatic strategy selection, repeated at every ask.

    The first row that applies decides:

    ====================================================  =======================
    a target, real parameters, an exact oracle            ``gp``, ``least_squares``
    gradients, an exact oracle: 100 of them, then more    ``gradient_gp``, ``gradient``
    the same, with outcome constraints                    ``polish``
    more than 1,000 observations                          ``turbo``
    a latent of 40 or more coordinates in which the       ``spherical``
    linear model has better leave-one-out predictions
    otherwise                                             ``gp`` and ``turbo``
    ====================================================  =======================

    ``gp`` and ``turbo`` alternate: each continues until its calls bring no improvement for
    ``max(12, d)`` and ``max(24, 2 d)`` calls. ``gp`` continues alone if there are choices without
    an order, because a trust region rarely changes them. ``least_squares`` is left out if different
    points have equal outputs, because residuals then have no slope.

    *Noise.* If ``gp`` estimates noise, or ``least_squares`` does not reach the target, the best
    point is evaluated once more. If the outputs differ, the oracle is noisy: ``gp`` and ``turbo``
    then run with ``noisy=True``, and ``least_squares`` and gradients are left out.

    A query stores the reason of the choice in ``query.meta["why"]``.

    Args:
        noisy: True or False if it is known whether the oracle is noisy; None to determine it by
            one repeated evaluation.
        device: torch device of the surrogates of ``gp`` and ``turbo``.
    """

    name = "auto"
    noisy: bool | None = None
    device: str = "cpu"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history = History(trials)
        memo = request.memo or {"children": {}}
        repeat = _repeat(statement, history, request, memo) if self.noisy is None else None
        if repeat is not None:
            return Proposal((repeat,), memo)
        comparison = _compare_linear(statement, history, memo)
        linear = comparison is not None and comparison["better"]
        queries: tuple[Query, ...] = ()
        for spec, why in _selections(statement, history, replace(request, memo=memo), self, linear):
            key = json.dumps(spec, sort_keys=True)
            child = replace(request, memo=memo["children"].get(key))
            proposal = from_spec(spec).ask(statement, trials, child)
            memo = {"linear": comparison, "children": {**memo["children"], key: proposal.memo}}
            queries = tuple(
                replace(q, meta={**q.meta, "why": "initial design" if "design" in q.meta else why})
                for q in proposal.queries
            )
            if queries or history.pending or target_reached(statement.objective, history):
                break
        return Proposal(queries, memo)

    def outlook(
        self, statement: ProblemStatement, trials: Sequence[Trial], budget: int
    ) -> tuple[str, str]:
        """Return the strategy that it would choose after the initial design, and the reason.

        Args:
            statement: problem statement.
            trials: known trials.
            budget: largest number of calls of the study.
        """
        request = Request(budget=budget)
        spec, why = next(_selections(statement, History(trials), request, self, False))
        return str(spec["name"]), why


def _selections(
    statement: ProblemStatement, history: History, request: Request, options: Auto, linear: bool
) -> Iterator[tuple[JSON, str]]:
    """Yield spec and reason of the chosen strategy, then of those that follow when it ends."""
    domain, observed = statement.domain, len(history.completed)
    noisy = history.noise_observed if options.noisy is None else options.noisy
    settings: dict[str, JSON] = {} if options.device == "cpu" else {"device": options.device}
    settings |= {"noisy": True} if noisy else {}
    source = (
        "repeated evaluations differ" if options.noisy is None else "the oracle is declared noisy"
    )
    remark = f", with noise, because {source}" if noisy else ""
    calls = math.inf if request.budget is None else request.budget
    target = isinstance(statement.objective, Target)
    if target and domain.continuous and not noisy and calls >= 2 * domain.dim:
        if _piecewise_constant(history):
            remark = ", not least_squares, because different points have equal outputs"
        else:
            if observed <= _MAX_GLOBAL and target_turn(statement, history, request.budget) == "gp":
                yield {"name": "gp", "options": settings}, "gp: model of all outputs of a target"
            yield {"name": "least_squares"}, "least_squares: Gauss-Newton steps for a target"
    elif statement.differentiable and not noisy and calls >= 20:
        yield _with_gradients(statement, history, request.memo)
    if observed > _MAX_GLOBAL:
        why = f"turbo: trust region, {observed} observations are too many for a global GP{remark}"
        yield {"name": "turbo", "options": settings}, why
        return
    if linear:
        yield {"name": "spherical"}, "spherical: better leave-one-out predictions than gp"
    wide = _wide_sampler(history) if not noisy and domain.continuous else None
    if wide is not None:
        yield _WIDE[wide], f"{wide}: a wide sample, because asks bring nothing new"
    # A trust region keeps the values of choices, also the wrong ones.
    regional = not noisy and not domain.has_unordered
    if regional and _turn(history, domain.parameter_count) == "turbo":
        near = {"length": _REFINING_LENGTH, **settings}
        why = "turbo: trust region, because gp brings no improvement"
        yield {"name": "turbo", "options": near}, why
    yield {"name": "gp", "options": settings}, f"gp: global Gaussian process{remark}"


def _with_gradients(statement: ProblemStatement, history: History, memo: JSON) -> tuple[JSON, str]:
    """Return spec and reason of the strategy for an oracle with gradients."""
    if statement.constraints or not statement.domain.continuous:
        return {"name": "polish"}, "polish: search, then gradient descent"
    spec: JSON = {"name": "gradient_gp"}
    fit = ((memo or {}).get("children", {}).get(json.dumps(spec, sort_keys=True))) or {}
    if fit.get("n", 0) >= _FEWEST_GRADIENTS:
        noise = math.exp(fit["logs"][fit["kernel"]][-1])
        if noise > _MAX_SLOPE_NOISE:
            return {"name": "polish"}, "polish: gradients say little about values elsewhere"
    if sum(trial.query.gradient for trial in history.completed) < _MAX_GRADIENTS:
        return spec, "gradient_gp: global Gaussian process of loss and gradient"
    why = f"gradient: descents, {_MAX_GRADIENTS} gradients are enough for a global model"
    return {"name": "gradient", "options": {"optimizer": "lbfgs"}}, why


def _wide_sampler(history: History) -> str | None:
    """Return the strategy of a wide sample if asks bring nothing new since the latest gain.

    Under a function with steps, ``gp`` and ``turbo`` follow a posterior mean that is smooth, and
    stay within the plateau of the incumbent. Each known output owes two samples of ``pcn``. Near a
    local optimum they refine digits while other basins are unknown. The posterior does not expect
    these, so a negligible change owes one draw of ``prior``, far from all known points.
    """
    best, level, losses = math.inf, math.inf, list[float]()
    known, owed = set[bytes](), dict.fromkeys(_WIDE, 0.0)
    for trial in history.completed:
        loss = math.inf if trial.loss is None else trial.loss
        insort(losses, loss)
        y = np.asarray(trial.y).tobytes()
        best = min(best, loss if trial.feasible else math.inf)
        negligible = _negligible(losses, best)
        if best < level - negligible or level == math.inf:
            level, owed = best, dict.fromkeys(_WIDE, 0.0)
        elif trial.origin in owed:
            owed[trial.origin] -= 1.0
        elif trial.origin in _PATIENT and "design" not in trial.query.meta:
            owed["pcn"] += 2.0 * (y in known)
            owed["prior"] += 1.0 * (y not in known and loss < best + negligible)
        known.add(y)
    return next((name for name, debt in owed.items() if debt > _ALLOWED_DEBT), None)


def _negligible(losses: Sequence[float], best: float) -> float:
    """Return the largest negligible difference of sorted losses; 0 before a feasible one."""
    # ``median`` sorts, which takes linear time for a sorted list.
    return _NEGLIGIBLE * (median(losses) - best) if best < math.inf else 0.0


def _turn(history: History, dim: int) -> str:
    """Return ``"gp"`` or ``"turbo"``, the strategy whose turn it is.

    A strategy loses its turn after ``patience`` calls without an improvement. A trust region
    needs about ``dim`` unsuccessful calls to halve, so ``turbo`` has twice the patience.
    """
    patience = {"gp": max(12, dim), "turbo": max(24, 2 * dim)}
    turn, unsuccessful, best, level = "gp", 0, math.inf, math.inf
    recent: deque[float] = deque(maxlen=20)
    losses: list[float] = []
    for trial in history.completed:
        loss = trial.loss if trial.loss is not None else math.inf
        best = min(best, loss if trial.feasible else math.inf)
        recent.append(loss)
        insort(losses, loss)
        if best < math.inf and (
            level == math.inf
            or best < level - max(_IMPROVEMENT * (median(recent) - best), _negligible(losses, best))
        ):
            unsuccessful, level = 0, best
            turn = trial.origin if trial.origin in patience else turn
        elif trial.origin in (turn, *_WIDE) and "design" not in trial.query.meta:
            unsuccessful += 1
        if unsuccessful >= patience[turn]:
            turn, unsuccessful, level = "turbo" if turn == "gp" else "gp", 0, best
    return turn


def _repeat(
    statement: ProblemStatement, history: History, request: Request, memo: JSON
) -> Query | None:
    """Return a repeated query of the best point, if noise is suspected and no point is repeated."""
    completed = len(history.completed)
    rest = math.inf if request.budget is None else request.budget - history.committed
    enough = max(30, 4 * statement.domain.parameter_count)
    if completed < enough or rest < 10 or not history.ranking:
        return None
    repeated = any("repeat" in trial.query.meta for trial in history.trials)
    if repeated or len(history.groups) < completed:
        return None
    best = history.ranking[0]
    near = history.losses.min() < 1e-6 * float(np.median(history.losses))
    unreached = best.origin == "least_squares" and not near
    if not (_noise_estimated(memo) or unreached):
        return None
    why = "repeated evaluation of the best point, to test whether the oracle is noisy"
    return Query(best.point, origin=Auto.name, meta={"repeat": best.number, "why": why})


def _noise_estimated(memo: JSON) -> bool:
    """Return True if the hyperparameters of ``gp`` hold a considerable noise variance."""
    fits = (
        child["outputs"]
        for key, child in memo["children"].items()
        if json.loads(key)["name"] == "gp" and child is not None and child.get("outputs")
    )
    return any(
        math.exp(logs[-1]) > (_SUSPECT_WARPED_NOISE if any(fit["knees"]) else _SUSPECT_NOISE)
        for fit in fits
        for logs in fit["logs"]
    )


def _piecewise_constant(history: History) -> bool:
    """Return True if at least two observed points repeat the outputs of other points.

    Trees, rounding and clipping cause this.
    """
    if len(history.completed) < 4:
        return False
    points = np.unique(history.points, axis=0, return_index=True)[1]
    return len(np.unique(history.y[points], axis=0)) <= len(points) - 2


def _compare_linear(statement: ProblemStatement, history: History, memo: JSON) -> JSON:
    """Compare the linear model with the GP by leave-one-out predictions.

    The comparison is repeated when the number of observations has grown by a quarter.
    """
    completed = len(history.completed)
    known = memo.get("linear")
    domain = statement.domain
    if not domain.latent or domain.dim < _MIN_LINEAR_DIM or completed < 20:
        return None
    if known is not None and completed < 1.25 * known["told"]:
        return known
    from bo_invert.models.model_comparison import linear_is_better

    return {"told": completed, "better": linear_is_better(statement, history)}
