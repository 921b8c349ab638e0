"""Nonlinear least squares: Gauss-Newton steps on the oracle where they pay, on a model of it elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.least_squares.convergence import rounding_loss, target_reached
from bo_invert.models.least_squares.gauss_newton import GaussNewtonSettings, GaussNewtonStart
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import key, replay
from bo_invert.strategies.requirements import require_residuals
from bo_invert.types import JSON, Array, Query, Trial

#: A new start is made where less than this share of what an ordinary evaluation leaves is left.
_PROMISING = 2e-2
Inside = Callable[[Array], Array]


@dataclass(frozen=True)
class LeastSquares(Strategy):
    """Least squares on the oracle and on a model of its residuals, in turns, until the target is hit.

    A *start* is ``scipy.optimize.least_squares`` on the oracle. Every finite difference is a query and is billed; the
    differences of one Jacobian are asked for together, so they run side by side. Between Jacobians the last one is kept
    up to date by Broyden's rank-one formula (Broyden 1965) for as long as steps pay. A start whose steps do not pay for
    its Jacobians ends there. The first start is the best trial already in the log, or else the best of some
    quasi-random draws; smooth problems end here, in a few calls.

    Where it fails, all outputs in the log, the user's included, go into one Gaussian process (``models.metric``).
    Levenberg-Marquardt steps on the process lead to where its residuals are least, the oracle is asked there, and so
    on (``models.basins``). Where the oracle confirms that next to nothing is left, a new start finishes the job.
    Meanwhile no calls are spent elsewhere, so workers may wait for its steps.

    Broken outcome constraints count as residuals. Places that gave no outputs are kept away from. No point is less
    plausible than the ``floor`` of a latent. The units of the outputs make no difference (``models.hit``).

    Args:
        method: ``"dogbox"`` (Voglis & Lagaris 2004), quick at active bounds, or ``"trf"`` (Branch et al. 1999).
        secant: a step that leaves less than this share of the squared residuals pays, and the Jacobian after it is
            updated instead of measured; 0 to measure every Jacobian.
        initial: draws of which the first start takes the best, at least 1.
        design: evaluations before the model is trusted; default ``5 d``, at most a fifth of the budget.
        diff_step: finite-difference step, as a share of a coordinate's range.
        ftol: a start ends when a step improves the squared residuals by less than this share.
        xtol: a start ends when a step is shorter than this share of the point's norm.
    """

    method: str = "dogbox"
    secant: float = 0.7
    initial: int = 4
    design: int | None = None
    diff_step: float = 1e-4
    ftol: float = 1e-3
    xtol: float = 1e-8
    name = "least_squares"

    def __post_init__(self) -> None:
        if self.method not in ("dogbox", "trf"):
            raise InvalidInputError(
                f"least_squares: method is 'dogbox' or 'trf', got {self.method!r}"
            )
        if not (0 <= self.secant < 1 and self.initial >= 1 and 0 < self.diff_step < 0.5):
            raise InvalidInputError(
                "least_squares: secant lies in [0, 1), initial is at least 1 and diff_step lies in (0, 0.5), "
                f"got {self.secant}, {self.initial}, {self.diff_step}"
            )
        if self.design is not None and self.design < 2:
            raise InvalidInputError(f"least_squares: design is at least 2, got {self.design}")

    def check(self, statement: ProblemStatement) -> None:
        require_residuals(self.name, statement, "'gp' or 'cmaes'")

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        self.check(statement)
        history, target = History(trials), _target(statement)
        memo = request.memo or {"finished": 0, "model": None}
        done = target_reached(target, history)
        if (
            done and target.tolerance > 0.0
        ):  # without a tolerance, a start under way goes on to the last digit
            return Proposal((), memo)
        inside = statement.domain.project
        queries, finished, finishing = self._starts(
            statement, history, request, memo["finished"], inside, done
        )
        memo = {**memo, "finished": finished}
        if len(queries) < request.count and not done and not finishing:
            more, memo["model"] = self._searched(
                statement, history, request, memo["model"], queries, inside
            )
            queries += more
        return Proposal(tuple(queries[: request.count]), memo)

    def _starts(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        finished: int,
        inside: Inside,
        done: bool,
    ) -> tuple[list[Query], int, bool]:
        """What starts need next, how many of them, from the first on, have ended, and whether a later one goes on."""
        domain, target = statement.domain, _target(statement)
        settings = GaussNewtonSettings(
            self.method, self.secant, self.diff_step, self.ftol, self.xtol
        )
        least = rounding_loss(target) * len(target.value)
        answers = _answers(statement, history)
        open_points = {key(trial.query.point) for trial in history.pending}
        begun = {
            t.query.meta["start"]: t.query.meta["from"]
            for t in history.trials
            if _in_start(t, self.name)
        }
        queries: list[Query] = []
        start, running, finishing = finished, False, False
        while len(queries) < request.count:
            if start in begun:
                given = next(
                    (trial for trial in history.trials if trial.number == begun[start]), None
                )
            elif running or done:
                break
            else:
                given = self._promising(statement, history, set(begun.values()))
                if given is None and start > 0:
                    break
            drawn = (
                [given.point]
                if given
                else list(inside(domain.sobol(request.stream(0), self.initial)))
            )
            missing = replay(GaussNewtonStart(settings, domain, inside, drawn, least).run, answers)
            if not missing and start == finished:
                finished += 1
            running, finishing = (
                running or bool(missing),
                finishing or (start > 0 and bool(missing)),
            )
            begun[start] = None if given is None else given.number
            meta = {"start": start, "from": begun[start]}
            fresh = [point for point in missing if key(point) not in open_points]
            queries += [Query(point, origin=self.name, meta=meta) for point in fresh]
            open_points.update(key(point) for point in fresh)
            start += 1
        return queries, finished, finishing

    def _promising(
        self, statement: ProblemStatement, history: History, used: set[int | None]
    ) -> Trial | None:
        """The best plausible trial, if a start is worth its calls there; None otherwise."""
        domain = statement.domain
        plausible = (
            t
            for t in history.ranking
            if not domain.floor or domain.plausibility(t.point)[0] >= domain.floor
        )
        best = next(plausible, None)
        if best is None or best.number in used or _in_start(best, self.name):
            return None
        if best.origin != self.name or self._stuck(history):
            return best
        reached = min(
            (float(t.loss or 0.0) for t in history.completed if _in_start(t, self.name)),
            default=np.inf,
        )
        level = min(_PROMISING * float(np.quantile(history.losses, 0.75)), 0.5 * reached)
        return best if best.feasible and float(best.loss or 0.0) < level else None

    def _stuck(self, history: History) -> bool:
        """Whether the model's last ``3 d`` points gained nothing: then a start at the best, or a look anywhere."""
        asked = [t for t in history.completed if t.origin == self.name and "model" in t.query.meta]
        since = [
            t
            for t in history.trials
            if asked and t.number > asked[-1].number and "design" in t.query.meta
        ]
        patience = 3 * len(history.points[0])
        if since or len(asked) <= patience:
            return False
        first = asked[-patience].number
        before = [float(t.loss or 0.0) for t in history.completed if t.number < first]
        return min(
            float(t.loss or 0.0) for t in history.completed if t.number >= first
        ) > 0.9 * min(before)

    def _searched(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        memo: JSON,
        queries: Sequence[Query],
        inside: Inside,
    ) -> tuple[list[Query], JSON]:
        """What the model wants to know, beside the queries of the starts."""
        domain, told = statement.domain, len(history.completed)
        pending = [*history.pending_points, *(query.point for query in queries)]
        count = request.count - len(queries)
        size = self.design or min(5 * domain.dim, max(2, (request.budget or 10**9) // 5))
        lacking = max(size - told - len(pending), int(self._stuck(history))) if told >= 2 else count
        if lacking:
            drawn = sum("design" in t.query.meta for t in history.trials if t.origin == self.name)
            pool = inside(domain.sobol(request.stream(1), min(lacking, count), skip=drawn))
            meta = [{"design": drawn + i} for i in range(len(pool))]
            return [
                Query(p, origin=self.name, meta=m) for p, m in zip(pool, meta, strict=True)
            ], memo
        from threadpoolctl import threadpool_limits

        from bo_invert.models.base import to_unit
        from bo_invert.models.least_squares import residual_gp as residuals
        from bo_invert.models.least_squares.residual_minima import ResidualSearch

        missed, excesses = _missed(statement, history)
        best = np.argsort(residuals.sums_of_squares(missed, excesses), kind="stable")
        with threadpool_limits(
            limits=1
        ):  # small matrices gain nothing from more, and sums keep their order
            model, memo = residuals.fit_residual_model(
                to_unit(domain, history.points), missed, excesses, memo
            )
            search = ResidualSearch(
                domain, inside, model, history.points[best], history.failed_points
            )
            points = search.propose(count, pending, request.rng())
        return [Query(point, origin=self.name, meta={"model": told}) for point in points], memo


def _in_start(trial: Trial, name: str) -> bool:
    return trial.origin == name and "start" in trial.query.meta


def _target(statement: ProblemStatement) -> Target:
    assert isinstance(statement.objective, Target)
    return statement.objective


def _missed(statement: ProblemStatement, history: History) -> tuple[Array, Array]:
    """Residuals ``(n, k)`` and excesses over constraints ``(n, p)`` of the completed trials."""
    excesses = [constraint.excess(history.y) for constraint in statement.constraints]
    n = len(history.completed)
    return np.asarray(_target(statement).residuals(history.y)), np.array(excesses).reshape(-1, n).T


def _answers(statement: ProblemStatement, history: History) -> dict[bytes, Array | None]:
    """Residuals, broken constraints among them, at every told point; None where there were no outputs."""
    ended = (trial for trial in history.trials if not trial.state.open)
    answers: dict[bytes, Array | None] = dict.fromkeys(key(trial.query.point) for trial in ended)
    if history.completed:
        missed, excesses = _missed(statement, history)
        rows = np.column_stack([missed, np.maximum(excesses, 0.0)])
        answers.update((key(point), row) for point, row in zip(history.points, rows, strict=True))
    return answers
