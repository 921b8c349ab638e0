"""Nonlinear least squares: Gauss-Newton steps on the oracle where they pay, on a model of it elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bo_invert.domain import Domain
from bo_invert.errors import InvalidInput, Unsuitable
from bo_invert.history import History
from bo_invert.objectives import Target
from bo_invert.replay import key, replay
from bo_invert.statement import Statement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import JSON, Array, Query, State, Trial

Evaluate = Callable[[Sequence[Array]], list[Array | None]]

#: Loss below which a target counts as hit: no new start is made.
_SOLVED = 1e-12
#: Loss below which a start has nothing left to gain in double precision.
_EXACT = 1e-24
#: Share of the squared residuals that may be left when a start wants another Jacobian: it has to pay for itself.
_TOLL = 0.25
#: A new start is made where less than this share of what an ordinary evaluation leaves is left.
_PROMISING = 2e-2


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
    on (``models.residuals``). Where the oracle confirms that next to nothing is left, a new start finishes the job.

    Broken outcome constraints count as residuals. Places that gave no outputs are kept away from.

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
            raise InvalidInput(f"least_squares: method is 'dogbox' or 'trf', got {self.method!r}")
        if not (0 <= self.secant < 1 and self.initial >= 1 and 0 < self.diff_step < 0.5):
            raise InvalidInput(
                "least_squares: secant lies in [0, 1), initial is at least 1 and diff_step lies in (0, 0.5), "
                f"got {self.secant}, {self.initial}, {self.diff_step}"
            )
        if self.design is not None and self.design < 2:
            raise InvalidInput(f"least_squares: design is at least 2, got {self.design}")

    def check(self, statement: Statement) -> None:
        if not isinstance(statement.objective, Target):
            raise Unsuitable(
                f"strategy {self.name!r} needs residuals, and the objective of problem {statement.name!r} is "
                f"{statement.objective}. Use Target(value), or take 'gp' or 'cmaes'"
            )
        if not statement.domain.continuous:
            raise Unsuitable(
                f"strategy {self.name!r} needs finite differences, and problem {statement.name!r} has whole numbers "
                "or choices among its parameters. Make them Float or fix them, or take 'gp' or 'cmaes'"
            )

    def ask(self, statement: Statement, trials: Sequence[Trial], request: Request) -> Proposal:
        self.check(statement)
        memo = request.memo or {"finished": 0, "model": None}
        queries, finished = self._starts(statement, trials, request, memo["finished"])
        memo = {**memo, "finished": finished}
        history = History(trials)
        if len(queries) < request.count and not _solved(history):
            more, memo["model"] = self._searched(statement, history, request, memo["model"], queries)
            queries += more
        return Proposal(tuple(queries[: request.count]), memo)

    def _starts(
        self, statement: Statement, trials: Sequence[Trial], request: Request, finished: int
    ) -> tuple[list[Query], int]:
        """What the starts under way need next, and how many of them, from the first on, have come to their end."""
        history = History(trials)
        answers = _answers(statement, trials)
        open_points = {key(trial.query.point) for trial in history.open}
        begun = {t.query.meta["start"]: t.query.meta["from"] for t in trials if _in_start(t, self.name)}
        queries: list[Query] = []
        start, running = finished, False
        while len(queries) < request.count:
            if start in begun:
                given = next((trial for trial in trials if trial.number == begun[start]), None)
            elif running or _solved(history):
                break
            else:
                given = self._promising(history, set(begun.values()))
                if given is None and start > 0:
                    break
            draws = [given.point] if given is not None else list(self._draws(statement.domain, request))
            missing = replay(_Start(self, statement.domain, draws).run, answers)
            if not missing and start == finished:
                finished += 1
            running = running or bool(missing)
            begun[start] = None if given is None else given.number
            meta = {"start": start, "from": begun[start]}
            fresh = [point for point in missing if key(point) not in open_points]
            queries += [Query(point, origin=self.name, meta=meta) for point in fresh]
            open_points.update(key(point) for point in fresh)
            start += 1
        return queries, finished

    def _promising(self, history: History, used: set[int | None]) -> Trial | None:
        """The best trial, if a start is worth its calls there; None otherwise."""
        best = history.ranking[0] if history.ranking else None
        if best is None or best.number in used or _in_start(best, self.name):
            return None
        if best.origin != self.name or self._stuck(history):
            return best
        reached = min((float(t.loss or 0.0) for t in history.completed if _in_start(t, self.name)), default=np.inf)
        level = min(_PROMISING * float(np.quantile(history.losses, 0.75)), 0.5 * reached)
        return best if best.feasible and float(best.loss or 0.0) < level else None

    def _draws(self, domain: Domain, request: Request) -> Array:
        return domain.sobol(request.stream(0), self.initial)

    def _stuck(self, history: History) -> bool:
        """Whether the model's last ``3 d`` points gained nothing: then a start at the best, or a look anywhere."""
        asked = [t for t in history.completed if t.origin == self.name and "model" in t.query.meta]
        since = [t for t in history.trials if asked and t.number > asked[-1].number and "design" in t.query.meta]
        patience = 3 * len(history.points[0])
        if since or len(asked) <= patience:
            return False
        first = asked[-patience].number
        before = [float(t.loss or 0.0) for t in history.completed if t.number < first]
        return min(float(t.loss or 0.0) for t in history.completed if t.number >= first) > 0.9 * min(before)

    def _searched(
        self, statement: Statement, history: History, request: Request, memo: JSON, queries: Sequence[Query]
    ) -> tuple[list[Query], JSON]:
        """What the model wants to know, beside the queries of the starts."""
        domain, told = statement.domain, history.completed
        pending = [*history.open_points, *(query.point for query in queries)]
        count = request.count - len(queries)
        size = self.design or min(5 * domain.dim, max(2, (request.budget or 10**9) // 5))
        lacking = max(size - len(told) - len(pending), int(self._stuck(history))) if len(told) >= 2 else count
        if lacking:
            drawn = sum("design" in t.query.meta for t in history.trials if t.origin == self.name)
            pool = domain.sobol(request.stream(1), min(lacking, count), skip=drawn)
            meta = [{"design": drawn + i} for i in range(len(pool))]
            return [Query(p, origin=self.name, meta=m) for p, m in zip(pool, meta, strict=True)], memo
        from threadpoolctl import threadpool_limits

        from bo_invert.models.residuals import Model

        objective = statement.objective
        assert isinstance(objective, Target)
        excesses = [[float(constraint.excess(t.y)) for constraint in statement.constraints] for t in told]
        barren = np.array([t.query.point for t in history.barren]).reshape(-1, domain.dim)
        with threadpool_limits(limits=1):  # small matrices gain nothing from more, and sums keep their order
            model = Model(
                domain, history.points, objective.residuals(history.y), np.array(excesses).reshape(len(told), -1),
                barren, memo,
            )  # fmt: skip
            points = model.propose(count, pending, request.rng())
        return [Query(point, origin=self.name, meta={"model": len(told)}) for point in points], model.memo


def _in_start(trial: Trial, name: str) -> bool:
    return trial.origin == name and "start" in trial.query.meta


def _solved(history: History) -> bool:
    return history.best is not None and float(history.best.loss or 0.0) <= _SOLVED


def _answers(statement: Statement, trials: Sequence[Trial]) -> dict[bytes, Array | None]:
    """Residuals at every told point; None where there were no outputs."""
    objective = statement.objective
    assert isinstance(objective, Target)
    answers: dict[bytes, Array | None] = {}
    for trial in trials:
        if trial.state is State.COMPLETED and trial.y is not None:
            broken = [max(float(constraint.excess(trial.y)), 0.0) for constraint in statement.constraints]
            answers[key(trial.point)] = np.append(objective.residuals(trial.y), broken)
        elif not trial.state.open:
            answers.setdefault(key(trial.query.point), None)
    return answers


class _Stale(Exception):
    """A step along an updated Jacobian did not pay: measure a new one where the start stands."""


class _Spent(Exception):
    """Steps left too much to pay for another Jacobian: the start ends."""


class _Base(NamedTuple):
    """Where the Jacobian in use belongs: point, residuals, Jacobian ``(k, d)``, and whether it was measured there."""

    x: Array
    r: Array
    slopes: Array
    measured: bool


class _Start:
    """One start: an ordinary optimiser that calls a function."""

    def __init__(self, options: LeastSquares, domain: Domain, draws: list[Array]) -> None:
        self.options = options
        self.domain = domain
        self.draws = draws
        self.base: _Base | None = None
        self.paid = np.inf
        box = domain.geometry == "box"
        self.bounds = (0.0, 1.0) if box else (-np.inf, np.inf)
        self.steps = options.diff_step * (domain.bounds[1] - domain.bounds[0])

    def run(self, evaluate: Evaluate) -> None:
        from scipy.optimize import least_squares

        self.evaluate = evaluate
        told = [(x, r) for x, r in zip(self.draws, evaluate(self.draws), strict=True) if r is not None]
        if not told:
            return
        self.x, self.r = min(told, key=lambda pair: _square(pair[1]))
        self.wall = np.full(len(self.r), 1e3 * (1.0 + float(np.abs(self.r).max())))
        while _square(self.r) > _EXACT * len(self.r):
            before = _square(self.r)
            try:
                least_squares(
                    self.residuals, self.x, self.jacobian, self.bounds, self.options.method,
                    ftol=self.options.ftol, xtol=self.options.xtol, gtol=1e-12,
                )  # fmt: skip
                if self.base is None or self.base.measured or not _square(self.r) < before:
                    return
            except _Spent:
                return
            except _Stale:
                pass
            self.base = None

    def residuals(self, x: Array) -> Array:
        r = self.evaluate([self.domain.project(x)])[0]
        if r is not None and _square(r) < _square(self.r):
            self.x, self.r = x.copy(), r
        elif self.base is not None and not self.base.measured and not np.array_equal(x, self.x):
            raise _Stale
        return self.wall if r is None else r

    def jacobian(self, x: Array) -> Array:
        r = self.residuals(x)
        base = self.base
        if base is not None and _square(r) < self.options.secant * _square(base.r):
            step = x - base.x
            correction = np.outer(r - base.r - base.slopes @ step, step) / (step @ step)
            self.base = _Base(x.copy(), r, base.slopes + correction, measured=False)
        else:
            if _square(r) > _TOLL * self.paid:
                raise _Spent
            self.paid = _square(r)
            self.base = _Base(x.copy(), r, self.difference(x, r), measured=True)
        return self.base.slopes

    def difference(self, x: Array, r: Array) -> Array:
        """Forward differences, shape ``(k, d)``; backward where the way forward leaves the bounds."""
        steps = np.where(x + self.steps > self.bounds[1], -self.steps, self.steps)
        beside = self.evaluate([self.domain.project(x + shift) for shift in np.diag(steps)])
        slopes: Array = np.zeros((len(r), len(x)))
        for i, (b, step) in enumerate(zip(beside, steps, strict=True)):
            if b is not None:  # nothing is known of a direction that fails
                slopes[:, i] = (b - r) / step
        return slopes


def _square(r: Array) -> float:
    return float(r @ r)
