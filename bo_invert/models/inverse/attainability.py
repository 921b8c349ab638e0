"""Assessment of a target under a log: probability of a hit, nearest outputs, best hope."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.inverse.credibility import (
    distrust,
    misfit_near_targets,
    sequential_inflation,
)
from bo_invert.models.inverse.drawn_outputs import DrawnOutputs
from bo_invert.models.inverse.fit import TargetFit, TargetOptions, fit_target_model
from bo_invert.models.inverse.limiting_factors import Limit, limiting_factors
from bo_invert.models.inverse.reachability import Reach, nearest_outputs, starting_points
from bo_invert.models.inverse.reachable_targets import TargetReach, reach_targets
from bo_invert.models.inverse.rounded_outputs import RoundedOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.types import Array, Indices

_DRAWS, _FEATURES = 256, 256
"""Numbers of drawn functions and of their frequencies. Engineering choice: the standard error of a
probability of 5 % is 1.4 %."""
_MANY_DRAWS, _MANY_FEATURES = 200, 128
"""Those for many targets. Engineering choice: 100 targets take some seconds."""
_CONSTRAINT_UNIT = 0.01
"""Unit of the excess over an outcome constraint, in standard deviations of its output.
Engineering choice: as for targets without a tolerance."""


@dataclass(frozen=True, eq=False)
class Attainability:
    """Drawn outputs of a log, and the distance from its target.

    Args:
        statement: Problem statement.
        history: Log behind the model.
        fit: Model of the target.
        inflation: Factors of the variances of the scores, shape ``(k,)``.
        exact: Distance of outputs from the target.
        distance: Distance of modelled functions from the target; see ``with_slack``.
        seeds: Seeds of the draws and of the search.
    """

    statement: ProblemStatement
    history: History
    fit: TargetFit
    inflation: Tensor
    exact: TargetDistance
    distance: TargetDistance
    seeds: tuple[int, ...]

    @staticmethod
    def of(
        statement: ProblemStatement,
        history: History,
        seed: int,
        *,
        noisy: bool = False,
        tolerance: float | None = None,
    ) -> Attainability:
        """Fit the model of a target and draw its outputs.

        Args:
            statement: Problem statement with a target.
            history: Log with at least two observations.
            seed: Seed of the study; the number of observations changes the draws.
            noisy: Repeated calls at a point differ.
            tolerance: Tolerance of a target without one; None for a default.
        """
        fit = fit_target_model(statement, history, TargetOptions(tolerance, (), noisy))
        inflation = sequential_inflation(fit.model.surrogate, fit.model.region)
        exact, seeds = exact_distance(statement, fit), (seed, len(history.completed))
        distance = with_slack(exact, fit)
        return Attainability(statement, history, fit, inflation, exact, distance, seeds)

    @cached_property
    def outputs(self) -> DrawnOutputs:
        """Drawn outputs, with deviations that cover the errors of hopeful predictions."""
        return self._drawn(self.inflation, _DRAWS, _FEATURES)

    def _rng(self) -> np.random.Generator:
        """Return a new generator, so that results do not depend on earlier ones."""
        return np.random.default_rng(self.seeds)

    def _drawn(self, inflation: Tensor, count: int, features: int) -> DrawnOutputs:
        model = self.fit.model
        return DrawnOutputs.of(
            model.surrogate, inflation, model.log_feasible, (count, features),
            int(self._rng().integers(2**31 - 1)),
        )  # fmt: skip

    @cached_property
    def reach(self) -> Reach:
        """Least excesses of the mean and of all draws."""
        domain, rng = self.statement.domain, self._rng()
        near = self.history.points[self.nearest_trials]
        near = near if len(near) else self.history.ranked_points
        starts = starting_points(domain, near, rng)
        return nearest_outputs(self.outputs, self.distance, domain, starts, rng)

    def reach_targets(self, values: Array) -> TargetReach:
        """Return how targets ``(t, k)`` of the wanted outputs can be reached.

        They replace the wanted values of the target; constraints and intervals to avoid stay.
        """
        count, wanted = values.shape
        lower, upper = (
            np.repeat(ends, count, axis=0) for ends in (self.exact.lower, self.exact.upper)
        )
        width = np.array(self.fit.tolerances[:wanted])
        lower[:, :wanted], upper[:, :wanted] = values - width, values + width
        distance = with_slack(replace(self.exact, lower=lower, upper=upper), self.fit)
        domain, rng = self.statement.domain, self._rng()
        starts = starting_points(domain, self.history.ranked_points, rng)
        inflation = sequential_inflation(self.fit.model.surrogate)
        drawn = self._drawn(inflation, _MANY_DRAWS, _MANY_FEATURES)
        return reach_targets(drawn, distance, domain, starts, rng)

    @property
    def probability(self) -> float:
        """Probability that some valid design meets the target."""
        return self.reach.probability

    @property
    def distrust(self) -> str:
        """Reason why the model says little about untried designs; empty if it does."""
        outputs = self.fit.fitted.outputs
        return distrust(self.fit.model.surrogate, outputs.names, self.distance.columns)

    @cached_property
    def observed_excess(self) -> Array:
        """Largest excess of each feasible observation inside the domain, shape ``(n,)``.

        It is infinite for others.
        """
        modelled = self.history.y[:, self.fit.fitted.outputs.columns]
        usable = self.history.violations <= 0.0  # infinite outside of the domain
        return np.where(usable, self.exact.largest(modelled), np.inf)

    @property
    def nearest_trials(self) -> Indices:
        """Positions of the feasible observations, nearest to the target first."""
        order = np.argsort(self.observed_excess, kind="stable")
        return order[np.isfinite(self.observed_excess[order])]

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Limits at the nearest outputs of the mean."""
        names = self.fit.fitted.outputs.names
        point = self.reach.points[0]
        return limiting_factors(self.outputs, self.distance, self.statement.domain, point, names)

    def best_hope(self) -> tuple[Array, float]:
        """Return the untried point ``(d,)`` that most probably meets the target, and how probable.

        Candidates are the minima of the mean and of all draws.
        """
        model = self.fit.model
        points = np.unique(self.reach.points, axis=0)
        logs = model.log_acceptance(points)
        ranked = points[np.argsort(-logs, kind="stable")]
        duplicates = duplicate_filter(self.statement, self.history, self.fit.subset)
        found = duplicates.select_new(ranked, self.history.all_points, 1)[0]
        return found, float(np.exp(min(0.0, model.log_acceptance(found[None])[0])))


def exact_distance(statement: ProblemStatement, fit: TargetFit) -> TargetDistance:
    """Return the distance of outputs from the target and from the outcome constraints."""
    target, region = statement.objective, fit.model.region
    assert isinstance(target, Target)
    columns = region.columns.numpy()
    spread = fit.fitted.outputs.values.std(0)
    units = _CONSTRAINT_UNIT * np.where(spread > 0.0, spread, 1.0)[columns]
    units[: target.entries.count] = fit.tolerances
    return TargetDistance(
        columns, region.lower.numpy()[None], region.upper.numpy()[None], region.avoided.numpy(),
        units, target.entries.count,
    )  # fmt: skip


def with_slack(distance: TargetDistance, fit: TargetFit) -> TargetDistance:
    """Return the distance with amounts by which outputs may be nearer than drawn functions.

    The intervals of rounded outputs become those of the numbers before rounding. Empty ones, whose
    lower end is above the upper one, have no slack.
    """
    rounded = RoundedOutputs.of(fit.fitted.outputs.values)
    lower, upper = rounded.widen(distance.lower, distance.upper, distance.columns, distance.avoided)
    distance = replace(distance, lower=lower, upper=upper)
    misfit = misfit_near_targets(fit.model.surrogate, distance, rounded)
    steps = rounded.half[distance.columns] / distance.units
    slack = np.where(lower > upper, 0.0, np.maximum(misfit, steps))
    return replace(distance, slack=slack)
