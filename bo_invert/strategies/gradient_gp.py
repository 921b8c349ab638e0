"""Bayesian optimization with derivative observations, for differentiable oracles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.models.optim.initial_design import limit_to_budget
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, option
from bo_invert.strategies.basins import KEY, REACH, basin_starts, running_basin
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.strategies.requirements import require_gradients
from bo_invert.types import JSON, Array, Query

if TYPE_CHECKING:
    from torch import Tensor

    from bo_invert.models.gp.derivative_gp import DerivativeGP
    from bo_invert.models.optim.score import Score

# Engineering choice: observations of a surrogate, which has up to 1,600 values and derivatives.
_MAX_POINTS = 200
# Engineering choice: points of a batch, each of which conditions the surrogate again.
_MAX_BATCH = 8
# Engineering choice: size of the initial design. Each point gives d + 1 numbers.
_INITIAL = 4
# Engineering choice: least patience with global queries; half the dimension in many dimensions.
_PATIENCE = 6
# Engineering choice: number of unexplored basins that are compared.
_MAX_BASINS = 12


@dataclass(frozen=True)
class GradientGP(SurrogateStrategy):
    """Bayesian optimization with a Gaussian process of the loss and its gradient.

    Each query asks for value and gradient, two calls. The surrogate is conditioned on both (Solak
    et al. 2003; Wu et al. 2017), and the next query maximises the log expected improvement. In d
    coordinates an observation gives d + 1 numbers. In many coordinates, only derivatives along the
    principal directions of all gradients are used. The likelihood chooses the kernel, the noise of
    the derivatives, so that kinks and the errors of a gradient proxy count less, and a logarithmic
    warp of the losses (or none), so that large ones count less.

    Pending points are assumed to have the predicted mean. Points below the plausibility ``floor``
    of a latent are penalised. Use it for up to some hundred calls; ``gradient`` is faster beyond.

    Args:
        initial: size of the initial design, observations of the user included; default 4, at most
            a quarter of the budget.
    """

    name = "gradient_gp"
    initial: int | None = option(None, ge=1)

    def check(self, statement: ProblemStatement) -> None:
        require_gradients(self.name, statement)
        if statement.constraints or not statement.domain.continuous:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs real parameters and no outcome constraints, and "
                f"problem {statement.name!r} has others. Use 'polish' or 'gp'"
            )

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        # Each point costs two calls.
        return self.initial or limit_to_budget(_INITIAL, None if budget is None else budget // 2)

    def _design(
        self, statement: ProblemStatement, history: History, request: Request
    ) -> tuple[Query, ...]:
        queries = super()._design(statement, history, request)
        return self._with_gradients(queries, history, request)

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
        from bo_invert.models.gp.derivative_gp import fit_derivative_gp
        from bo_invert.models.observed_derivatives import observed_derivatives
        from bo_invert.models.optim.optimize_acquisition import optimize_acquisition

        domain, rng = statement.domain, request.rng()
        subset = select_subset(to_unit(domain, history.points), history.order, _MAX_POINTS)
        data = observed_derivatives(statement, history, subset)
        model, memo = fit_derivative_gp(data, request.memo)
        if history.pending:
            model = model.believe(data.inputs.new_tensor(to_unit(domain, history.pending_points)))
        points = np.empty((0, domain.dim))
        metas: list[dict[str, JSON]] = []
        while len(points) < min(request.count, _MAX_BATCH):
            if len(points):
                model = model.believe(data.inputs.new_tensor(to_unit(domain, points[-1:])))
            known = np.concatenate([history.all_points, points])
            start, point = None, None
            if not metas:
                start, point = self._explore(model, statement, history, rng)
            if point is None:
                point, _ = optimize_acquisition(
                    _log_ei(model, plausibility_penalty(domain)), domain,
                    history.points[history.order[:5]], known, rng,
                    duplicates=duplicate_filter(statement, history), n_global=1024, starts=16,
                )  # fmt: skip
            points = np.concatenate([points, point[None]])
            metas.append({} if start is None else {KEY: start})
        queries = tuple(
            Query(point, origin=self.name, meta=meta)
            for point, meta in zip(points, metas, strict=True)
        )
        return Proposal(self._with_gradients(queries, history, request), memo)

    def _explore(
        self,
        model: DerivativeGP,
        statement: ProblemStatement,
        history: History,
        rng: np.random.Generator,
    ) -> tuple[int | None, Array | None]:
        """Return start and next point of a basin other than the incumbent's, if it has the turn.

        A running basin goes on at the lowest posterior mean in its trust region. A new one is that
        of the lowest confidence bound.
        """
        from bo_invert.models.optim.optimize_acquisition import (
            evaluate_scores,
            gradient_ascent,
            optimize_in_box,
        )
        from bo_invert.models.optim.score import at_valid

        domain = statement.domain
        turn, basin = running_basin(history, self.name, max(_PATIENCE, domain.dim // 2))
        if not turn or any(KEY in trial.query.meta for trial in history.pending):
            return None, None
        mean, bound = (_lower_bound(model, statement, width) for width in (0.0, 1.0))
        if basin is not None:
            known = history.all_points
            point = optimize_in_box(mean, domain, basin.centre, basin.reach, known, rng)
            return basin.start, point
        rows = basin_starts(history, domain, _MAX_BASINS)
        if not len(rows):
            return None, None
        inputs = to_unit(domain, history.points[rows])
        low, high = (inputs - REACH).clip(0.0, 1.0), (inputs + REACH).clip(0.0, 1.0)
        score = at_valid(bound, domain)
        ends = gradient_ascent(
            score, domain, history.points[rows], 30,
            np.minimum(low, inputs), np.maximum(high, inputs),
        )  # fmt: skip
        best = int(evaluate_scores(score, domain, ends).argmax())
        return history.completed[rows[best]].number, ends[best]

    def _with_gradients(
        self, queries: tuple[Query, ...], history: History, request: Request
    ) -> tuple[Query, ...]:
        """Ask for gradients while the budget lasts; a value costs one call, a gradient another."""
        left = np.inf if request.budget is None else request.budget - history.committed
        return tuple(
            replace(query, gradient=left - 2 * i >= 2)
            for i, query in enumerate(queries)
            if left - 2 * i >= 1
        )


def _lower_bound(model: DerivativeGP, statement: ProblemStatement, width: float) -> Score:
    """Build width * std - mean of unit inputs, plus the plausibility penalty."""
    from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty

    penalty = plausibility_penalty(statement.domain)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = model(inputs)
        value = width * variance.sqrt() - mean
        return value if penalty is None else value + penalty(inputs)

    return score


def _log_ei(model: DerivativeGP, penalty: Score | None) -> Score:
    """Build log E[max(best - f(x), 0)] of unit inputs, plus the plausibility penalty."""
    from bo_invert.models.acquisition.log_ei import log_h

    best = model.data.values.min()

    def score(inputs: Tensor) -> Tensor:
        mean, variance = model(inputs)
        std = variance.sqrt()
        value: Tensor = log_h((best - mean) / std) + std.log()
        return value if penalty is None else value + penalty(inputs)

    return score
