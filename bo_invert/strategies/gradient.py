"""Multi-start gradient descent, the baseline for differentiable oracles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, option
from bo_invert.strategies.requirements import require_gradients
from bo_invert.types import Array, Descent, Query, Trial


@dataclass(frozen=True)
class Gradient(Strategy):
    """Multi-start gradient descent with Adam or L-BFGS, run next to the oracle.

    A share of the budget screens draws from the reference measure, one call each, because the
    start decides in which basin a descent ends. Descents then start from the best points without
    a former descent nearby, and from new draws afterwards. A step costs two calls, a value and a
    gradient. Use it for differentiable oracles, whose gradients cost about as much as values.

    Args:
        optimizer: ``"adam"`` or ``"lbfgs"``.
        starts: number of descents that share the budget; default: ``4 sqrt(pairs)`` steps each,
            at most 100, for a budget of that many pairs of value and gradient.
        steps: steps of one descent; default: from the budget and ``starts``, 50 without a budget.
            It is halved if descents run on a gradient proxy, because only their last value is
            that of the oracle.
        learning_rate: step of Adam in units of the coordinates; default: a fixed distance over
            the number of steps, see ``Domain.descent_rate``.
        screen: share of the budget for screening, in [0, 1).
        from_best: also start from observations of the user and of other strategies.
    """

    optimizer: str = option("adam", among=("adam", "lbfgs"))
    starts: int | None = option(None, ge=1)
    steps: int | None = option(None, ge=1)
    learning_rate: float | None = option(None, gt=0)
    screen: float = option(0.1, ge=0, lt=1)
    from_best: bool = True

    name = "gradient"

    def check(self, statement: ProblemStatement) -> None:
        require_gradients(self.name, statement)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, rng = History(trials), request.rng()
        left = math.inf if request.budget is None else request.budget - history.committed
        queries = self._screening(statement, trials, request, left, rng)
        if queries or any(t.state.open and _screened(t) for t in trials):
            return Proposal(queries)  # descents wait until all screened points are observed
        steps = self._steps(trials, request)
        starts = self._candidates(statement, history)[: request.count]
        seed = draw_seed(rng)
        found: list[Query] = []
        while len(found) < request.count and left >= 1:
            start = starts.pop(0) if starts else statement.domain.sample(rng, 1)[0]
            # The last descent takes the rest of the budget.
            # A step costs two calls. With fewer than 3 calls per step left, less than half a
            # descent would remain after this one.
            length = steps if left >= 3 * steps else max(1, int(left) // 2)
            rate = self.learning_rate or statement.domain.descent_rate(length)
            descent = Descent(length, self.optimizer, rate)
            query = Query(
                start, descent=descent if left >= 2 else None, origin=self.name, meta={"seed": seed}
            )
            found.append(query)
            left -= query.cost.calls
        return Proposal(tuple(found))

    def _screening(
        self,
        statement: ProblemStatement,
        trials: Sequence[Trial],
        request: Request,
        left: float,
        rng: np.random.Generator,
    ) -> tuple[Query, ...]:
        wanted = int(self.screen * (request.budget or 0)) - sum(_screened(t) for t in trials)
        count = int(min(max(0, wanted), request.count, max(0.0, left)))
        points = statement.domain.sample(rng, count)
        return tuple(Query(point, origin=self.name, meta={"screen": True}) for point in points)

    def _steps(self, trials: Sequence[Trial], request: Request) -> int:
        if self.steps is not None:
            return self.steps
        if request.budget is None:
            steps = 50
        else:
            # Steps and starts both grow with the square root of the budget.
            # Since pairs = starts * steps, steps = 4 sqrt(pairs) implies starts = sqrt(pairs) / 4.
            pairs = 0.5 * (1.0 - self.screen) * request.budget
            steps = int(pairs / self.starts if self.starts else min(100.0, 4.0 * math.sqrt(pairs)))
        halved = not self.starts and any(_used_proxy(t) for t in trials)
        return max(5, steps // 2) if halved else max(1, steps)

    def _candidates(self, statement: ProblemStatement, history: History) -> list[Array]:
        """Return starts of descents, best first, at a distance from ends and other starts."""
        # Adam's first step moves each coordinate by its rate, a distance of rate * sqrt(d).
        distance = statement.domain.default_rate * math.sqrt(statement.domain.dim)
        descents = [t for t in history.trials if t.query.descent is not None]
        # Both ends count: a second descent from either would repeat the first.
        taken = [t.query.point for t in descents] + [t.point for t in descents]
        found: list[Array] = []
        for trial in history.ranking:
            possible = trial.query.descent is None and (_screened(trial) or self.from_best)
            if possible and all(np.linalg.norm(trial.point - other) > distance for other in taken):
                found.append(trial.point)
                taken.append(trial.point)
        return found


def _screened(trial: Trial) -> bool:
    return trial.origin == Gradient.name and bool(trial.query.meta.get("screen"))


def _used_proxy(trial: Trial) -> bool:
    """Return True if only the last value of a descent is that of the oracle.

    The descent ran on a gradient proxy or with augmented designs.
    """
    trace = None if trial.outcome is None or trial.query.descent is None else trial.outcome.trace
    return (
        trace is not None
        and len(trace) > 2
        and bool(np.isnan(trace[:-1]).all())
        and bool(np.isfinite(trace[-1]))
    )
