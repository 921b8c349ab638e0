"""Search for the least change of a design that reaches a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.change import Change, largest_change
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import KERNELS, to_unit
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.least_change import LeastChange
from bo_invert.models.inverse.step_cells import StepCells
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.models.optim.initial_design import limit_to_budget
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, option
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.types import Array, Mask, Query, Trial

# Engineering choice: parts of the way from x0 to the points of the initial design, in turn. The
# solution is near x0, and the whole domain may be needed to find one.
_PARTS = (0.0, 1.0, 0.5, 0.25)
# Engineering choice: number of draws whose largest change takes the place of that of a hit.
_DRAWS = 256
# Engineering choice: radius of the modelled observations around x0 in changes of the best hit, and
# their least number per parameter. The improvements lie within one such change.
_RADIUS, _NEAREST = 2.0, 2
# Engineering choice: number of queries in a row without an expected gain after which a search ends.
_LAST = 4


@dataclass(frozen=True)
class NearestSearch(SurrogateStrategy):
    """Search for the least change of a design that reaches a target, for ``Nearest``.

    The initial design evaluates x0 and points between it and a Sobol sequence. Gaussian processes
    of the outputs then give the probability a(x) that a point meets the target and the outcome
    constraints, and each query maximises the constrained expected improvement

        ``a(x) max(L* - L(x), 0)``

    of the change L, which is known (Gardner et al. 2014); L* is that of the best hit. Candidates
    are the ends of gradient ascents, points between x0 and hits, hits with parameters set back to
    those of x0 or moved towards them and, with ``few``, points that change few parameters. After
    the first hit, only observations near x0 are modelled. Equal outputs of different points show
    that the oracle answers in steps. A point near an observation then probably has its output.

    The search ends after 4 queries in a row whose expected improvement is below ``gain``.

    Args:
        initial: size of the initial design; default ``d + 4``, at most a quarter of the budget.
        gain: expected improvement, as a share of the change of the best hit, below which the search
            ends; 0 to use the whole budget.
        noisy: the oracle is noisy.
        kernel: kernel, as for ``gp``.
        device: torch device of the surrogate.
    """

    name = "nearest"
    initial: int | None = option(None, ge=2)
    gain: float = option(1e-3, ge=0, lt=1)
    noisy: bool = False
    kernel: str = option("auto", among=KERNELS)
    device: str = "cpu"

    def check(self, statement: ProblemStatement) -> None:
        if not isinstance(statement.objective, Nearest):
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs the objective Nearest, and that of problem "
                f"{statement.name!r} is {statement.objective}. Use Nearest(x0, Target(...)), or "
                "'auto'"
            )

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        return self.initial or limit_to_budget(domain.parameter_count + 4, budget)

    def _design(
        self, statement: ProblemStatement, history: History, request: Request
    ) -> tuple[Query, ...]:
        change = _objective(statement).change
        assert change is not None
        drawn = super()._design(statement, history, request)
        parts = np.array([_PARTS[query.meta["design"] % len(_PARTS)] for query in drawn])
        first = [query.meta["design"] == 0 for query in drawn]
        # x0 itself is evaluated once.
        parts[(parts == 0.0) & ~np.array(first)] = 0.75
        points = np.array([query.point for query in drawn])
        points = change.origin + parts[:, None] * (points - change.origin)
        return tuple(
            replace(query, point=point)
            for query, point in zip(drawn, statement.domain.project(points), strict=True)
        )

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        objective, domain, rng = _objective(statement), statement.domain, request.rng()
        others = objective.without_bounds(statement.constraints, statement.outputs[:-1])
        aim = replace(statement, objective=objective.target, constraints=others)
        options = TargetOptions(None, (), self.noisy, self.kernel, self.device)
        distances = _with_distances(history, objective)
        feasible = history.violations <= 0.0
        assert objective.change is not None
        near = _near(distances, objective.change, feasible)
        fit = fit_target_model(aim, near, options, request.memo)
        best = largest_change(objective.change, domain.sample(rng, _DRAWS))
        if feasible.any():
            best = float(objective.change(history.points[feasible]).min())
        if feasible.any() and (best <= 0.0 or _without_gain(history.trials, self.gain)):
            return Proposal((), fit.memo)
        duplicates = duplicate_filter(aim, near, fit.subset)
        cells = StepCells.fit(to_unit(domain, history.points), history.y[:, :-1], feasible)
        points = np.empty((0, domain.dim))
        for _ in range(request.count):
            pending = np.concatenate([history.pending_points, points])
            search = LeastChange(fit.model.given(pending), objective.change, best, cells)
            known = np.concatenate([history.all_points, points])
            ranked = search.candidates(history.ranked_points[:5], known, rng)
            points = np.concatenate([points, duplicates.select_new(ranked, known, 1)])
        gains: Array = LeastChange(fit.model, objective.change, best, cells).gain(points)
        queries = self._queries(aim, near, fit.fitted, points)
        known_hit = bool(feasible.any())
        found = (
            replace(query, meta={**query.meta, "gain": float(f"{gain:.3g}"), "hits": known_hit})
            for query, gain in zip(queries, gains, strict=True)
        )
        return Proposal(tuple(found), fit.memo)


def _with_distances(history: History, objective: Nearest) -> History:
    """Return a history whose losses are the distances to the target instead of the changes."""
    found = []
    for trial in history.trials:
        if trial.y is not None and trial.outcome is not None:
            loss = float(objective.target.loss(trial.y))
            trial = trial.evolved(outcome=replace(trial.outcome, loss=loss))
        found.append(trial)
    return History(found)


def _near(history: History, change: Change, feasible: Mask) -> History:
    """Return a history whose observations are near x0, after the first hit.

    The solution lies within the change of the best hit. Observations far beyond it would set
    lengthscales that are too long or too short there.
    """
    changes = change(history.points)
    if not feasible.any():
        return history
    least = _NEAREST * (change.domain.parameter_count + 1)
    radius = max(_RADIUS * changes[feasible].min(), np.sort(changes)[:least].max())
    inside = {
        trial.number for trial, own in zip(history.completed, changes, strict=True) if own <= radius
    }
    return History([one for one in history.trials if one.y is None or one.number in inside])


def _objective(statement: ProblemStatement) -> Nearest:
    assert isinstance(statement.objective, Nearest)
    return statement.objective


def _without_gain(trials: Sequence[Trial], least: float) -> bool:
    """Return True if the last queries of the search expected less than a gain."""
    gains = [one.query.meta["gain"] for one in trials if one.query.meta.get("hits")]
    return len(gains) >= _LAST and max(gains[-_LAST:]) < least
