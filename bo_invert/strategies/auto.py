"""Automatic strategy selection."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bo_invert.history import History
from bo_invert.models.least_squares.target_reached import target_reached
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, from_spec
from bo_invert.strategies.search_turns import WIDE, search_turn, share_of_forest, wide_sampler
from bo_invert.strategies.target_and_gradient_turns import (
    data_predict,
    descents_gain,
    gradients_gain,
    target_turn,
)
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
# Engineering choice: least number of observations before a repeated evaluation. With four per
# parameter, noise in 16 and 25 dimensions was not noticed within 60 calls (experiments/noise.py).
_MIN_TESTED = 20
# Engineering choice: initial side of the trust region after a global search, in units of the unit
# cube. The search starts at a good point, so it is shorter than TuRBO's 0.8.
_REFINING_LENGTH = 0.2
# Engineering choice: least number of observations at which a random forest is compared. The
# standard error of a rank correlation is then 0.22; it is 0.3 with 12 observations.
_MIN_FOREST = 20
# Engineering choice: calls after which descents replace a global model of gradients. A descent of
# 100 steps then costs less time than one ask.
_MAX_MODELLED = 200
# Engineering choice: share of the budget after which descents follow, as in ``polish``.
_SEARCHED = 0.7
# Engineering choice: least number of observations at which models with and without derivatives are
# compared.
_MIN_GRADIENTS = 12

# Engineering choice: steps of a descent, after which its gain is known. Ten steps of L-BFGS reach
# the minimum of a basin that is nearly quadratic.
_DESCENTS: JSON = {"name": "polish", "options": {"share": 0.0, "steps": 10, "optimizer": "lbfgs"}}
_GRADIENT_GP: JSON = {"name": "gradient_gp"}
_FOREST = {"name": "forest"}, "forest: random forest, because of its left-out predictions"


@dataclass(frozen=True)
class Auto(Strategy):
    """Automatic strategy selection, repeated at every ask.

    The first row that applies decides:

    ====================================================  =======================
    noise of the inputs                                   ``robust``
    a ``Pareto`` objective                                ``gp``
    a ``Nearest`` objective                               ``nearest``
    a target, an exact oracle, earlier observations that  ``retarget``
    predict the queries towards it
    a target, real parameters, an exact oracle            ``gp``, ``least_squares``
    gradients, an exact oracle                            ``gradient_gp``
    gradients, the last 30 % of the budget                ``polish``
    gradients, more than 200 calls                        ``gradient``
    gradients, with outcome constraints                   ``polish``
    more than 1,000 observations                          ``turbo``
    a latent of 40 or more coordinates in which the       ``spherical``
    linear model has better leave-one-out predictions
    otherwise                                             ``gp``, ``turbo``, ``forest``
    ====================================================  =======================

    With gradients, the last row follows ``gradient_gp`` after queries without an improvement, or if
    a GP of the values alone predicts left-out losses better, and ``polish`` after a descent without
    an improvement. ``gp`` and ``turbo`` alternate: each continues until
    its calls bring no improvement for ``max(12, d)`` and ``max(24, 2 d)`` calls. With choices
    without an order, ``turbo`` gets every fourth ask of its turn, because it rarely changes them.
    ``least_squares`` is left out if different points have equal outputs, because residuals then
    have no slope.

    ``forest`` gets a share of the asks of ``gp`` and ``turbo``. With r_f and r_g, Spearman's
    correlations of losses and left-out predictions, it is ``1 - (1 - r_f) / (2 (1 - r_g))``,
    between 0 and 3/4. It is determined at 20 observations, and again after every quarter more.
    Improvements by ``forest`` raise the share, those by the others lower it. It is 0 if there are
    choices without an order.

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
    models_outside = True
    multi_objective = True
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
        comparisons: dict[str, JSON] = {}
        if not isinstance(statement.objective, (Nearest, Pareto)):
            comparisons = {
                "linear": _compare_linear(statement, history, memo),
                "forest": _compare_forest(statement, history, memo, self.noisy, request),
                "gradients": _compare_gradients(statement, history, memo),
            }
        queries: tuple[Query, ...] = ()
        asked = replace(request, memo=memo)
        for spec, why in _selections(statement, history, asked, self, comparisons):
            key = json.dumps(spec, sort_keys=True)
            child = replace(request, memo=memo["children"].get(key))
            proposal = from_spec(spec).ask(statement, trials, child)
            memo = {**comparisons, "children": {**memo["children"], key: proposal.memo}}
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
        spec, why = next(_selections(statement, History(trials), request, self, {}))
        return str(spec["name"]), why


def _selections(
    statement: ProblemStatement,
    history: History,
    request: Request,
    options: Auto,
    comparisons: Mapping[str, JSON],
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
    if isinstance(statement.objective, Nearest):
        yield {"name": "nearest", "options": settings}, f"nearest: least change{remark}"
        return
    if statement.input_noise and not isinstance(statement.objective, Pareto):
        why = f"robust: yield under noise of the inputs{remark}"
        yield {"name": "robust", "options": settings}, why
        return
    if isinstance(statement.objective, Pareto):
        yield {"name": "gp", "options": settings}, f"gp: hypervolume of several criteria{remark}"
        return
    calls = math.inf if request.budget is None else request.budget
    share = 0.0 if noisy else share_of_forest(history, comparisons.get("forest"))
    # The number of the ask, because batches have sizes of their own.
    ask = request.number
    stepped = math.floor((ask + 1) * share) > math.floor(ask * share)
    target = isinstance(statement.objective, Target)
    smooth = target and not noisy and not _piecewise_constant(history)
    if smooth and observed <= _MAX_GLOBAL and data_predict(statement, history):
        yield {"name": "retarget"}, "retarget: the model of earlier data predicts the target"
    if target and domain.continuous and not noisy and calls >= 2 * domain.dim:
        if _piecewise_constant(history):
            remark = ", not least_squares, because different points have equal outputs"
        else:
            if (
                observed <= _MAX_GLOBAL
                and target_turn(statement, history, request.budget, request.count) == "gp"
            ):
                if stepped:
                    yield _FOREST
                yield {"name": "gp", "options": settings}, "gp: model of all outputs of a target"
            yield {"name": "least_squares"}, "least_squares: Gauss-Newton steps for a target"
    elif statement.differentiable and not noisy and calls >= 20:
        modelled = (comparisons.get("gradients") or {"better": True})["better"]
        chosen = _with_gradients(statement, history, request.budget, modelled)
        if chosen is not None:
            yield chosen
    if observed > _MAX_GLOBAL:
        why = f"turbo: trust region, {observed} observations are too many for a global GP{remark}"
        yield {"name": "turbo", "options": settings}, why
        return
    if (comparisons.get("linear") or {}).get("better"):
        yield {"name": "spherical"}, "spherical: better leave-one-out predictions than gp"
    data = not domain.latent and domain.reference is not None
    choices = domain.has_unordered and domain.has_real
    if not noisy and (not domain.has_unordered or data or choices):
        wide = wide_sampler(history, data=data, choices=choices)
        if wide is not None:
            yield WIDE[wide], f"{wide}: a wide sample, because asks bring nothing new"
    if stepped:
        yield _FOREST
    # A trust region keeps the values of choices, also the wrong ones, so it gets every fourth ask.
    regional = not noisy and (not domain.has_unordered or (domain.has_real and ask % 4 == 3))
    if regional and search_turn(history, domain.parameter_count) == "turbo":
        near = {"length": _REFINING_LENGTH, **settings}
        why = "turbo: trust region, because gp brings no improvement"
        yield {"name": "turbo", "options": near}, why
    yield {"name": "gp", "options": settings}, f"gp: global Gaussian process{remark}"


def _with_gradients(
    statement: ProblemStatement, history: History, budget: int | None, modelled: bool
) -> tuple[JSON, str] | None:
    """Return spec and reason of a strategy that uses gradients; None if values are to be used."""
    if statement.constraints or not statement.domain.continuous:
        return {"name": "polish"}, "polish: search, then gradient descent"
    if history.committed >= _MAX_MODELLED:
        why = f"gradient: descents, {_MAX_MODELLED} calls are enough for a global model"
        return {"name": "gradient", "options": {"optimizer": "lbfgs"}}, why
    if budget is not None and history.committed >= _SEARCHED * budget:
        if descents_gain(history):
            return _DESCENTS, "polish: descents with the rest of the budget"
        return None
    if not modelled or not gradients_gain(history, statement.domain.dim):
        return None
    return _GRADIENT_GP, "gradient_gp: global Gaussian process of loss and gradient"


def _repeat(
    statement: ProblemStatement, history: History, request: Request, memo: JSON
) -> Query | None:
    """Return a repeated query of the best point, if noise is suspected and no point is repeated."""
    completed = len(history.completed)
    rest = math.inf if request.budget is None else request.budget - history.committed
    if completed < _MIN_TESTED or rest < 10 or not history.ranking:
        return None
    repeated = any("repeat" in trial.query.meta for trial in history.trials)
    if repeated or len(history.groups) < completed:
        return None
    best = history.ranking[0]
    near = history.losses.min() < 1e-6 * float(np.median(history.losses))
    # The first Jacobians need some calls per parameter.
    patient = completed >= max(30, 4 * statement.domain.parameter_count)
    unreached = best.origin == "least_squares" and not near and patient
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


def _compare_forest(
    statement: ProblemStatement, history: History, memo: JSON, noisy: bool | None, request: Request
) -> JSON:
    """Compare a random forest with the GP by left-out predictions.

    The comparison is repeated when the number of observations has grown by a quarter.
    """
    completed = len(history.completed)
    known = memo.get("forest")
    # Choices without an order have a kernel of their own, which finds their values in fewer calls.
    if noisy or history.noise_observed or statement.domain.has_unordered:
        return None
    if not _MIN_FOREST <= completed <= _MAX_GLOBAL:
        return None
    if known is not None and completed < 1.25 * known["told"]:
        return known
    fit = _memo_of_gp(memo)
    if fit is None:
        return known
    from bo_invert.models.model_comparison import compare_forest

    forest, process = compare_forest(statement, history, fit, draw_seed(request.stream(1)))
    # 1/2 for equal errors; 0 if those of the forest are twice as large.
    share = 1.0 - (1.0 - forest) / max(2.0 * (1.0 - process), 1e-9)
    return {"told": completed, "share": max(share, 0.0)}


def _memo_of_gp(memo: JSON) -> JSON:
    """Return the memo of the surrogate of ``gp``; None before its first ask."""
    for key, child in memo["children"].items():
        if json.loads(key)["name"] == "gp" and child is not None:
            return child.get("outputs")
    return None


def _compare_gradients(statement: ProblemStatement, history: History, memo: JSON) -> JSON:
    """Compare ``gradient_gp`` with a GP of the loss alone by left-out predictions.

    The comparison is repeated when the number of observations has grown by a quarter, while
    derivatives improve predictions.
    """
    completed, known = len(history.completed), memo.get("gradients")
    if known is not None and (not known["better"] or completed < 1.25 * known["told"]):
        return known
    fit = memo["children"].get(json.dumps(_GRADIENT_GP, sort_keys=True))
    if fit is None or completed < _MIN_GRADIENTS:
        return known
    from bo_invert.models.model_comparison import derivatives_predict

    return {"told": completed, "better": derivatives_predict(statement, history, fit)}


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
