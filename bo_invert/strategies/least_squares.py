"""Nonlinear least squares: Gauss-Newton steps on the oracle and on a surrogate of the residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.least_squares.gauss_newton import GaussNewtonSettings, GaussNewtonStart
from bo_invert.models.least_squares.residual_gp import fit_residual_model, sums_of_squares
from bo_invert.models.least_squares.residual_minima import ResidualSearch
from bo_invert.models.least_squares.target_reached import rounding_loss, target_reached
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, Strategy, option
from bo_invert.strategies.replay import key, replay
from bo_invert.strategies.requirements import require_residuals
from bo_invert.types import JSON, Array, Query, Trial

# Engineering choice: largest loss of a new start, as a share of the upper quartile of all losses.
_START_SHARE = 2e-2


@dataclass(frozen=True)
class LeastSquares(Strategy):
    """Nonlinear least squares for targets, on the oracle and on a surrogate of its residuals.

    It minimises ``sum_i r_i(x)^2`` with ``r_i = (y_i(x) - value_i) / scale_i``.

    *Starts.* A start is one run of ``scipy.optimize.least_squares`` on the oracle. Each finite
    difference is a query, and those of one Jacobian J run in parallel. Between Jacobians,
    Broyden's rank-one update (Broyden 1965) revises J while steps pay:

        ``J + (dr - J dx) dx' / |dx|^2``.

    A start ends when its steps no longer pay for a new Jacobian. The first start is the best
    observation of the user, or else the best of some Sobol points. Smooth problems end here. After
    more than d observations of another strategy, a start needs a point of small loss.

    *Surrogate.* After an unsuccessful start, a GP with a learned metric models the residuals of
    all observations. Levenberg-Marquardt steps on its mean lead to a minimum of the residuals,
    which is the next query. A new start follows where the oracle confirms a small loss. No calls
    are spent elsewhere in the meantime, so workers may wait.

    Violations of outcome constraints are additional residuals. Points near failed trials are
    avoided, and the plausibility ``floor`` of a latent is respected. Units of the outputs do not
    matter. Use it for every target of a smooth and exact oracle.

    Args:
        method: ``"dogbox"`` (Voglis & Lagaris 2004), fast at active bounds, or ``"trf"`` (Branch
            et al. 1999).
        secant: a step pays if it leaves less than this share of the squared residuals. The
            Jacobian is then updated instead of measured; 0 measures every Jacobian.
        initial: number of Sobol points for the first start, at least 1.
        design: observations before the surrogate is used; default ``5 d``, at most a fifth of the
            budget.
        diff_step: finite-difference step, as a share of the range of a coordinate.
        ftol: a start ends at a step that reduces the squared residuals by less than this share.
        xtol: a start ends at a step shorter than this share of the norm of the point.
    """

    method: str = option("dogbox", among=("dogbox", "trf"))
    secant: float = option(0.7, ge=0, lt=1)
    initial: int = option(4, ge=1)
    design: int | None = option(None, ge=2)
    diff_step: float = option(1e-4, gt=0, lt=0.5)
    ftol: float = 1e-3
    xtol: float = 1e-8
    name = "least_squares"

    def check(self, statement: ProblemStatement) -> None:
        require_residuals(self.name, statement, "'gp' or 'cmaes'")

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        self.check(statement)
        history, target = History(trials), _target(statement)
        memo = request.memo or {"finished": 0, "model": None}
        # "finished" counts ended starts, which are not replayed again; "model" holds the fit.
        done = target_reached(target, history)
        # Without a tolerance, a running start continues to the rounding error.
        if done and target.satisfiable:
            return Proposal((), memo)
        queries, finished, finishing = self._starts(
            statement, history, request, memo["finished"], done
        )
        memo = {**memo, "finished": finished}
        if len(queries) < request.count and not done and not finishing:
            more, memo["model"] = self._search(statement, history, request, memo["model"], queries)
            queries += more
        return Proposal(tuple(queries[: request.count]), memo)

    def _starts(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        finished: int,
        done: bool,
    ) -> tuple[list[Query], int, bool]:
        """Return the queries of starts and their state.

        Returns:
            the queries, the number of leading starts that have ended, and True if a start other
            than the first continues.
        """
        domain, target = statement.domain, _target(statement)
        settings = GaussNewtonSettings(
            self.method, self.secant, self.diff_step, self.ftol, self.xtol
        )
        # The rounding loss is a mean over outputs, a start compares sums of squares.
        least = rounding_loss(target) * target.entries.count
        answers = _answers(statement, history)
        pending = {key(trial.query.point) for trial in history.pending}
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
                # The observations of another strategy replace the points of a first start.
                if given is None and (start > 0 or _observed_by_others(history, self.name)):
                    break
            draws = (
                [given.point]
                if given
                else list(domain.project(domain.sobol(request.stream(0), self.initial)))
            )
            # The start is replayed from its beginning; it stops at the first unknown residuals.
            run = GaussNewtonStart(settings, domain, draws, least).run
            missing = replay(run, answers)
            finished += not missing and start == finished
            running = running or bool(missing)
            finishing = finishing or (start > 0 and bool(missing))
            begun[start] = None if given is None else given.number
            meta = {"start": start, "from": begun[start]}
            fresh = [point for point in missing if key(point) not in pending]
            queries += [Query(point, origin=self.name, meta=meta) for point in fresh]
            pending.update(key(point) for point in fresh)
            start += 1
        return queries, finished, finishing

    def _promising(
        self, statement: ProblemStatement, history: History, used: set[int | None]
    ) -> Trial | None:
        """Return the best plausible trial if a start is worth its calls there."""
        domain = statement.domain
        plausible = (
            t
            for t in history.ranking
            if not domain.floor or domain.plausibility(t.point)[0] >= domain.floor
        )
        best = next(plausible, None)
        if best is None or best.number in used or _in_start(best, self.name):
            return None
        # Points of the user and stagnation always justify a start.
        if best.ask is None or self._stagnates(history):
            return best
        reached = min(
            (float(t.loss or 0.0) for t in history.completed if _in_start(t, self.name)),
            default=np.inf,
        )
        # A Jacobian costs d calls, so a start must begin below half the loss of former starts.
        level = min(_START_SHARE * float(np.quantile(history.losses, 0.75)), 0.5 * reached)
        return best if best.feasible and float(best.loss or 0.0) < level else None

    def _stagnates(self, history: History) -> bool:
        """Return True if the last ``3 d`` points of the surrogate gained less than 10 %.

        Then a start at the best trial follows, or further Sobol points.
        """
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

    def _search(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        memo: JSON,
        queries: Sequence[Query],
    ) -> tuple[list[Query], JSON]:
        """Return queries of the surrogate, or of its design, and the memo of its fit."""
        domain, completed = statement.domain, len(history.completed)
        pending = [*history.pending_points, *(query.point for query in queries)]
        count = request.count - len(queries)
        # A budget of 10^9 stands for none.
        size = self.design or min(5 * domain.dim, max(2, (request.budget or 10**9) // 5))
        lacking = (
            max(size - completed - len(pending), int(self._stagnates(history)))
            if completed >= 2
            else count
        )
        if lacking:
            drawn = sum("design" in t.query.meta for t in history.trials if t.origin == self.name)
            pool = domain.project(domain.sobol(request.stream(1), min(lacking, count), skip=drawn))
            return [
                Query(point, origin=self.name, meta={"design": drawn + i})
                for i, point in enumerate(pool)
            ], memo
        residuals, excesses = _residuals(statement, history)
        best = np.argsort(sums_of_squares(residuals, excesses), kind="stable")
        # One thread: small matrices gain nothing from more, and sums retain their order.
        with threadpool_limits(limits=1):
            inputs = to_unit(domain, history.points)
            model, memo = fit_residual_model(inputs, residuals, excesses, memo)
            search = ResidualSearch(domain, model, history.points[best], history.failed_points)
            points = search.propose(count, pending, request.rng())
        return [Query(point, origin=self.name, meta={"model": completed}) for point in points], memo


def _observed_by_others(history: History, name: str) -> bool:
    """Return True if observations of other origin suffice for a linear model."""
    others = [trial for trial in history.completed if trial.origin != name]
    return bool(others) and len(others) > len(others[0].point)


def _in_start(trial: Trial, name: str) -> bool:
    return trial.origin == name and "start" in trial.query.meta


def _target(statement: ProblemStatement) -> Target:
    assert isinstance(statement.objective, Target)
    return statement.objective


def _residuals(statement: ProblemStatement, history: History) -> tuple[Array, Array]:
    """Compute residuals ``(n, k)`` and excesses ``(n, p)`` of observations.

    Excesses are those over constraints and over the ends of ranges, which are smooth functions
    outside and inside of them.
    """
    excesses = [constraint.excess(history.y) for constraint in statement.constraints]
    residuals, beyond = _target(statement).smooth_residuals(history.y)
    excesses += list(beyond.T)
    return residuals, np.array(excesses).reshape(-1, len(residuals)).T


def _answers(statement: ProblemStatement, history: History) -> dict[bytes, Array | None]:
    """Return residuals and violations of every observed point; None for failed trials."""
    answers: dict[bytes, Array | None] = {
        key(trial.query.point): None for trial in history.trials if not trial.state.open
    }
    if history.completed:
        residuals, excesses = _residuals(statement, history)
        # As residuals, positive excesses form the quadratic penalty function (Nocedal & Wright
        # 2006, section 17.1).
        rows = np.column_stack([residuals, np.maximum(excesses, 0.0)])
        answers.update((key(point), row) for point, row in zip(history.points, rows, strict=True))
    return answers
