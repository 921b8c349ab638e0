"""Bayesian optimization with Gaussian process surrogates of the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.acquisition.constant_faces import constant_faces
from bo_invert.models.base import KERNELS, to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter
from bo_invert.models.optim.initial_design import count_design_points, initial_design_size
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import dominance_order, non_dominated
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, draw_seed, option
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.types import JSON, Array, Indices

if TYPE_CHECKING:
    from bo_invert.models.fitted_model import FittedModel
    from bo_invert.models.optim.score import Score

# Engineering choice: points of a batch that are chosen sequentially, each pending for the next.
# The time grows with their number; further points maximise posterior samples (Thompson sampling).
_SEQUENTIAL = 8
# Engineering choice: least distance of minimisers of posterior samples, in units of the unit cube.
# Several samples can have nearly the same one.
_SAMPLE_DISTANCE = 1e-4
# Engineering choice: share of the variance that leave-one-out predictions must explain for the
# initial design to end at its smallest size.
_PREDICTS = 0.5
# Engineering choice: share of points with equal outputs that suggests plateaus, for ``Pareto``.
_PLATEAUS = 0.3


@dataclass(frozen=True)
class GP(SurrogateStrategy):
    """Bayesian optimization with a dimension-scaled Gaussian process and log expected improvement.

    The initial design is a Sobol sequence in a box and draws from the latent prior in a latent.
    Then every ask fits one GP per raw output (Hvarfner et al. 2024) and maximises

        ``log EI(x) = log E[max(f* - f(x), 0)]``,

    f* being the incumbent loss (LogEI, Ament et al. 2023). For ``Target`` and ``Composite`` it is
    the expected improvement of the composite function (Astudillo & Frazier 2019), estimated by
    quasi-Monte Carlo. The surrogate thus learns from every residual instead of their sum. More
    than 15 outputs are modelled by their principal components. The loss is modelled instead if
    the function of a ``Composite`` does not accept torch tensors.

    While leave-one-out predictions explain less than half of the variance, the initial design
    continues, up to ``2 d`` points, at least 5 and at most 20.

    For ``Pareto`` objectives it is the expected improvement of the hypervolume (qLogNEHVI; Daulton
    et al. 2021, Ament et al. 2023), in closed form if all criteria are outputs. Lengthscales are
    separate, and a face of the box on which all criteria are constant counts as known.

    Leave-one-out predictions choose the kernel, shared or separate lengthscales, and a noise
    model. Up to 60 observations of at most three outputs, the surrogate is an average over shared
    and separate lengthscales. If an exact oracle has structure finer than the lengthscales, the
    residual variance is added to the posterior variance for every second point.

    - Outcome constraints multiply the EI by the probability of feasibility. Before the first
      feasible observation, their violation is reduced.
    - A second GP models the probability that the oracle returns outputs. The more of the latest 20
      trials failed, the more weight it has.
    - A choice has one lengthscale, whatever its number of values. With at least three of them, a
      design whose values no observation has in pairs stays uncertain once the surrogate expects no
      improvement.
    - Points below the plausibility ``floor`` of a latent are penalised.
    - Pending trials are evaluated as fantasies.
    - Beyond 1,000 observations, the surrogate is fitted to the best ones, their neighbours and a
      space-filling subset.
    - Observed and pending points are repeated only if no other point is left.

    A query stores 90 % prediction intervals of its outputs in ``query.meta["foretold"]``. An ask
    takes less than 0.1 seconds at 100 observations. Use it for up to some thousand observations
    and some dozens of coordinates; ``turbo`` and ``spherical`` are alternatives beyond.

    Args:
        noisy: the oracle is noisy; the improvement is over the posterior of the observed points
            (qLogNEI) instead of the incumbent.
        initial: size of the initial design, observations of the user included; default
            ``d / 2 + 2``, at least 4 and at most 8, or ``2 d``, at least 5 and at most 20, if
            there are unordered choices; at most a quarter of the budget.
        samples: number of quasi-Monte Carlo samples.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` to choose by leave-one-out predictions.
        warp: compress the tail of a loss that is plus or minus one output, if leave-one-out
            predictions improve.
        elsewhere: search only combinations of unordered choices that the incumbent does not have.
        acquisition: ``"ei"``, or ``"ucb_pe"`` (GP-UCB-PE, Contal et al. 2013): the first point
            after new data maximises the upper confidence bound, further points the posterior
            variance where the optimum may lie. It suits large batches of noisy oracles.
        device: torch device of the surrogate, such as ``"cuda"``; it saves time from about 1,000
            observations.
    """

    name = "gp"
    models_outside = True
    multi_objective = True
    noisy: bool = False
    initial: int | None = option(None, ge=1)
    samples: int = option(128, ge=1)
    kernel: str = option("auto", among=KERNELS)
    warp: bool = True
    elsewhere: bool = False
    acquisition: str = option("ei", among=("ei", "ucb_pe"))
    device: str = "cpu"

    def check(self, statement: ProblemStatement) -> None:
        objective = statement.objective
        plain = not isinstance(objective, (Target, Pareto)) and getattr(
            objective, "index", None
        ) not in {constraint.index for constraint in statement.constraints}
        # The outputs of a Composite decide later whether it is plus or minus one of them.
        if self.acquisition == "ucb_pe" and not plain:
            raise _no_confidence_bound(statement)

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        from bo_invert.models.acquisition import excluded_choices, feasibility
        from bo_invert.models.fitted_model import fit_model

        domain, memo = statement.domain, request.memo or {}
        inputs = to_unit(domain, history.points)
        # Exact inference costs O(n^3), so it is limited to a subset that contains the incumbent.
        order = _ranking(statement, history)
        subset = select_subset(inputs, order)
        model = fit_model(
            statement, history, inputs, memo.get("outputs"),
            subset=subset, kernel=self.kernel, noisy=self.noisy, warp=self.warp, device=self.device,
        )  # fmt: skip
        note: dict[str, JSON] = {"outputs": model.surrogate.memo}
        if self._may_extend_design(domain, history, request) and model.explained_share < _PREDICTS:
            return Proposal(self._design(statement, history, request), {**memo, **note})
        permission, labels = feasibility.feasibility_and_plausibility(
            statement, history, memo.get("permission")
        )
        note["permission"] = labels
        pareto = isinstance(statement.objective, Pareto)
        duplicates = DuplicateFilter(domain)
        if not self.noisy:
            rows = _varying(statement, history, inputs, subset) if pareto else subset
            least = _PLATEAUS if pareto else 0.0
            duplicates = duplicate_filter(statement, history, rows, least_share=least)
        ranked = history.ranked_points
        constrain: Callable[[Score], Score] = partial(
            feasibility.with_feasibility, log_feasible=permission
        )
        if self.elsewhere:
            constrain, ranked = excluded_choices.without_choices(domain, constrain, ranked)
        rng = request.rng()
        if pareto:
            ranked = _front_incumbents(statement, history, rng)
        context = _AskContext(domain, history, model, constrain, duplicates, ranked[:5], rng)
        if self.acquisition == "ucb_pe":
            # The posterior of the loss is Gaussian only if it is plus or minus a modelled output.
            if model.outputs.loss_column is None:
                raise _no_confidence_bound(statement)
            note["asked_at"] = len(history.completed)
            # Only the first ask after new data exploits (Contal et al. 2013).
            explore = memo.get("asked_at") == note["asked_at"]
            points = self._choose_sequentially(context, request.count, explore)
        else:
            # A greedy batch reaches at least 1 - 1/e of the largest joint EI, because joint EI is
            # submodular (Wilson et al. 2018).
            first = request.count if pareto else min(request.count, _SEQUENTIAL)
            points = self._choose_sequentially(context, first)
            points = _add_thompson_points(context, points, request.count)
        queries = self._queries(statement, history, model, points)
        if self.elsewhere:
            queries = tuple(replace(q, meta={**q.meta, "elsewhere": True}) for q in queries)
        return Proposal(queries, note)

    def _may_extend_design(self, domain: Domain, history: History, request: Request) -> bool:
        """Return whether this ask may continue the initial design of a default size."""
        # Noise would keep predictions bad, and the size of the user is final.
        if self.noisy or self.initial is not None:
            return False
        most = initial_design_size(domain.parameter_count, request.budget, large=True)
        # Points of the user, which no ask proposed, are part of the design.
        given = sum(trial.ask is None for trial in history.trials)
        return count_design_points(history) + given < most

    def _choose_sequentially(
        self, context: _AskContext, count: int, explore: bool = False
    ) -> Array:
        """Choose points ``(count, d)`` one by one, those before pending for the next."""
        from bo_invert.models.optim.optimize_acquisition import optimize_acquisition

        domain, history = context.domain, context.history
        points, ends = np.empty((0, domain.dim)), None
        while len(points) < count:
            pending = to_unit(domain, np.concatenate([history.pending_points, points]))
            if self.acquisition == "ucb_pe":
                score = context.model.ucb_pe(pending, explore=explore or len(points) > 0)
            else:
                score = context.model.log_expected_improvement(
                    pending, seed=draw_seed(context.rng), samples=self.samples
                )
            # The score changes little between the points of a batch. The ends of the first
            # optimization start the later ones, which then need fewer steps.
            known = np.concatenate([history.all_points, points])
            search = partial(
                optimize_acquisition, domain=domain, incumbents=context.incumbents, known=known,
                rng=context.rng, duplicates=context.duplicates, warm_starts=ends,
                steps=50 if count == 1 else 30 if ends is None else 16,
            )  # fmt: skip
            point, ends = search(context.constrain(score))
            unseen = None
            if self.acquisition == "ei" and (self.elsewhere or not domain.has_real):
                at, inputs = to_unit(domain, point[None]), to_unit(domain, known)
                unseen = context.model.unseen_pairs(score, at, inputs)
            if unseen is not None:
                score = context.model.log_expected_improvement(
                    pending, seed=draw_seed(context.rng), samples=self.samples, unseen=unseen
                )
                point, ends = search(context.constrain(score))
            points = np.concatenate([points, point[None]])
        return points


@dataclass(frozen=True)
class _AskContext:
    """Fitted models and data of one ask."""

    domain: Domain
    history: History
    model: FittedModel
    constrain: Callable[[Score], Score]
    """Function that adds the log probability of feasibility to a score."""
    duplicates: DuplicateFilter
    incumbents: Array
    """The five best observed points, best first, shape ``(k, d)``."""
    rng: np.random.Generator


def _ranking(statement: ProblemStatement, history: History) -> Indices:
    """Return the positions of the observations, best first; fronts in order for ``Pareto``."""
    objective = statement.objective
    if not isinstance(objective, Pareto):
        return history.order
    ranks = dominance_order(np.asarray(objective.losses(history.y)))
    return np.lexsort((history.losses, ranks, np.maximum(history.violations, 0.0)))


def _varying(
    statement: ProblemStatement, history: History, inputs: Array, rows: Indices
) -> Indices:
    """Return the rows ``(k,)`` that lie on no face of constant criteria, which is no plateau."""
    assert isinstance(statement.objective, Pareto)
    if not statement.domain.continuous:
        return rows
    losses = np.asarray(statement.objective.losses(history.y[rows]))
    faces = constant_faces(inputs[rows], losses, range(losses.shape[1]))
    constant = [face.holds(inputs[rows]) for face in faces]
    return rows[~np.any(constant, axis=0)] if faces else rows


def _front_incumbents(
    statement: ProblemStatement, history: History, rng: np.random.Generator
) -> Array:
    """Return the points of the feasible front in random order; the best point without one."""
    assert isinstance(statement.objective, Pareto)
    feasible = np.flatnonzero(history.violations <= 0.0)
    if not len(feasible):
        return history.ranked_points
    losses = np.asarray(statement.objective.losses(history.y[feasible]))
    return np.asarray(history.points[rng.permutation(feasible[non_dominated(losses)])])


def _add_thompson_points(context: _AskContext, points: Array, count: int) -> Array:
    """Extend points ``(p, d)`` to ``(count, d)`` by the minimisers of posterior samples."""
    if len(points) == count:
        return points
    from bo_invert.models.optim import local_search, optimize_acquisition

    domain, rng = context.domain, context.rng
    scores = context.model.thompson_scores(count - len(points), draw_seed(rng))
    # Sides of twice the width of the domain: the trust region is the whole domain.
    sides = np.full(domain.dim, 2.0)
    duplicates = context.duplicates
    if domain.continuous:
        distance = max(duplicates.min_distance, _SAMPLE_DISTANCE)
        duplicates = replace(duplicates, min_distance=distance)
    everywhere = local_search.TrustRegion(domain, to_unit(domain, context.incumbents[0]), sides)
    candidates = optimize_acquisition.raw_candidates(domain, context.incumbents, rng)
    for ranked in everywhere.rank(context.constrain(scores), candidates, refined=1):
        known = np.concatenate([context.history.all_points, points])
        points = np.concatenate([points, duplicates.select_new(ranked, known, 1)])
    return points


def _no_confidence_bound(statement: ProblemStatement) -> UnsuitableStrategyError:
    return UnsuitableStrategyError(
        "strategy 'gp': acquisition 'ucb_pe' needs a loss that is plus or minus one unconstrained "
        f"output, problem {statement.name!r} has {statement.objective}. Use acquisition='ei'"
    )
