"""Search first, then refine the best points: by the oracle's gradients where it has them, else by a surrogate's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.threads import one_thread
from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import JSON, Array, Descent, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score

_MIN_STEPS = 10
"""A shorter descent from a second point is worth less than a longer one from the first."""


@dataclass(frozen=True)
class Polish(Strategy):
    """A strategy for a share of the budget, then refinement of the best points it found.

    On a differentiable problem the refinement is gradient descent next to the oracle, from the best feasible points,
    at two calls a step. When a descent ends with calls to spare, the best point is refined again at half the rate.

    Elsewhere it queries where the loss of a local surrogate's mean is least within a trust region around the best
    point. The region is ``radius`` wide at first (in units of the domain's width) and halves after every query in vain.

    Descents and queries stay where a latent's ``floor`` allows; during the search that is up to the base strategy.

    Args:
        base: a strategy, its name or its spec.
        share: of the budget that goes to the base strategy, between 0 and 1.
        calls: for the base strategy, when the budget is open-ended.
        starts: how many points are refined side by side, where there is budget for that.
        steps: of one descent, at most; None for as many as the budget allows (50 when it is open-ended).
        optimizer: ``"adam"`` or ``"lbfgs"``.
        learning_rate: Adam's, in units of the domain; default 0.02 in a box and 0.1 in a latent.
        radius: of the first trust region.
    """

    name = "polish"
    base: Any = "gp"
    share: float = 0.7
    calls: int | None = None
    starts: int = 2
    steps: int | None = None
    optimizer: str = "adam"
    learning_rate: float | None = None
    radius: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.starts < 1 or not 0.0 < self.radius <= 1.0:
            raise InvalidInputError(
                f"strategy 'polish': share lies in [0, 1], starts is at least 1, radius lies in (0, 1]; got {self}"
            )
        if self.optimizer not in ("adam", "lbfgs") or (self.steps is not None and self.steps < 1):
            raise InvalidInputError(
                f"strategy 'polish': optimizer is 'adam' or 'lbfgs', steps at least 1; got {self}"
            )
        from_spec(self.base)

    def check(self, statement: ProblemStatement) -> None:
        from_spec(self.base).check(statement)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        memo = dict(request.memo or {})
        history = History(trials)
        limit = self._limit(statement, request.budget)
        room = None if limit is None else limit - history.committed
        if not memo.get("switched", False) and (room is None or room > 0):
            count = request.count if room is None else min(request.count, room)
            proposal = self._base(
                statement, trials, replace(request, count=count, budget=limit), memo
            )
            if proposal.queries or history.pending:
                return proposal
            memo = dict(proposal.memo)
        memo["switched"] = True
        if statement.differentiable:
            return self._descend(statement, history, request, memo)
        return self._follow_surrogate(statement, history, request, memo)

    def _limit(self, statement: ProblemStatement, budget: int | None) -> int | None:
        """Calls for the base strategy; what is left is even where every step costs two."""
        if budget is None:
            return self.calls
        rest = budget - round(self.share * budget)
        return budget - (rest - rest % 2 if statement.differentiable else rest)

    def _base(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request, memo: JSON
    ) -> Proposal:
        proposal = from_spec(self.base).ask(
            statement, trials, replace(request, memo=memo.get("base"))
        )
        return Proposal(proposal.queries, {**memo, "base": proposal.memo})

    def _descend(
        self, statement: ProblemStatement, history: History, request: Request, memo: JSON
    ) -> Proposal:
        left = None if request.budget is None else request.budget - history.committed
        ranking = [trial for trial in history.ranking if trial.feasible] or list(history.ranking)
        used = {
            trial.query.meta.get("start")
            for trial in history.trials
            if trial.query.descent is not None
        }
        fresh = [trial for trial in ranking if trial.number not in used]
        if history.pending and not any(trial.query.descent is None for trial in history.pending):
            return Proposal((), memo)  # descents under way: their arrivals are the next starts
        if not fresh or (left is not None and left < 2):
            if left == 1 or not ranking:
                return self._base(statement, history.trials, request, memo)
            return Proposal((), memo)
        many = min(self.starts, request.count, len(fresh))
        if left is not None:
            many = max(1, min(many, left // (2 * _MIN_STEPS)))
        queries = []
        for i, trial in enumerate(fresh[:many]):
            steps = 50 if left is None else left // 2 // many + (i < left // 2 % many)
            depth = int(trial.query.meta.get("depth", -1)) + 1
            queries.append(
                Query(
                    trial.point,
                    descent=Descent(
                        min(steps, self.steps or steps),
                        self.optimizer,
                        self._rate(statement, depth),
                    ),
                    origin=self.name,
                    meta={"start": trial.number, "depth": depth},
                )
            )
        return Proposal(tuple(queries), memo)

    def _rate(self, statement: ProblemStatement, depth: int) -> float:
        rate = self.learning_rate
        if rate is None:
            rate = statement.domain.default_rate
        return float(rate * 0.5**depth)

    def _follow_surrogate(
        self, statement: ProblemStatement, history: History, request: Request, memo: JSON
    ) -> Proposal:
        if len(history.completed) < 2:
            return self._base(statement, history.trials, request, memo)

        from bo_invert.models.acquisition import expected_improvement as acquisition
        from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
        from bo_invert.models.base import to_unit
        from bo_invert.models.gp import surrogate as exact
        from bo_invert.models.optim import optimize_acquisition as search
        from bo_invert.models.output_transforms import ModelledOutputs

        domain, rng = statement.domain, request.rng()
        with one_thread():
            centre = domain.project(history.ranking[0].point)
            halvings, wish = self._in_vain(history), plausibility_penalty(domain)
            inputs = to_unit(domain, history.points)
            # Few enough points that the model resolves what is left to gain, enough for every curvature
            gaps = np.linalg.norm(inputs - to_unit(domain, centre[None]), axis=1)
            near = np.argsort(gaps, kind="stable")[: max(10, (domain.dim + 1) * (domain.dim + 2))]
            outputs = ModelledOutputs(statement, history.y[near], history.losses[near])
            score = acquisition.posterior_mean_score(
                exact.fit_surrogate(inputs[near], outputs.values), outputs
            )
            if wish is not None:
                score = _wished(score, float(history.losses[near].std()), wish)
            known: list[Array] = [trial.point for trial in history.trials]
            picked: list[Array] = []
            for i in range(request.count):
                reach = self.radius * 0.5 ** min(halvings + i, 20)
                picked.append(
                    search.optimize_in_box(score, domain, centre, reach, [*known, *picked], rng)
                )
        queries = tuple(Query(point, origin=self.name) for point in picked)
        return Proposal(queries, memo)

    def _in_vain(self, history: History) -> int:
        """Refining queries that did not improve on what was best before them."""
        best, vain = np.inf, 0
        for trial in history.completed:
            loss = trial.loss if trial.feasible and trial.loss is not None else np.inf
            vain += trial.origin == self.name and loss >= best
            best = min(best, loss)
        return vain


def _wished(score: Score, unit: float, wish: Score) -> Score:
    """A score in units of its own and the wish for plausible points, which no loss outweighs."""
    return lambda inputs: score(inputs) / (unit or 1.0) + wish(inputs)
