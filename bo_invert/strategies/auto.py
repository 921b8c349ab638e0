"""The strategy for those who do not want to choose one: it looks at the problem and at the data, and says why."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bo_invert.history import History
from bo_invert.models.least_squares.convergence import target_reached
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import JSON, Query, Trial

_MANY = 1000
"""Told points beyond which a local model is worth more than a global one of a selection."""
_WIDE = 40
"""Coordinates of a latent from which a model that is linear on the sphere may predict better than a smooth one."""
_SUSPECT, _SUSPECT_WARPED = 1e-3, 5e-2
"""Share of an output's variance that the model takes for noise, from which one point is asked again."""
_BEGINNING = "a look around, before a model can say anything"
_UNSTEADY = ", as a point asked twice was answered differently"
_SAID = ", as the oracle is said to be noisy"
_NEAR = 0.2
"""Length of a trust region that follows a global search."""
_GAIN = 0.05
"""Share of what lies between the best loss and the median of the latest that counts as a gain."""


class _Choice(NamedTuple):
    """A strategy's spec, and why it is the one."""

    spec: JSON
    why: str


@dataclass(frozen=True)
class Auto(Strategy):
    """Chooses a strategy by the problem, and again as the data come in.

    - A target on real parameters: ``least_squares``, which models the residuals and follows them.
    - Another objective of an oracle with gradients: ``polish``, which searches with ``gp`` and ends with descents.
    - A latent of many coordinates: ``spherical`` or ``gp``, whichever predicts left-out trials better.
    - More than 1,000 told points: ``turbo``.
    - Anything else: ``gp``, in turns with ``turbo`` as soon as one of them gains little.

    What kind of process models the outputs (kernel, noise, warp) is chosen by leave-one-out inside these. Where the
    model sees noise, or a target resists, one point is asked a second time: a different answer means that the oracle
    is noisy. Then ``gp`` and ``turbo`` are told so, and what trusts every digit of an answer (``least_squares``,
    ``polish``) is left out. The reason of a choice is kept with its queries (``query.meta["why"]``).

    Args:
        noisy: whether the oracle answers differently to the same point; None to find out. Saying it saves the second
            look, and from the first call on no lucky value is believed.
        device: where the processes of ``gp`` and ``turbo`` live, as torch names it.
    """

    name = "auto"
    noisy: bool | None = None
    device: str = "cpu"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history = History(trials)
        memo = request.memo or {"children": {}}
        again = _repeat(statement, history, request, memo) if self.noisy is None else None
        if again is not None:
            return Proposal((again,), memo)
        linear = _linear_is_better(statement, history, memo)
        queries: tuple[Query, ...] = ()
        better = linear is not None and linear["better"]
        for spec, why in _choices(statement, history, request, self, better):
            key = json.dumps(spec, sort_keys=True)
            child = replace(request, memo=memo["children"].get(key))
            proposal = from_spec(spec).ask(statement, trials, child)
            memo = {"linear": linear, "children": {**memo["children"], key: proposal.memo}}
            queries = tuple(
                replace(
                    query, meta={**query.meta, "why": _BEGINNING if "design" in query.meta else why}
                )
                for query in proposal.queries
            )
            if queries or history.pending or target_reached(statement.objective, history):
                break
        return Proposal(queries, memo)

    def outlook(
        self, statement: ProblemStatement, trials: Sequence[Trial], budget: int
    ) -> tuple[str, str]:
        """Which strategy it would take, and why, with these trials told and nothing left to look at first.

        Args:
            statement: of the problem.
            trials: what is known.
            budget: calls the whole study may spend.
        """
        spec, why = next(_choices(statement, History(trials), Request(budget=budget), self, False))
        return str(spec["name"]), why


def _choices(
    statement: ProblemStatement, history: History, request: Request, options: Auto, linear: bool
) -> Iterator[_Choice]:
    """What to do, and what to do where that has nothing to propose."""
    domain, told = statement.domain, len(history.completed)
    said = options.noisy
    noisy = history.noise_observed if said is None else said
    settings: dict[str, JSON] = {} if options.device == "cpu" else {"device": options.device}
    settings |= {"noisy": True} if noisy else {}
    words = _UNSTEADY if noisy and said is None else _SAID if noisy else ""
    calls = math.inf if request.budget is None else request.budget
    if (
        isinstance(statement.objective, Target)
        and domain.continuous
        and not noisy
        and calls >= 2 * domain.dim
    ):
        if _flat(history):
            words = ": a target, but different points are answered exactly alike, so residuals show no way"
        else:
            yield _Choice(
                {"name": "least_squares"},
                "least_squares: every output tells by how much the target is missed",
            )
    elif statement.differentiable and not noisy and calls >= 20:
        yield _Choice(
            {"name": "polish"}, "polish: the oracle has gradients, so descents finish the search"
        )
    if told > _MANY:
        yield _Choice(
            {"name": "turbo", "options": settings},
            f"turbo: {told} trials are too many for one model{words}",
        )
        return
    if linear:
        yield _Choice(
            {"name": "spherical"},
            "spherical: a linear model on the latent's shell predicts better here",
        )
    if not noisy and _turn(history, domain.dim) == "turbo":
        near = {"length": _NEAR, **settings}
        yield _Choice(
            {"name": "turbo", "options": near}, "turbo: the global search gained little for a while"
        )
    yield _Choice({"name": "gp", "options": settings}, f"gp: a global model of the outputs{words}")


def _turn(history: History, dim: int) -> str:
    """Whether it is the turn of ``gp`` or of ``turbo``: each goes on until its calls have gained little for a while.

    A region needs about ``dim`` calls in vain to halve, so ``turbo`` is given time to come near.
    """
    patience = {"gp": max(12, dim), "turbo": max(24, 2 * dim)}
    turn, vain, best, level = "gp", 0, math.inf, math.inf
    recent: deque[float] = deque(maxlen=20)
    for trial in history.completed:
        loss = trial.loss if trial.loss is not None else math.inf
        best = min(best, loss if trial.feasible else math.inf)
        recent.append(loss)
        if best < math.inf and (
            level == math.inf or best < level - _GAIN * (float(np.median(recent)) - best)
        ):
            vain, level = 0, best
            turn = trial.origin if trial.origin in patience else turn
        elif trial.origin == turn and "design" not in trial.query.meta:
            vain += 1
        if vain >= patience[turn]:
            turn, vain, level = "turbo" if turn == "gp" else "gp", 0, best
    return turn


def _repeat(
    statement: ProblemStatement, history: History, request: Request, memo: JSON
) -> Query | None:
    """A told point to be asked again, if that would settle whether the oracle is noisy and is not known yet."""
    told = history.completed
    rest = math.inf if request.budget is None else request.budget - history.committed
    if len(told) < max(30, 4 * statement.domain.dim) or rest < 10 or not history.ranking:
        return None
    if any("repeat" in trial.query.meta for trial in history.trials) or len(history.groups) < len(
        told
    ):
        return None
    best = history.ranking[0]
    if not (_sees_noise(memo) or (best.origin == "least_squares" and not _near(history))):
        return None
    why = "a point asked again: a different answer would mean that the oracle is noisy"
    return Query(best.point, origin=Auto.name, meta={"repeat": best.number, "why": why})


def _sees_noise(memo: JSON) -> bool:
    """Whether the global model takes much of an output for noise; a warp enlarges small differences near the best."""
    for key, child in memo["children"].items():
        if json.loads(key)["name"] == "gp" and child is not None and child.get("outputs"):
            fit = child["outputs"]
            limit = _SUSPECT_WARPED if any(fit["knees"]) else _SUSPECT
            if any(math.exp(logs[-1]) > limit for logs in fit["logs"]):
                return True
    return False


def _near(history: History) -> bool:
    """Whether a target is almost hit."""
    return bool(history.losses.min() < 1e-6 * float(np.median(history.losses)))


def _flat(history: History) -> bool:
    """Whether several different points were answered exactly alike, as by trees, rounding or clipping."""
    if len(history.completed) < 4:
        return False
    points = np.unique(history.points, axis=0, return_index=True)[1]
    return len(np.unique(history.y[points], axis=0)) <= len(points) - 2


def _linear_is_better(statement: ProblemStatement, history: History, memo: JSON) -> JSON:
    """Whether a model that is linear on the shell predicts better, compared anew when the data grew by a quarter."""
    told = len(history.completed)
    known = memo.get("linear")
    if not statement.domain.latent or statement.domain.dim < _WIDE or told < 20:
        return None
    if known is not None and told < 1.25 * known["told"]:
        return known
    from bo_invert.models.model_comparison import linear_is_better

    return {"told": told, "better": linear_is_better(statement, history)}
