"""Multi-start gradient descent: what has to be beaten wherever there are gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.strategies.requirements import require_gradients
from bo_invert.types import Array, Descent, Query, Trial


@dataclass(frozen=True)
class Gradient(Strategy):
    """Descents from the most promising points nobody descended from, then from fresh draws, while budget remains.

    Part of the budget screens starting points first, one call each: a descent costs two calls per step, and which
    valley it ends in is decided by where it starts.

    Args:
        optimizer: ``"adam"`` or ``"lbfgs"``.
        starts: how many descents share the budget; default: as many as give each a sensible number of steps.
        steps: of one descent; default: from the budget and the number of starts, 50 without a budget. Halved when
            descents turn out to run on a stand-in, because then only their last value is true.
        learning_rate: of Adam, in units of the domain; default: from the geometry and the number of steps.
        screen: share of the budget spent on screening.
        from_best: whether points told by others (another strategy, the user) may serve as starts.
    """

    optimizer: str = "adam"
    starts: int | None = None
    steps: int | None = None
    learning_rate: float | None = None
    screen: float = 0.1
    from_best: bool = True

    name = "gradient"

    def __post_init__(self) -> None:
        if self.optimizer not in ("adam", "lbfgs"):
            raise InvalidInputError(
                f"gradient: optimizer is 'adam' or 'lbfgs', got {self.optimizer!r}"
            )
        if (self.starts is not None and self.starts < 1) or (
            self.steps is not None and self.steps < 1
        ):
            raise InvalidInputError(
                f"gradient: starts and steps are at least 1, got {self.starts} and {self.steps}"
            )
        if not 0.0 <= self.screen < 1.0:
            raise InvalidInputError(f"gradient: screen is a share in [0, 1), got {self.screen}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise InvalidInputError(
                f"gradient: learning_rate must be positive, got {self.learning_rate}"
            )

    def check(self, statement: ProblemStatement) -> None:
        require_gradients(self.name, statement)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, rng = History(trials), request.rng()
        left = math.inf if request.budget is None else request.budget - history.committed
        queries = self._screening(statement, trials, request, left, rng)
        if queries or any(t.state.open and _screened(t) for t in trials):
            return Proposal(queries)  # where to start is worth waiting for
        steps = self._steps(trials, request)
        starts = self._candidates(statement, history)[: request.count]
        seed = draw_seed(rng)
        found: list[Query] = []
        while len(found) < request.count and left >= 1:
            start = starts.pop(0) if starts else statement.domain.sample(rng, 1)[0]
            length = (
                steps if left >= 3 * steps else max(1, int(left) // 2)
            )  # the last descent takes the rest
            descent = Descent(length, self.optimizer, self._rate(statement, length))
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
        if request.budget is None:
            return ()
        wanted = int(self.screen * request.budget) - sum(_screened(t) for t in trials)
        count = int(min(max(0, wanted), request.count, max(0.0, left)))
        points = statement.domain.sample(rng, count)
        return tuple(Query(point, origin=self.name, meta={"screen": True}) for point in points)

    def _steps(self, trials: Sequence[Trial], request: Request) -> int:
        if self.steps is not None:
            return self.steps
        if request.budget is None:
            steps = 50
        else:
            pairs = 0.5 * (1.0 - self.screen) * request.budget
            steps = (
                int(pairs / self.starts) if self.starts else int(min(100.0, 4.0 * math.sqrt(pairs)))
            )
        return (
            max(5, steps // 2)
            if any(_stood_in(t) for t in trials) and not self.starts
            else max(1, steps)
        )

    def _rate(self, statement: ProblemStatement, steps: int) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return statement.domain.descent_rate(steps)

    def _candidates(self, statement: ProblemStatement, history: History) -> list[Array]:
        """Told points worth a descent, best first: not the end of one, and not where one has started or passed."""
        apart = statement.domain.default_rate * math.sqrt(statement.domain.dim)
        descents = [t for t in history.trials if t.query.descent is not None]
        taken = [t.query.point for t in descents] + [t.point for t in descents]
        found: list[Array] = []
        for trial in history.ranking:
            mine = _screened(trial)
            if trial.query.descent is not None or not (mine or self.from_best):
                continue
            if all(float(np.linalg.norm(trial.point - other)) > apart for other in taken):
                found.append(trial.point)
                taken.append(trial.point)
        return found


def _screened(trial: Trial) -> bool:
    return trial.origin == Gradient.name and bool(trial.query.meta.get("screen"))


def _stood_in(trial: Trial) -> bool:
    """Whether a told descent saw no true value but its last: it ran on a stand-in, or augmented."""
    trace = None if trial.outcome is None or trial.query.descent is None else trial.outcome.trace
    return (
        trace is not None
        and len(trace) > 2
        and bool(np.isnan(trace[:-1]).all())
        and bool(np.isfinite(trace[-1]))
    )
