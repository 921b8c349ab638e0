"""Trust-region Bayesian optimization (TuRBO)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import KERNELS, to_unit
from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter, plateau_width
from bo_invert.models.optim.initial_design import initial_design, initial_design_size
from bo_invert.models.optim.trust_region import MAX_LENGTH, MIN_LENGTH, TrustRegionState
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, draw_seed, option
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.types import Array, Query

if TYPE_CHECKING:
    pass

# Number of candidate points per Thompson sample, as in Eriksson et al. 2019 (2,000 to 5,000).
_CANDIDATES = 2000


@dataclass(frozen=True)
class Turbo(SurrogateStrategy):
    """Trust-region Bayesian optimization, TuRBO-1 (Eriksson et al. 2019).

    A GP is fitted to the observations nearest to the incumbent. Candidates lie in a box around
    the incumbent with side ``L l_i / (prod_j l_j)^(1/d)`` in coordinate i, where l are the
    lengthscales. L doubles after ``successes`` asks in a row with an improvement. It halves after
    as many calls in a row without one as there are coordinates. A restart follows once L is below
    its minimum, or below the width of a plateau of a piecewise constant function. It has a new
    initial design and keeps the observations far from former trust regions.

    Each point of a batch minimises one posterior sample (Thompson sampling), so batches are
    diverse. Structured objectives and outcome constraints are evaluated on the sampled outputs:
    the least violation ranks first while no sample is feasible (SCBO, Eriksson & Poloczek 2021).

    The cost of an ask does not grow with the number of observations. Use it for more than some
    hundred calls, for many coordinates, or to refine after a global search. The state of the
    trust region is computed from the log: ``query.meta["region"]`` holds its number. A query
    stores 90 % prediction intervals of its outputs in ``query.meta["foretold"]``.

    Args:
        acquisition: ``"thompson"``, or ``"ei"`` for the expected improvement in the trust region.
        noisy: the oracle is noisy; the trust region is then centred at the best posterior mean.
        initial: size of the initial designs, observations of the user included in the first;
            default ``d / 2 + 2``, at least 4 and at most 8, or ``2 d``, at least 5 and at most 20,
            if there are unordered choices; at most a quarter of the budget.
        successes: asks in a row with an improvement before the trust region grows.
        local: most observations of a surrogate.
        length: initial L, in units of the unit cube.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` to choose by leave-one-out predictions.
        warp: compress the tail of a loss that is plus or minus one output, if leave-one-out
            predictions improve.
        device: torch device of the surrogate, such as ``"cuda"``.
    """

    name = "turbo"
    models_outside = True
    acquisition: str = option("thompson", among=("thompson", "ei"))
    noisy: bool = False
    initial: int | None = option(None, ge=1)
    successes: int = option(3, ge=1)
    local: int = option(400, ge=2)
    length: float = option(0.8, gt=MIN_LENGTH, le=MAX_LENGTH)
    kernel: str = option("auto", among=KERNELS)
    warp: bool = True
    device: str = "cpu"

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        domain = statement.domain
        size = initial_design_size(
            domain.parameter_count, request.budget, self.initial, domain.has_unordered
        )
        # The state is a function of the log, so an interrupted study continues identically.
        state = TrustRegionState(history, domain, self.name, self.successes, self.length)
        if state.length < max(MIN_LENGTH, self._plateau(history, domain)):
            # A restart needs calls for a design and a search; otherwise it uses known points.
            rest = math.inf if request.budget is None else request.budget - history.committed
            state.restart(state.number + 1, with_design=rest >= 3 * size)
        if state.with_design and state.design_points < size:
            queries = self._design(statement, history, request, state.number, state.abandoned)
            return Proposal(queries, request.memo)
        return self._search(statement, history, request, state)

    def _plateau(self, history: History, domain: Domain) -> float:
        """Estimate the width of the plateaus of the function; 0 without plateaus."""
        if self.noisy or not domain.continuous:
            return 0.0
        return min(plateau_width(to_unit(domain, history.points), history.y), self.length / 2.0)

    def _design(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        region: int = 0,
        abandoned: Sequence[Array] = (),
    ) -> tuple[Query, ...]:
        """Propose the initial design of a trust region, away from abandoned centres."""
        domain = statement.domain
        # Widths of plateaus differ between regions, so only equal designs count as duplicates.
        duplicates = (
            DuplicateFilter(domain)
            if self.noisy
            else duplicate_filter(statement, history, max_distance=0.0)
        )
        return initial_design(
            self.name,
            domain,
            history,
            request.count,
            request.stream(0),
            request.rng(),
            abandoned=abandoned,
            meta={"region": region},
            spare=request.count + 64,
            duplicates=duplicates,
        )

    def _search(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        state: TrustRegionState,
    ) -> Proposal:
        from bo_invert.models.acquisition.feasibility import (
            feasibility_and_plausibility,
            with_feasibility,
        )
        from bo_invert.models.fitted_model import fit_model
        from bo_invert.models.optim.local_search import TrustRegion, trust_region_sides

        domain, memo, rng = statement.domain, request.memo or {}, request.rng()
        inputs = to_unit(domain, history.points)
        centre = int(history.order[0]) if state.best is None else state.best
        # Exact inference costs O(n^3). The nearest observations bound n and determine most of the
        # posterior inside the box.
        distances = np.linalg.norm(inputs - inputs[centre], axis=1)
        near = np.sort(np.argsort(distances, kind="stable")[: self.local])
        earlier = memo.get("outputs")
        if earlier is not None and memo.get("region") != state.number:
            earlier = {**earlier, "n": 0}  # other observations: optimise the hyperparameters again
        model = fit_model(
            statement, history, inputs, earlier,
            subset=near, kernel=self.kernel, noisy=self.noisy, warp=self.warp, device=self.device,
        )  # fmt: skip
        feasibility, labels = feasibility_and_plausibility(
            statement, history, memo.get("permission")
        )
        # Noise favours the luckiest observation, so the posterior mean chooses the centre.
        if self.noisy:
            inside = np.isfinite(history.violations[near])
            scores = np.where(state.eligible[near] & inside, model.predicted_scores(), -np.inf)
            centre = int(near[int(scores.argmax())])
        # The geometric mean of l_i / (prod_j l_j)^(1/d) is 1, so the box has the volume L^d.
        gp = model.surrogate.gp
        lengthscales = gp.kernel.column_log_lengthscales(gp.log_lengthscales)
        sides = trust_region_sides(domain, state.length, lengthscales.cpu().numpy())
        region = TrustRegion(domain, inputs[centre], sides)
        duplicates = (
            DuplicateFilter(domain)
            if self.noisy
            else duplicate_filter(statement, history, near, max_distance=state.length / 4.0)
        )
        constrain = partial(with_feasibility, log_feasible=feasibility)
        points: list[Array] = []

        def rank_candidates() -> Iterator[Array]:
            """Yield candidates, best first, for each query; ``points`` grows by those chosen."""
            if self.acquisition == "thompson":
                scores = constrain(model.thompson_scores(request.count, draw_seed(rng)))
                yield from region.rank(scores, region.sample(rng, _CANDIDATES), refined=2)
                return
            for _ in range(request.count):
                # EI has one maximiser, unlike a set of samples; points of the batch are pending.
                pending = np.array([*history.pending_points, *points]).reshape(-1, domain.dim)
                score = model.log_expected_improvement(
                    to_unit(domain, pending), seed=draw_seed(rng)
                )
                yield region.rank(
                    constrain(score), region.sample(rng, _CANDIDATES // 4), refined=4
                )[0]

        for ranked in rank_candidates():
            # A small region may hold no new design; uniform points come after its candidates.
            if not domain.continuous or duplicates.identify is not None:
                ranked = np.concatenate([ranked, domain.uniform(rng, 256)])
            points.append(duplicates.select_new(ranked, [*history.all_points, *points], 1)[0])
        note = {"region": state.number, "outputs": model.surrogate.memo, "permission": labels}
        queries = self._queries(statement, history, model, np.array(points), region=state.number)
        return Proposal(queries, note)
