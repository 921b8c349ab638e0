"""Nonlinear least squares from many starts: the floor under every method for vector targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bo_invert.domain import Domain
from bo_invert.errors import InvalidInput, Unsuitable
from bo_invert.history import History
from bo_invert.objectives import Target
from bo_invert.replay import key, launch, replay
from bo_invert.statement import Statement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Array, Query, State, Trial

Evaluate = Callable[[Sequence[Array]], list[Array | None]]

#: Loss below which a target counts as hit: no new start is made.
_SOLVED = 1e-12
#: Loss below which a start has nothing left to gain in double precision.
_EXACT = 1e-24


@dataclass(frozen=True)
class LeastSquares(Strategy):
    """``scipy.optimize.least_squares`` on the residuals of a target, restarted until the target is hit.

    Every finite difference is a query and is billed; the differences of one Jacobian are asked for together, so they
    run side by side. Between Jacobians the last one is kept up to date by Broyden's rank-one formula (Broyden 1965)
    for as long as steps pay. The first start is the best trial already in the log, or else the best of some
    quasi-random draws; later ones are fresh draws. Broken outcome constraints count as residuals.

    Args:
        method: ``"dogbox"`` (Voglis & Lagaris 2004), quick at active bounds, or ``"trf"`` (Branch et al. 1999).
        secant: a step that leaves less than this share of the squared residuals pays, and the Jacobian after it is
            updated instead of measured; 0 to measure every Jacobian.
        initial: draws of which the first start takes the best, at least 1.
        diff_step: finite-difference step, as a share of a coordinate's range.
        ftol: a start ends when a step improves the squared residuals by less than this share.
        xtol: a start ends when a step is shorter than this share of the point's norm.
    """

    method: str = "dogbox"
    secant: float = 0.7
    initial: int = 4
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
        answers = _answers(statement, trials)
        open_points = {key(trial.query.point) for trial in trials if trial.state.open}
        begun = {trial.query.meta["start"] for trial in trials if trial.origin == self.name}
        solved = any(t.loss is not None and t.loss <= _SOLVED for t in History(trials).completed if t.feasible)
        finished = start = int(request.memo["finished"]) if request.memo else 0
        queries: list[Query] = []
        while len(queries) < request.count and (start in begun or not solved):
            given = launch(trials, self.name, start)
            draws = [given.point] if given is not None else self._draws(statement.domain, request, start)
            missing = replay(_Start(self, statement.domain, draws).run, answers)
            if not missing and start == finished:
                finished += 1
            meta = {"start": start, "from": None if given is None else given.number}
            fresh = [point for point in missing if key(point) not in open_points]
            queries += [Query(point, origin=self.name, meta=meta) for point in fresh]
            open_points.update(key(point) for point in fresh)
            start += 1
        return Proposal(tuple(queries[: request.count]), {"finished": finished})

    def _draws(self, domain: Domain, request: Request, start: int) -> list[Array]:
        count = self.initial if start == 0 else 1
        return list(domain.sobol(request.stream(start), count))


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
