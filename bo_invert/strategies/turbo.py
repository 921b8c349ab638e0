"""Bayesian optimization in a trust region that grows, shrinks and starts again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.base import KERNELS
from bo_invert.models.optim.initial_design import design, design_size, lacking
from bo_invert.models.optim.trust_region import LONGEST, SHORTEST, Trust
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score
    from bo_invert.models.fitted_model import Learned
    from bo_invert.models.optim.local_search import Region, Scores

_LOOKS = 2000
ACQUISITIONS = ("thompson", "ei")


@dataclass(frozen=True)
class Turbo(Strategy):
    """Trust-region Bayesian optimization (TuRBO: Eriksson et al., NeurIPS 2019).

    A process is fitted to the told points nearest the best one, and looks only at a box around it, longer where the
    process varies slowly. The box doubles after ``successes`` asks in a row that improved on the best, and halves when
    as many calls in a row as there are dimensions did not. Once it is too small, or lies within one step of a function
    that is flat in steps, the search starts again elsewhere: with a new design, and with what is known far from where
    it has been. So the cost of an ask does not grow with the number of told points.

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
        length: of a region at its beginning, in units of the unit cube.
        local: so many told points at most are given to the process.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` for whichever predicts left-out values better.
        warp: straighten the heavy tail of a plain loss where that predicts left-out values better.
        device: where the model lives, as torch names it (``"cuda"``).
    """

    name = "turbo"
    acquisition: str = "thompson"
    noisy: bool = False
    initial: int | None = None
    successes: int = 3
    local: int = 400
    length: float = 0.8
    kernel: str = "auto"
    warp: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.acquisition not in ACQUISITIONS or self.kernel not in KERNELS:
            raise InvalidInputError(
                f"strategy 'turbo': acquisition is one of {', '.join(map(repr, ACQUISITIONS))} and kernel one of "
                f"{', '.join(map(repr, KERNELS))}, got {self.acquisition!r} and {self.kernel!r}"
            )
        if not SHORTEST < self.length <= LONGEST:
            raise InvalidInputError(
                f"strategy 'turbo': length lies in ({SHORTEST}, {LONGEST}], got {self.length}"
            )
        if min(self.successes, 1 if self.initial is None else self.initial) < 1 or self.local < 2:
            raise InvalidInputError(
                f"strategy 'turbo': initial and successes must be at least 1 and local at least 2, got {self}"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        size = design_size(domain.dim, request.budget, self.initial)
        if lacking(history, size):
            return self._begun(statement, history, request, 0, ())
        trust = Trust(history, domain, self.name, self.successes, self.length)
        if trust.length < max(SHORTEST, self._flat(history, domain)):
            rest = math.inf if request.budget is None else request.budget - history.committed
            trust.leave(trust.number + 1, afresh=rest >= 3 * size)
        if trust.afresh and trust.designed < size:
            return self._begun(statement, history, request, trust.number, trust.left)
        from bo_invert.models.threads import one_thread

        rng = request.rng()
        with one_thread():
            return self._improving(statement, history, request, trust, rng)

    def _flat(self, history: History, domain: Domain) -> float:
        """A length below which a region lies within one plateau; 0 for most functions."""
        if self.noisy or not domain.continuous:
            return 0.0
        from bo_invert.models.base import to_unit
        from bo_invert.models.optim.duplicates import plateau

        return min(plateau(to_unit(domain, history.points), history.y), self.length / 2.0)

    def _begun(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        region: int,
        left: Sequence[Array],
    ) -> Proposal:
        """The start of a region, away from centres that were left."""
        from bo_invert.models.optim.duplicates import Spacing, spacing

        domain, mark = statement.domain, {"region": region}
        # What is flat in one place need not be in another, so only designs are compared.
        apart = Spacing(domain) if self.noisy else spacing(statement, history, most=0.0)
        queries = design(
            self.name,
            domain,
            history,
            request,
            left=left,
            mark=mark,
            spare=request.count + 64,
            spacing=apart,
        )
        return Proposal(queries, request.memo)

    def _improving(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        trust: Trust,
        rng: np.random.Generator,
    ) -> Proposal:
        from bo_invert.models.acquisition.feasibility import permission
        from bo_invert.models.base import to_unit
        from bo_invert.models.optim.duplicates import Spacing, spacing
        from bo_invert.models.optim.local_search import Region, sides
        from bo_invert.models.prediction_intervals import foretell

        domain, memo = statement.domain, request.memo or {}
        told = to_unit(domain, history.points)
        centre = int(history.order[0]) if trust.best is None else trust.best
        near = np.sort(
            np.argsort(np.linalg.norm(told - told[centre], axis=1), kind="stable")[: self.local]
        )
        learned = self._learned(statement, history, told, near, memo, trust.number)
        allowed, lessons = permission(statement, history, memo.get("permission"))
        if self.noisy:
            centre = _smoothed(learned, near, trust.eligible)
        region = Region(
            domain, told[centre], sides(domain, trust.length, learned.surrogate.process.logs)
        )
        apart = (
            Spacing(domain)
            if self.noisy
            else spacing(statement, history, near, most=trust.length / 4.0)
        )
        scene = _Scene(region, learned, allowed, history.pending_points, rng)
        picked: list[Array] = []
        for points in self._ranked(scene, picked, request.count):
            if (
                not domain.continuous or apart.identify is not None
            ):  # a small region may hold nothing new
                points = np.concatenate([points, domain.uniform(rng, 256)])
            picked.append(apart.unseen(points, [*history.all_points, *picked], 1)[0])
        inputs = to_unit(domain, np.array(picked))
        said = foretell(learned.surrogate, learned.outputs, statement, history.trials, inputs)
        marks = ({"region": trust.number, **words} for words in said)
        queries = (
            Query(x, origin=self.name, meta=mark) for x, mark in zip(picked, marks, strict=True)
        )
        note = {"region": trust.number, "outputs": learned.surrogate.memo, "permission": lessons}
        return Proposal(tuple(queries), note)

    def _learned(
        self,
        statement: ProblemStatement,
        history: History,
        told: Array,
        near: NDArray[np.intp],
        memo: JSON,
        region: int,
    ) -> Learned:
        """What the told points nearby say."""
        from bo_invert.models.fitted_model import learn

        earlier = memo.get("outputs")
        if earlier is not None and memo.get("region") != region:
            earlier = {**earlier, "n": 0}  # other neighbours: fit again
        return learn(
            statement, history, told, earlier,
            some=near, kernel=self.kernel, noisy=self.noisy, warp=self.warp, device=self.device,
        )  # fmt: skip

    def _ranked(self, scene: _Scene, picked: Sequence[Array], count: int) -> Iterator[Array]:
        """For each query in turn, points in the order they recommend themselves beside those ``picked`` by then."""
        from bo_invert.models.acquisition.feasibility import permitted
        from bo_invert.models.base import to_unit

        region, learned, rng = scene.region, scene.learned, scene.rng
        if self.acquisition == "thompson":
            drawn = learned.drawn(count, draw_seed(rng))
            yield from region.ranked(
                permitted(drawn, scene.allowed), region.looks(rng, _LOOKS), follow=2
            )
            return
        for _ in range(count):
            pending = np.array([*scene.pending, *picked]).reshape(-1, region.domain.dim)
            score = learned.improvement(to_unit(region.domain, pending), seed=draw_seed(rng))
            scores = permitted(_row(score), scene.allowed)
            yield region.ranked(scores, region.looks(rng, _LOOKS // 4), follow=4)[0]


@dataclass(frozen=True)
class _Scene:
    """One ask, once everything is fitted."""

    region: Region
    learned: Learned
    allowed: Score | None
    pending: Array
    rng: np.random.Generator


def _smoothed(learned: Learned, near: NDArray[np.intp], eligible: NDArray[np.bool_]) -> int:
    """Position of the told point that the model believes to be best, of those eligible nearby."""
    return int(near[int(np.where(eligible[near], learned.believed(), -np.inf).argmax())])


def _row(score: Score) -> Scores:
    return lambda inputs: score(inputs).unsqueeze(0)
