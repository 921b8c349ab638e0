"""Bayesian optimization with a random forest, for oracles that answer in steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.forest import fit_forest, forest_inputs
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, draw_seed, option
from bo_invert.strategies.phases import SurrogateStrategy
from bo_invert.types import Array, Query

ArrayScore = Callable[[Array], Array]
"""Function from ``n`` rows to scores ``(n,)``; higher is better."""

# Engineering choice: draws of the reference measure among the candidates.
_DRAWS = 1024
# Engineering choice: candidates of each round of the search, the best candidates that are moved in
# a round, and rounds. A forest has no gradients, so an evolutionary search maximises the score.
_OFFSPRING, _PARENTS, _ROUNDS = 256, 32, 5
# Engineering choice: best observations whose neighbourhood is searched.
_INCUMBENTS = 10
# Engineering choice: standard deviations of moves in units of the domain's width, large enough to
# leave a plateau.
_SIGMAS = (0.03, 0.1, 0.3)
# Engineering choice: share of the moves that replace coordinates by those of a draw.
_REDRAWN = 0.3


@dataclass(frozen=True)
class ForestSearch(SurrogateStrategy):
    """Bayesian optimization with a random forest of the outputs (SMAC, Hutter et al. 2011).

    Trees, rounding decoders and argmax make an oracle piecewise constant. A forest represents its
    steps, and irrelevant inputs do not disturb it. The moments of the loss over the trees, mu(x)
    and s(x), give the expected improvement

        ``EI(x) = s h((f* - mu) / s)`` with ``h(u) = phi(u) + u Phi(u)``,

    f* being the incumbent loss. An evolutionary search maximises log EI: draws of the reference
    measure and moved incumbents, whose best ones are moved again.

    The forest models the outputs as functions of the design's features if the space has any, and
    of the point otherwise. In a latent, it thus sees the same inputs as a frozen regressor.
    Outcome constraints, failures and the plausibility ``floor`` are treated as in ``gp``. Points
    of a batch and pending trials enter with their predicted means. Queries store no prediction
    intervals.

    Args:
        initial: size of the initial design, observations of the user included; default
            ``d / 2 + 2``, at least 4 and at most 8, or ``2 d``, at least 5 and at most 20, if
            there are unordered choices; at most a quarter of the budget.
    """

    name = "forest"
    models_outside = True
    initial: int | None = option(None, ge=1)

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        import torch

        from bo_invert.models.acquisition.feasibility import feasibility_and_plausibility
        from bo_invert.models.acquisition.forest_ei import log_expected_improvement
        from bo_invert.models.output_transforms import ModelledOutputs

        domain, rng = statement.domain, request.rng()
        subset = select_subset(to_unit(domain, history.points), history.order)
        outputs = ModelledOutputs(statement, history.y[subset], history.losses[subset])
        permission, labels = feasibility_and_plausibility(statement, history, request.memo)
        inputs = forest_inputs(statement)
        observed, values = inputs(history.points[subset]), outputs.values
        duplicates = duplicate_filter(statement, history, subset)
        chosen = np.empty((0, domain.dim))
        while len(chosen) < request.count:
            pending = np.concatenate([history.pending_points, chosen])
            forest = fit_forest(observed, values, draw_seed(rng))
            if len(pending):
                # Pending points count as observed at their means (kriging believer).
                means = forest.samples(inputs(pending)).mean(axis=0)
                both = np.concatenate([observed, inputs(pending)])
                forest = fit_forest(both, np.concatenate([values, means]), draw_seed(rng))
            improvement = log_expected_improvement(forest, outputs)

            def score(points: Array, improvement: ArrayScore = improvement) -> Array:
                values = improvement(inputs(points))
                if permission is None:
                    return values
                with torch.no_grad():
                    allowed = permission(torch.tensor(to_unit(domain, points)))
                return np.asarray(values + allowed.numpy())

            ranked = _search(score, domain, history.ranked_points[:_INCUMBENTS], rng)
            known = np.concatenate([history.all_points, chosen])
            chosen = np.concatenate([chosen, duplicates.select_new(ranked, known, 1)])
        return Proposal(tuple(Query(x, origin=self.name) for x in chosen), labels)


def _search(
    score: ArrayScore, domain: Domain, incumbents: Array, rng: np.random.Generator
) -> Array:
    """Search for the largest scores; return candidates ``(n, d)``, best first."""
    draws = domain.sample(rng, _DRAWS)
    pool = np.concatenate([draws, _moved(domain, incumbents, draws, 2 * _OFFSPRING, rng)])
    values = score(pool)
    for _ in range(_ROUNDS):
        parents = pool[np.argsort(-values, kind="stable")[:_PARENTS]]
        fresh = _moved(domain, parents, draws, _OFFSPRING, rng)
        pool, values = np.concatenate([pool, fresh]), np.concatenate([values, score(fresh)])
    # Draws come first, so a stable sort prefers them among equal scores, which one plateau has.
    return pool[np.argsort(-values, kind="stable")]


def _moved(
    domain: Domain, centres: Array, draws: Array, count: int, rng: np.random.Generator
) -> Array:
    """Move centres in some coordinates, by normal steps or to those of a draw, ``(count, d)``."""
    rows = centres[rng.integers(len(centres), size=count)]
    steps = rng.choice(_SIGMAS, size=(count, 1)) * rng.standard_normal(rows.shape)
    moved = rows + steps * np.ptp(domain.bounds, axis=0)
    redrawn = rng.random((count, 1)) < _REDRAWN
    # One coordinate on average, some of them, or all: steps may depend on one input or on many.
    shares = rng.choice([1.0 / domain.dim, 0.3, 1.0], size=(count, 1))
    mask = rng.random(rows.shape) < shares
    moved = np.where(redrawn, draws[rng.integers(len(draws), size=count)], moved)
    return domain.project(np.where(mask, moved, rows))
