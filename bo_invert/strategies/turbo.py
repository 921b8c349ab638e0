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
from bo_invert.models.optim.initial_design import (
    initial_design,
    initial_design_size,
    needs_initial_design,
)
from bo_invert.models.optim.trust_region import MAX_LENGTH, MIN_LENGTH, TrustRegionState
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score
    from bo_invert.models.fitted_model import FittedModel
    from bo_invert.models.optim.local_search import Scores, TrustRegion

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
        if not MIN_LENGTH < self.length <= MAX_LENGTH:
            raise InvalidInputError(
                f"strategy 'turbo': length lies in ({MIN_LENGTH}, {MAX_LENGTH}], got {self.length}"
            )
        if min(self.successes, 1 if self.initial is None else self.initial) < 1 or self.local < 2:
            raise InvalidInputError(
                f"strategy 'turbo': initial and successes must be at least 1 and local at least 2, got {self}"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        size = initial_design_size(domain.dim, request.budget, self.initial)
        if needs_initial_design(history, size):
            return self._begun(statement, history, request, 0, ())
        trust = TrustRegionState(history, domain, self.name, self.successes, self.length)
        if trust.length < max(MIN_LENGTH, self._flat(history, domain)):
            rest = math.inf if request.budget is None else request.budget - history.committed
            trust.restart(trust.number + 1, with_design=rest >= 3 * size)
        if trust.with_design and trust.design_points < size:
            return self._begun(statement, history, request, trust.number, trust.abandoned)
        from bo_invert.models.threads import one_thread

        rng = request.rng()
        with one_thread():
            return self._improving(statement, history, request, trust, rng)

    def _flat(self, history: History, domain: Domain) -> float:
        """A length below which a region lies within one plateau; 0 for most functions."""
        if self.noisy or not domain.continuous:
            return 0.0
        from bo_invert.models.base import to_unit
        from bo_invert.models.optim.duplicates import plateau_width

        return min(plateau_width(to_unit(domain, history.points), history.y), self.length / 2.0)

    def _begun(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        region: int,
        left: Sequence[Array],
    ) -> Proposal:
        """The start of a region, away from centres that were left."""
        from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter

        domain, mark = statement.domain, {"region": region}
        # What is flat in one place need not be in another, so only designs are compared.
        apart = (
            DuplicateFilter(domain)
            if self.noisy
            else duplicate_filter(statement, history, max_distance=0.0)
        )
        queries = initial_design(
            self.name,
            domain,
            history,
            request,
            abandoned=left,
            meta=mark,
            spare=request.count + 64,
            duplicates=apart,
        )
        return Proposal(queries, request.memo)

    def _improving(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        trust: TrustRegionState,
        rng: np.random.Generator,
    ) -> Proposal:
        from bo_invert.models.acquisition.feasibility import feasibility_and_plausibility
        from bo_invert.models.base import to_unit
        from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter
        from bo_invert.models.optim.local_search import TrustRegion, trust_region_sides
        from bo_invert.models.prediction_intervals import predict_intervals

        domain, memo = statement.domain, request.memo or {}
        told = to_unit(domain, history.points)
        centre = int(history.order[0]) if trust.best is None else trust.best
        near = np.sort(
            np.argsort(np.linalg.norm(told - told[centre], axis=1), kind="stable")[: self.local]
        )
        learned = self._learned(statement, history, told, near, memo, trust.number)
        allowed, lessons = feasibility_and_plausibility(statement, history, memo.get("permission"))
        if self.noisy:
            centre = _smoothed(learned, near, trust.eligible)
        region = TrustRegion(
            domain,
            told[centre],
            trust_region_sides(domain, trust.length, learned.surrogate.gp.log_lengthscales),
        )
        apart = (
            DuplicateFilter(domain)
            if self.noisy
            else duplicate_filter(statement, history, near, max_distance=trust.length / 4.0)
        )
        scene = _Scene(region, learned, allowed, history.pending_points, rng)
        picked: list[Array] = []
        for points in self._ranked(scene, picked, request.count):
            if (
                not domain.continuous or apart.identify is not None
            ):  # a small region may hold nothing new
                points = np.concatenate([points, domain.uniform(rng, 256)])
            picked.append(apart.select_new(points, [*history.all_points, *picked], 1)[0])
        inputs = to_unit(domain, np.array(picked))
        said = predict_intervals(
            learned.surrogate, learned.outputs, statement, history.trials, inputs
        )
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
    ) -> FittedModel:
        """What the told points nearby say."""
        from bo_invert.models.fitted_model import fit_model

        earlier = memo.get("outputs")
        if earlier is not None and memo.get("region") != region:
            earlier = {**earlier, "n": 0}  # other neighbours: fit again
        return fit_model(
            statement, history, told, earlier,
            subset=near, kernel=self.kernel, noisy=self.noisy, warp=self.warp, device=self.device,
        )  # fmt: skip

    def _ranked(self, scene: _Scene, picked: Sequence[Array], count: int) -> Iterator[Array]:
        """For each query in turn, points in the order they recommend themselves beside those ``picked`` by then."""
        from bo_invert.models.acquisition.feasibility import with_feasibility
        from bo_invert.models.base import to_unit

        region, learned, rng = scene.region, scene.learned, scene.rng
        if self.acquisition == "thompson":
            drawn = learned.thompson_scores(count, draw_seed(rng))
            yield from region.rank(
                with_feasibility(drawn, scene.allowed), region.sample(rng, _LOOKS), refined=2
            )
            return
        for _ in range(count):
            pending = np.array([*scene.pending, *picked]).reshape(-1, region.domain.dim)
            score = learned.log_expected_improvement(
                to_unit(region.domain, pending), seed=draw_seed(rng)
            )
            scores = with_feasibility(_row(score), scene.allowed)
            yield region.rank(scores, region.sample(rng, _LOOKS // 4), refined=4)[0]


@dataclass(frozen=True)
class _Scene:
    """One ask, once everything is fitted."""

    region: TrustRegion
    learned: FittedModel
    allowed: Score | None
    pending: Array
    rng: np.random.Generator


def _smoothed(learned: FittedModel, near: NDArray[np.intp], eligible: NDArray[np.bool_]) -> int:
    """Position of the told point that the model believes to be best, of those eligible nearby."""
    return int(near[int(np.where(eligible[near], learned.predicted_scores(), -np.inf).argmax())])


def _row(score: Score) -> Scores:
    return lambda inputs: score(inputs).unsqueeze(0)
