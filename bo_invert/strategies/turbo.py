"""Bayesian optimization in a trust region that grows, shrinks and starts again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInput
from bo_invert.history import History
from bo_invert.rng import draw_seed
from bo_invert.statement import Statement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition import Score
    from bo_invert.models.region import Scores
    from bo_invert.models.trust import Trust

_LOOKS = 2000
ACQUISITIONS = ("thompson", "ei")
KERNELS = {"rbf": ("rbf",), "matern": ("matern",), "auto": ("rbf", "matern")}


@dataclass(frozen=True)
class Turbo(Strategy):
    """Trust-region Bayesian optimization (TuRBO: Eriksson et al., NeurIPS 2019).

    A process is fitted to the told points nearest the best one, and looks only at a box around it, longer where the
    process varies slowly. The box doubles after ``successes`` asks in a row that improved on the best, and halves when
    as many calls in a row as there are dimensions did not. Once it is too small, the search starts again elsewhere:
    with a new design, and with what is known far from where it has been. So the cost of an ask does not grow with the
    number of told points.

    Each point of a batch is the best one of a function drawn from the posterior, so batches spread by themselves.
    Structured objectives and outcome constraints are those of the drawn outputs: the least violation first, as long as
    none is feasible (SCBO: Eriksson & Poloczek, AISTATS 2021).

    Length, counts and restarts are read off the log: a query's ``meta`` names its region. What is expected of a query
    is noted there too, as 90 % intervals (``query.meta["foretold"]``).

    Args:
        acquisition: ``"thompson"``, or ``"ei"`` for the expected improvement inside the region.
        noisy: the oracle answers differently to the same point; then the region lies around the best mean.
        initial: size of the first design, data of the user's included, and of those after; default ``2 d``, at least
            5, at most 20 and at most a quarter of the budget.
        successes: asks in a row that improve before the region grows.
        local: so many told points at most are given to the process.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` for whichever predicts left-out values better.
        warp: straighten the heavy tail of a plain loss where that predicts left-out values better.
    """

    name = "turbo"
    acquisition: str = "thompson"
    noisy: bool = False
    initial: int | None = None
    successes: int = 3
    local: int = 400
    kernel: str = "auto"
    warp: bool = True

    def __post_init__(self) -> None:
        if self.acquisition not in ACQUISITIONS or self.kernel not in KERNELS:
            raise InvalidInput(
                f"strategy 'turbo': acquisition is one of {', '.join(map(repr, ACQUISITIONS))} and kernel one of "
                f"{', '.join(map(repr, KERNELS))}, got {self.acquisition!r} and {self.kernel!r}"
            )
        if min(self.successes, 1 if self.initial is None else self.initial) < 1 or self.local < 2:
            raise InvalidInput(
                f"strategy 'turbo': initial and successes must be at least 1 and local at least 2, got {self}"
            )

    def ask(self, statement: Statement, trials: Sequence[Trial], request: Request) -> Proposal:
        history = History(trials)
        domain = statement.domain
        size = self._design_size(domain.dim, request.budget)
        if len(history.completed) < 2 or len(history.completed) + len(history.open) < size:
            return Proposal(self._design(statement, history, request, 0, ()), request.memo)
        from bo_invert.models.exact import settled
        from bo_invert.models.trust import SHORTEST, Trust

        trust = Trust(history, domain, self.name, self.successes)
        if trust.length < SHORTEST:
            rest = math.inf if request.budget is None else request.budget - history.committed
            trust.leave(trust.number + 1, afresh=rest >= 3 * size)
        if trust.afresh and trust.designed < size:
            return Proposal(self._design(statement, history, request, trust.number, trust.left), request.memo)

        rng = request.rng()
        with settled(draw_seed(rng)):
            queries, memo = self._improving(statement, history, request, trust, rng)
        return Proposal(queries, memo)

    def _design_size(self, d: int, budget: int | None) -> int:
        if self.initial is not None:
            return self.initial
        size = min(max(5, 2 * d), 20)
        return size if budget is None else min(size, max(2, budget // 4))

    def _design(
        self, statement: Statement, history: History, request: Request, region: int, left: Sequence[Array]
    ) -> tuple[Query, ...]:
        """Points for a start, none of them near a centre that was left."""
        from bo_invert.models.search import unseen
        from bo_invert.models.trust import away, typical

        domain = statement.domain
        drawn = sum("design" in trial.query.meta for trial in history.trials)
        many = 2 * request.count + 64
        pool = domain.sobol(request.stream(0), many, skip=drawn) if domain.geometry == "box" else None
        pool = domain.sample(request.rng(), many) if pool is None else pool
        pool = pool[np.argsort(~away(pool, left, typical(domain) / 2.0), kind="stable")]
        points = unseen(domain, pool, _points(history.trials), request.count)
        marks = ({"region": region, "design": drawn + i} for i in range(len(points)))
        return tuple(Query(point, origin=self.name, meta=mark) for point, mark in zip(points, marks, strict=True))

    def _improving(
        self, statement: Statement, history: History, request: Request, trust: Trust, rng: np.random.Generator
    ) -> tuple[tuple[Query, ...], JSON]:
        from bo_invert.models import acquisition, exact
        from bo_invert.models.base import plateau, to_unit
        from bo_invert.models.fit import EXACT, NOISY
        from bo_invert.models.foretold import foretell
        from bo_invert.models.outputs import Outputs
        from bo_invert.models.paths import thompson
        from bo_invert.models.permission import permission
        from bo_invert.models.region import Region, sides
        from bo_invert.models.search import unseen

        domain, memo = statement.domain, request.memo or {}
        told = to_unit(domain, history.points)
        centre = history.completed.index(history.ranking[0]) if trust.best is None else trust.best
        near = np.sort(np.argsort(np.linalg.norm(told - told[centre], axis=1), kind="stable")[: self.local])
        inputs, losses, feasible = told[near], history.losses[near], history.violations[near] <= 0.0
        outputs = Outputs(statement, history.y[near], losses)
        beliefs = (NOISY,) if self.noisy else (EXACT, NOISY)
        choice = exact.Choice(KERNELS[self.kernel], beliefs, outputs.tails if self.warp else None)
        earlier = memo.get("outputs")
        if earlier is not None and memo.get("region") != trust.number:
            earlier = {**earlier, "n": 0}  # other neighbours: fit again
        surrogate = exact.fit(inputs, outputs.values, earlier, choice, told=len(told))
        note: dict[str, JSON] = {"region": trust.number, "outputs": surrogate.memo}
        allowed, note["permission"] = permission(statement, history, memo.get("permission"))
        if self.noisy:
            expected = acquisition.predicted(surrogate, outputs)(surrogate.process.inputs).detach().numpy()
            centre = near[int(np.where(trust.eligible[near], expected, -np.inf).argmax())]
        region = Region(domain, told[centre], sides(domain, trust.length, surrogate.process.logs))
        apart = 0.0 if self.noisy or not domain.continuous else plateau(inputs, history.y[near])
        apart = min(apart, trust.length / 4.0)
        taken, picked = _points(history.trials), np.empty((0, domain.dim))

        def ranked() -> Iterator[Array]:
            """For each query in turn, points in the order they recommend themselves."""
            if self.acquisition == "thompson":
                drawn = thompson(surrogate, outputs, request.count, draw_seed(rng))
                yield from region.ranked(_with(drawn, allowed), region.looks(rng, _LOOKS), follow=2)
                return
            for _ in range(request.count):
                pending = np.concatenate([history.open_points.reshape(-1, domain.dim), picked])
                known = acquisition.Known(inputs, losses, feasible, to_unit(domain, pending), self.noisy)
                score = acquisition.improvement(surrogate, outputs, known, seed=draw_seed(rng))
                yield region.ranked(_with(_row(score), allowed), region.looks(rng, _LOOKS // 4), follow=4)[0]

        for points in ranked():
            picked = np.concatenate([picked, unseen(domain, points, np.concatenate([taken, picked]), 1, apart)])
        mark = {"region": trust.number}
        said = foretell(surrogate, outputs, statement, history.trials, to_unit(domain, picked))
        queries = (Query(x, origin=self.name, meta={**mark, **words}) for x, words in zip(picked, said, strict=True))
        return tuple(queries), note


def _points(trials: Sequence[Trial]) -> Array:
    return np.array([trial.point for trial in trials])


def _row(score: Score) -> Scores:
    return lambda inputs: score(inputs).unsqueeze(0)


def _with(scores: Scores, allowed: Score | None) -> Scores:
    """Scores that also count whether a point should be asked for at all."""
    return scores if allowed is None else lambda inputs: scores(inputs) + allowed(inputs)
