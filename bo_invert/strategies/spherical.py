"""Thompson sampling with a spherical-linear Gaussian process for latents of many dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.linear.sphere import minimise_distance, minimise_linear
from bo_invert.models.linear.spherical_gp import SphericalLinearGP, fit_spherical_gp
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, option
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.types import Array, Query

if TYPE_CHECKING:
    from bo_invert.models.optim.score import Score
    from bo_invert.models.output_transforms import ModelledOutputs

# Engineering choice: share of ``exploration`` that a refining query retains.
_REFINING = 0.2


@dataclass(frozen=True)
class Spherical(SurrogateStrategy):
    """Spherical-linear Gaussian process with exact Thompson samples (Doumont et al. 2026).

    The kernel is ``k(z, z') = b0 + b1 P(z).P(z')``, where P projects a point to the unit sphere.
    A posterior sample of an output is therefore linear in P: ``f(z) = w.P(z) + c``.

    After the initial design, each query minimises the loss of one sample. In a latent the
    minimiser has a closed form: ``P = -w / |w|`` for an output to minimise, and a trust-region
    subproblem on the sphere for a ``Target`` of any number of outputs. Of all points that meet
    a sampled target, the nearest to the incumbent is taken. In boxes, for a ``Composite`` and
    under constraints (sampled violations are penalised) the sample is optimised numerically.

    *Shortened samples.* With many coordinates and few observations a sample is dominated by its
    random part. The deviation of w from its mean m is therefore cut to the length
    ``exploration |m|``. Once m is determined well, samples are shorter than that and stay exact.

    *Refining queries.* For a target, every other query retains a fifth of the exploration and is
    conditioned on the observations around the incumbent. These are secant steps along the slopes
    of the model. They converge even if the function is not linear in P.

    *Failures.* A GP and a linear model estimate the probability that the oracle returns outputs;
    the lower estimate counts. If it is below 0.5 at the closed form, the sampled improvement
    times this probability is optimised numerically. The plausibility ``floor`` moves closed forms
    to its edge.

    An ask takes tens of milliseconds at 500 coordinates and 1,000 trials, hundreds after
    failures, and seconds when hyperparameters are fitted. The model has no curvature: with few
    coordinates, or for an optimum between bad points, use ``gp``.

    Args:
        chart: ``"directions"`` projects points of a latent to their directions ``z / |z|`` and
            proposes points with norm ``sqrt(d)``, or as large as the ``floor`` allows;
            ``"stereographic"`` is the inverse stereographic projection, which includes the norm;
            ``"auto"`` is the first in latents, the second in boxes.
        exploration: bound on the deviation of sampled weights, relative to their mean; 0 for the
            minimiser of the mean, None for plain Thompson sampling.
        initial: size of the initial design, observations of the user included; default ``2 d``,
            at least 5, at most 20 and at most a quarter of the budget.
    """

    name = "spherical"
    chart: str = option("auto", among=("auto", "directions", "stereographic"))
    exploration: float | None = option(0.5, ge=0)
    initial: int | None = option(None, ge=1)

    def _needs_large_design(self, domain: Domain) -> bool:
        return True  # a linear model has d coefficients

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        from bo_invert.models.acquisition.feasibility import feasibility_and_plausibility
        from bo_invert.models.acquisition.linear_thompson import (
            fit_linear_feasibility,
            thompson_score,
        )
        from bo_invert.models.optim.optimize_acquisition import optimize_acquisition
        from bo_invert.models.output_transforms import ModelledOutputs

        domain, rng, memo = statement.domain, request.rng(), request.memo or {}
        outputs = ModelledOutputs(statement, history.y, history.losses)
        # On a line there are only two directions.
        directions = domain.latent and domain.dim > 1 and self.chart != "stereographic"
        model = fit_spherical_gp(
            domain.centred(history.points),
            outputs.values,
            memo.get("outputs"),
            directions=directions,
        )
        # Thompson samples are compared with the probability 1/2, and the linear model of labels
        # learns from few failures; neither needs a weight.
        feasibility, labels = feasibility_and_plausibility(
            statement, history, memo.get("permission"), cautious=False
        )
        linear, linear_labels = fit_linear_feasibility(
            domain, history, memo.get("labels"), directions=directions
        )
        feasibility = _minimum(feasibility, linear)
        log_feasible = partial(_log_feasible, feasibility, domain)
        # Neither pending nor failed points enter the model; they must not be proposed again.
        others = [*history.pending_points, *history.failed_points]
        points: list[Array] = []
        # Independent samples make a batch diverse, so fantasies of pending points are not needed
        # (Kandasamy et al. 2018).
        for i, sample in enumerate(model.sample(rng, request.count)):
            # The parity includes pending points, so both kinds of queries alternate in batches too.
            refining = (len(history.completed) + len(history.pending) + i) % 2 == 1
            point = self._closed_form(sample, model, outputs, history, refining)
            known = [*history.points, *others, *points]
            if point is None or not log_feasible(point[None])[0] > math.log(0.5):
                weights = self._shorten(sample, model.mean)
                point, _ = optimize_acquisition(
                    thompson_score(weights, model.projection, outputs, feasibility),
                    domain,
                    history.points[history.order[:5]],
                    known,
                    rng,
                    n_global=128,
                    n_local=64,
                    starts=4,
                    steps=25,
                )
            elif (np.abs(known - point) < 1e-9).all(axis=1).any():
                # With ``exploration=0`` the closed form recurs until new data arrive. The most
                # feasible of some draws replaces it.
                pool = domain.sample(rng, 1 if feasibility is None else 256)
                point = pool[log_feasible(pool).argmax()]
            points.append(point)
        note = {"outputs": model.memo, "permission": labels, "labels": linear_labels}
        return Proposal(tuple(Query(point, origin=self.name) for point in points), note)

    def _shorten(self, weights: Array, mean: Array, share: float = 1.0) -> Array:
        """Cut the deviations of sampled weights ``(k, D + 1)`` from their mean.

        The bound is ``share * exploration`` times the norm of the mean slope of each output.
        """
        if self.exploration is None:
            return weights
        # The intercept does not move the minimiser of a linear output, so the norms exclude it.
        lengths = np.linalg.norm((weights - mean)[:, :-1], axis=1, keepdims=True)
        allowed = share * self.exploration * np.linalg.norm(mean[:, :-1], axis=1, keepdims=True)
        return np.asarray(
            mean + np.minimum(1.0, allowed / np.maximum(lengths, 1e-300)) * (weights - mean)
        )

    def _closed_form(
        self,
        sample: Array,
        model: SphericalLinearGP,
        outputs: ModelledOutputs,
        history: History,
        refining: bool,
    ) -> Array | None:
        """Minimise the loss of sampled weights ``(k, D + 1)``; None without a closed form."""
        statement, chart = outputs.statement, model.projection
        domain, objective = statement.domain, statement.objective
        if not domain.latent or statement.constraints:
            return None
        # The stereographic height increases with the norm, so the radius bounds it from above.
        height = chart.max_height(domain.radius)
        if not outputs.composite and len(sample) == 1:
            weights = self._shorten(sample, model.mean)
            # On the unit sphere w.P >= -|w|, with equality at P = -w / |w| (Cauchy-Schwarz).
            slope = _sign(outputs) * weights[0, :-1]
            return domain.project(chart.unproject(minimise_linear(slope, height)))
        if not outputs.composite or not isinstance(objective, Target) or not objective.points:
            return None
        incumbent = history.ranking[0].point
        near = chart.features(incumbent[None])[0, :-1]
        # Rows of weights are outputs; the last column is the intercept c.
        weights = self._shorten(sample, model.mean, _REFINING if refining else 1.0)
        if refining:
            weights = model.condition_locally(weights, near)
        weights = weights[[outputs.columns.index(i) for i in objective.indices]]
        # Solve (A u + c - target) / scale = 0 for u on the sphere, nearest to the incumbent.
        scale = np.array(objective.units)
        wanted = (np.array(objective.value) - weights[:, -1]) / scale
        best = chart.unproject(
            minimise_distance(weights[:, :-1] / scale[:, None], wanted, near, height)
        )
        if refining and chart.lengthscale is None:  # directions: retain the norm of the incumbent
            best *= np.linalg.norm(incumbent) / chart.reach
        return domain.project(best)


def _sign(outputs: ModelledOutputs) -> float:
    """Return 1 if the loss is the modelled output, -1 if it is minus the output."""
    import torch

    # The loss of the values 0 and 1 reveals the sign, whatever the objective is called.
    low, high = outputs.loss(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).tolist()
    return 1.0 if high > low else -1.0


def _minimum(one: Score | None, other: Score | None) -> Score | None:
    """Return the pointwise minimum of two scores; None stands for no limit."""
    if one is None or other is None:
        return one or other
    return lambda inputs: one(inputs).minimum(other(inputs))


def _log_feasible(feasibility: Score | None, domain: Domain, points: Array) -> Array:
    """Compute log probabilities of outputs at points ``(n, d)``, shape ``(n,)``."""
    if feasibility is None:
        return np.zeros(len(points))
    import torch

    with torch.no_grad():
        return np.asarray(feasibility(torch.tensor(to_unit(domain, points))).numpy())
