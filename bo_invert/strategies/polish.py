"""Search, then local refinement by gradients of the oracle or of a local surrogate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.history import History
from bo_invert.models.acquisition.expected_improvement import posterior_mean_score
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.optim.optimize_acquisition import optimize_in_box
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, from_spec, option
from bo_invert.strategies.phases import TwoPhaseStrategy, ask_with_memo
from bo_invert.types import Array, Descent, Query

# Engineering choice: least steps of each of several descents. With a smaller budget one longer
# descent from the best point gains more.
_MIN_STEPS = 10


@dataclass(frozen=True)
class Polish(TwoPhaseStrategy):
    """Base strategy for a share of the budget, then local refinement of its best points.

    *With gradients*, the refinement is gradient descent next to the oracle from the best feasible
    points, at two calls a step. If calls are left after a descent, the best point is refined
    again at half the learning rate.

    *Without gradients*, a GP is fitted to the observations near the incumbent. Each query
    minimises the loss of its posterior mean within a trust region around the incumbent. The
    initial half-width is ``radius`` times the width of the domain. It halves after each query
    without improvement.

    The refinement respects the plausibility ``floor`` of a latent. Use it if the last digits
    matter.

    Args:
        base: a strategy, its name or its spec.
        share: share of the budget for the base strategy, in [0, 1].
        calls: calls for the base strategy in a study without a budget.
        starts: number of points that are refined in parallel, if the budget suffices.
        steps: largest number of steps of a descent; None for the rest of the budget, or 50
            without a budget.
        optimizer: ``"adam"`` or ``"lbfgs"``.
        learning_rate: step of Adam in units of the coordinates; default 0.02 in a box, 0.1 in a
            latent.
        radius: initial half-width of the trust region, in (0, 1].
    """

    name = "polish"
    models_outside = True
    base: Any = "gp"
    share: float = option(0.7, ge=0, le=1)
    calls: int | None = None
    starts: int = option(2, ge=1)
    steps: int | None = option(None, ge=1)
    optimizer: str = option("adam", among=("adam", "lbfgs"))
    learning_rate: float | None = option(None, gt=0)
    radius: float = option(0.1, gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        from_spec(self.base)

    def check(self, statement: ProblemStatement) -> None:
        from_spec(self.base).check(statement)

    def _limit(self, statement: ProblemStatement, budget: int | None) -> int | None:
        """Return the calls for the base strategy; the rest is even if a step costs two calls."""
        if budget is None:
            return self.calls
        rest = budget - round(self.share * budget)
        return budget - (rest - rest % 2 if statement.differentiable else rest)

    def _first(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        return ask_with_memo("base", self.base, statement, history, request)

    def _second(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        refine = self._descend if statement.differentiable else self._follow_surrogate
        return refine(statement, history, request)

    def _descend(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        left = None if request.budget is None else request.budget - history.committed
        # Without a feasible point the descents start at the smallest violations.
        ranking = [trial for trial in history.ranking if trial.feasible] or list(history.ranking)
        used = {t.query.meta.get("start") for t in history.trials if t.query.descent is not None}
        # A trial starts at most one descent.
        fresh = [trial for trial in ranking if trial.number not in used]
        if history.pending and not any(trial.query.descent is None for trial in history.pending):
            # The ends of pending descents are the next starts.
            return Proposal((), request.memo)
        if not fresh or (left is not None and left < 2):
            again = left == 1 or not ranking
            return self._first(statement, history, request) if again else Proposal((), request.memo)
        descents = min(self.starts, request.count, len(fresh))
        if left is not None:
            # A step costs two calls, a value and a gradient.
            descents = max(1, min(descents, left // (2 * _MIN_STEPS)))
        rate = self.learning_rate or statement.domain.default_rate
        queries = []
        for i, trial in enumerate(fresh[:descents]):
            steps = 50 if left is None else left // 2 // descents + (i < left // 2 % descents)
            depth = int(trial.query.meta.get("depth", -1)) + 1
            # Adam's steps have about the length of the rate even near a minimum. A smaller rate
            # resolves the minimum more finely.
            descent = Descent(min(steps, self.steps or steps), self.optimizer, rate * 0.5**depth)
            meta = {"start": trial.number, "depth": depth}
            queries.append(Query(trial.point, descent=descent, origin=self.name, meta=meta))
        return Proposal(tuple(queries), request.memo)

    def _follow_surrogate(
        self, statement: ProblemStatement, history: History, request: Request
    ) -> Proposal:
        if len(history.completed) < 2:
            return self._first(statement, history, request)
        domain, rng = statement.domain, request.rng()
        with one_thread():
            centre = domain.project(history.ranking[0].point)
            halvings, penalty = self._unsuccessful(history), plausibility_penalty(domain)
            inputs = to_unit(domain, history.points)
            # Few points, so that the GP resolves small losses. A quadratic has (d + 1)(d + 2)/2
            # coefficients; twice as many points determine all curvatures.
            gaps = np.linalg.norm(inputs - to_unit(domain, centre[None]), axis=1)
            near = np.argsort(gaps, kind="stable")[: max(10, (domain.dim + 1) * (domain.dim + 2))]
            outputs = ModelledOutputs(statement, history.y[near], history.losses[near])
            score = posterior_mean_score(fit_surrogate(inputs[near], outputs.values), outputs)
            if penalty is not None:
                score = _penalised(score, float(history.losses[near].std()), penalty)
            picked: list[Array] = []
            for i in range(request.count):
                # Later points of a batch search in smaller regions, so that they differ.
                reach = self.radius * 0.5 ** min(halvings + i, 20)
                picked.append(
                    optimize_in_box(
                        score, domain, centre, reach, [*history.all_points, *picked], rng
                    )
                )
        return Proposal(tuple(Query(point, origin=self.name) for point in picked), request.memo)

    def _unsuccessful(self, history: History) -> int:
        """Count the refining queries that did not improve on the incumbent."""
        best, count = np.inf, 0
        for trial in history.completed:
            loss = trial.loss if trial.feasible and trial.loss is not None else np.inf
            count += trial.origin == self.name and loss >= best
            best = min(best, loss)
        return count


def _penalised(score: Score, unit: float, penalty: Score) -> Score:
    """Add the plausibility penalty to a score in units of the spread of the losses."""
    return lambda inputs: score(inputs) / (unit or 1.0) + penalty(inputs)
