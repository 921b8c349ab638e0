"""Bayesian optimization with Gaussian processes of the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import KERNELS
from bo_invert.models.optim.initial_design import (
    initial_design,
    initial_design_size,
    needs_initial_design,
)
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score
    from bo_invert.models.fitted_model import FittedModel
    from bo_invert.models.optim.duplicates import DuplicateFilter

_GREEDY = 8
"""So many points of a batch know of each other; the others are the best ones of functions drawn from the posterior."""
ACQUISITIONS = ("ei", "ucb_pe")


@dataclass(frozen=True)
class GP(Strategy):
    """Bayesian optimization: dimension-scaled Gaussian process, log expected improvement.

    After an initial design (a Sobol sequence in a box, draws from the reference measure in a latent) every ask fits
    one process per raw output (Hvarfner et al., ICML 2024) and maximises the log expected improvement (Ament et al.,
    NeurIPS 2023). For ``Target`` and ``Composite`` it is the improvement of the composite function (Astudillo &
    Frazier, ICML 2019), so the model learns from how every output missed, not only from the loss. More than 15
    outputs are modelled by their principal components. A ``Composite`` whose function cannot take torch tensors is
    modelled by its loss. Whether all coordinates share a lengthscale, and whether fine structure is taken for noise, is
    chosen by what predicts left-out values. Where fine structure is taken for noise though the oracle is exact, every
    second point counts on finding it: its variance is added to the model's own.

    Outcome constraints weigh the improvement by the probability that they hold; as long as nothing feasible is known,
    their violation is reduced first. Places where the oracle gave nothing are learned by a
    second process; points less plausible than the ``floor`` of a latent are avoided. Open trials
    count as evaluated with an unknown outcome. The points of a batch are chosen one after the other, given those
    before; beyond eight, each is the best of a function drawn from the posterior. Beyond 1,000 told points the model
    is given the best, those near them and a spread of the others. Points told or open are proposed again only when no
    others are left. What is expected of a query is noted with it, as 90 % intervals (``query.meta["foretold"]``).

    Args:
        noisy: the oracle answers differently to the same point; then improvement is over what the model believes
            of the told points (qLogNEI).
        initial: size of the initial design, data of the user's included; default ``2 d``, at least 5, at most 20
            and at most a quarter of the budget.
        samples: of the quasi-Monte Carlo estimate.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` for whichever predicts left-out values better.
        warp: straighten the heavy tail of a plain loss where that predicts left-out values better.
        acquisition: ``"ei"``, or ``"ucb_pe"`` (GP-UCB-PE, Contal et al., ECML 2013): the highest upper bound once for
            every change of the data, for all other points the greatest uncertainty where the optimum may be. For plain
            losses, in large or asynchronous batches of noisy oracles.
        device: where the model lives, as torch names it (``"cuda"``); worth it from about a thousand told points.
    """

    name = "gp"
    noisy: bool = False
    initial: int | None = None
    samples: int = 128
    kernel: str = "auto"
    warp: bool = True
    acquisition: str = "ei"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise InvalidInputError(
                f"strategy 'gp': kernel is one of {', '.join(map(repr, KERNELS))}, got {self.kernel!r}"
            )
        if self.acquisition not in ACQUISITIONS:
            names = ", ".join(map(repr, ACQUISITIONS))
            raise InvalidInputError(
                f"strategy 'gp': acquisition is one of {names}, got {self.acquisition!r}"
            )
        if self.samples < 1 or (self.initial is not None and self.initial < 1):
            raise InvalidInputError(
                f"strategy 'gp': samples and initial must be at least 1, got {self}"
            )

    def check(self, statement: ProblemStatement) -> None:
        objective = statement.objective
        constrained = {constraint.index for constraint in statement.constraints}
        plain = (
            not isinstance(objective, Target)
            and getattr(objective, "index", None) not in constrained
        )
        if self.acquisition == "ucb_pe" and not plain:  # of a composite only its values tell, later
            raise _unbounded(statement)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        if needs_initial_design(
            history, initial_design_size(domain.dim, request.budget, self.initial)
        ):
            return Proposal(initial_design(self.name, domain, history, request), request.memo)
        from bo_invert.models.threads import one_thread

        rng = request.rng()
        with one_thread():
            return self._improving(statement, history, request, rng)

    def _improving(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        rng: np.random.Generator,
    ) -> Proposal:
        from bo_invert.models.acquisition.feasibility import feasibility_and_plausibility
        from bo_invert.models.base import to_unit
        from bo_invert.models.data_subset import select_subset
        from bo_invert.models.fitted_model import fit_model
        from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter
        from bo_invert.models.prediction_intervals import predict_intervals

        domain, memo = statement.domain, request.memo or {}
        inputs = to_unit(domain, history.points)
        some = select_subset(inputs, history.order)
        learned = fit_model(
            statement, history, inputs, memo.get("outputs"),
            subset=some, kernel=self.kernel, noisy=self.noisy, warp=self.warp, device=self.device,
        )  # fmt: skip
        allowed, lessons = feasibility_and_plausibility(statement, history, memo.get("permission"))
        apart = (
            DuplicateFilter(domain) if self.noisy else duplicate_filter(statement, history, some)
        )
        scene = _Scene(domain, history, learned, allowed, apart, rng)
        note: dict[str, JSON] = {"outputs": learned.surrogate.memo, "permission": lessons}
        if self.acquisition == "ucb_pe":
            if learned.outputs.loss_column is None:
                raise _unbounded(statement)
            note["asked_at"] = len(history.completed)
            picked = self._one_by_one(
                scene, request.count, explore=memo.get("asked_at") == note["asked_at"]
            )
        else:
            picked = self._one_by_one(scene, min(request.count, _GREEDY))
            picked = _drawn(scene, picked, request.count)
        said = predict_intervals(
            learned.surrogate, learned.outputs, statement, history.trials, to_unit(domain, picked)
        )
        queries = (
            Query(x, origin=self.name, meta=words) for x, words in zip(picked, said, strict=True)
        )
        return Proposal(tuple(queries), note)

    def _one_by_one(self, scene: _Scene, count: int, explore: bool = False) -> Array:
        """Points ``(count, d)``, each chosen given those before."""
        from bo_invert.models.acquisition.feasibility import with_feasibility
        from bo_invert.models.base import to_unit
        from bo_invert.models.optim import optimize_acquisition as search

        domain, history = scene.domain, scene.history
        picked, ends = np.empty((0, domain.dim)), None
        while len(picked) < count:
            pending = to_unit(domain, np.concatenate([history.pending_points, picked]))
            score = with_feasibility(
                self._score(scene, pending, explore or len(picked) > 0), scene.allowed
            )
            taken = np.concatenate([history.all_points, picked])
            # The score changes little from point to point, so the later searches go on where the first one ended.
            steps = 50 if count == 1 else 30 if ends is None else 16
            point, ends = search.optimize_acquisition(
                score,
                domain,
                scene.incumbents,
                taken,
                scene.rng,
                duplicates=scene.spacing,
                steps=steps,
                warm_starts=ends,
            )
            picked = np.concatenate([picked, point[None]])
        return picked

    def _score(self, scene: _Scene, pending: Array, explore: bool) -> Score:
        if self.acquisition == "ucb_pe":
            return scene.learned.ucb_pe(pending, explore=explore)
        return scene.learned.log_expected_improvement(
            pending, seed=draw_seed(scene.rng), samples=self.samples
        )


@dataclass(frozen=True)
class _Scene:
    """One ask, once everything is fitted."""

    domain: Domain
    history: History
    learned: FittedModel
    allowed: Score | None
    spacing: DuplicateFilter
    rng: np.random.Generator

    @property
    def incumbents(self) -> Array:
        """The best points, best first."""
        return self.history.points[self.history.order[:5]]


def _drawn(scene: _Scene, picked: Array, count: int) -> Array:
    """Picked points ``(p, d)``, filled up to ``(count, d)`` with the best ones of drawn functions."""
    if len(picked) == count:
        return picked
    from bo_invert.models.acquisition.feasibility import with_feasibility
    from bo_invert.models.base import to_unit
    from bo_invert.models.optim.local_search import TrustRegion
    from bo_invert.models.optim.optimize_acquisition import raw_candidates

    domain, rng = scene.domain, scene.rng
    scores = scene.learned.thompson_scores(count - len(picked), draw_seed(rng))
    everywhere = TrustRegion(domain, to_unit(domain, scene.incumbents[0]), np.full(domain.dim, 2.0))
    some = raw_candidates(domain, scene.incumbents, rng)
    for points in everywhere.rank(with_feasibility(scores, scene.allowed), some, refined=1):
        taken = np.concatenate([scene.history.all_points, picked])
        picked = np.concatenate([picked, scene.spacing.select_new(points, taken, 1)])
    return picked


def _unbounded(statement: ProblemStatement) -> UnsuitableStrategyError:
    return UnsuitableStrategyError(
        f"strategy 'gp': acquisition 'ucb_pe' wants a loss that is plus or minus one output without a constraint on "
        f"it, {statement.name!r} has {statement.objective}; use acquisition='ei'"
    )
