"""Bayesian optimization within the latent prior, sampled by preconditioned Crank-Nicolson."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.reference_measure import DataPrior
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.design_features import principal_components
from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter
from bo_invert.models.optim.initial_design import initial_design_size, needs_initial_design
from bo_invert.models.optim.pcn_sampler import crank_nicolson, sample_pcn
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import JSON, Array, Indices, Mask, Query, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from bo_invert.models.optim.score import Score

SURROGATES = ("auto", "design", "latent")
# Engineering choice: prior draws for the principal components of designs; more draws hardly
# change the components.
_PCA_DRAWS = 256
# Engineering choice: prior draws from which the starts of the walkers are resampled.
_START_DRAWS = 1024
# Engineering choice: draws for a query whose chains all end at known points.
_SPARE_DRAWS = 256
# Engineering choice: share of the steps that also change discrete values, in sets that have them.
_DISCRETE_STEPS = 0.2
# Engineering choice: share of the steps inside constraints that project, which chains end with.
_PROJECTED = 1 / 3
# Engineering choice: least distance of a uniform number from 0 and 1, 4.8 standard deviations.
_TAIL = 1e-6
# Engineering choice: least probability of improvement. An overconfident surrogate would otherwise
# outweigh the prior and move walkers to implausible designs.
_MIN_PROBABILITY = 1e-3
# Engineering choice: distance in units of the unit cube below which two points are duplicates.
# Sampling does not converge to an optimum, so a closer point yields no information.
_DUPLICATE = 1e-4


@dataclass(frozen=True)
class PCN(Strategy):
    """Latent prior times probability of improvement, sampled by pCN (COWBOYS, Moss et al. 2025).

    After an initial design from the prior, every ask samples the density

        ``p(z) P(f(z) < f*)``

    with ``walkers`` chains per query, f* being the incumbent loss. Of the ends of these chains
    the query is the one with the largest expected improvement. Preconditioned Crank-Nicolson
    leaves N(0, I) invariant, so its acceptance rate does not depend on the dimension.

    The GP models the loss as a function of the *designs*, if the space has numeric features, and
    the generator serves as prior only. Solutions are more plausible than maximisers of an
    acquisition function. Designs that the generator makes rarely are found rarely.

    p(z) is the latent prior, cut off at the radius of the domain; the density of the data of a box,
    or uniform without data. Inside input constraints, the last third of the steps proposes points
    outside and projects them, so that chains also end on faces.
    Objectives, constraints, failures, pending trials and the plausibility ``floor`` are treated
    as in ``gp``. A query decodes about ``walkers * steps`` designs; this costs no oracle calls.
    Use it if plausible designs matter more than the last improvement.

    Args:
        surrogate: ``"design"`` fits the GP to principal components of the designs, ``"latent"``
            to the points; ``"auto"`` is ``"design"`` if the space has features.
        components: largest number of principal components. Designs in which every number counts,
            such as atom counts of molecules, need more.
        walkers: chains per query; 1 gives a plain sample, more are greedier and less plausible.
        steps: steps of each chain.
        initial: size of the initial design, observations of the user included; default
            ``d / 2 + 2``, at least 4, at most 8 and at most a quarter of the budget.
        noisy: the oracle is noisy.
    """

    name = "pcn"
    surrogate: str = "auto"
    components: int = 16
    walkers: int = 8
    steps: int = 60
    initial: int | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.surrogate not in SURROGATES:
            raise InvalidInputError(
                f"strategy 'pcn': surrogate must be one of {', '.join(map(repr, SURROGATES))}, "
                f"got {self.surrogate!r}"
            )
        sizes = (
            self.components,
            self.walkers,
            self.steps,
            1 if self.initial is None else self.initial,
        )
        if min(sizes) < 1:
            raise InvalidInputError(
                "strategy 'pcn': components, walkers, steps and initial must be at least 1, "
                f"got {self}"
            )

    def check(self, statement: ProblemStatement) -> None:
        if self.surrogate == "design" and statement.features is None:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} with surrogate='design' needs numeric features of "
                f"designs, and the space of problem {statement.name!r} has none. Use a Latent "
                "with a decoder to arrays, define the property features of the space, or use "
                "surrogate='latent'"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        size = initial_design_size(domain.dim, request.budget, self.initial)
        if needs_initial_design(history, size):
            pool = domain.sample(request.rng(), request.count + 32)
            points = DuplicateFilter(domain).select_new(pool, history.all_points, request.count)
            memo = request.memo
        else:
            with one_thread():
                points, memo = self._sample(statement, history, request)
        return Proposal(tuple(Query(point, origin=self.name) for point in points), memo)

    def _inputs(self, statement: ProblemStatement, request: Request) -> Callable[[Array], Array]:
        """Return the function from points ``(n, d)`` to inputs of the surrogate."""
        domain = statement.domain
        if self.surrogate != "latent" and statement.features is not None:
            draws = domain.sample(request.stream(0), _PCA_DRAWS)
            found = principal_components(statement.features, draws, self.components)
            if found is not None:
                return found
        return lambda points: to_unit(domain, points)

    def _sample(
        self, statement: ProblemStatement, history: History, request: Request
    ) -> tuple[Array, JSON]:
        """Sample points ``(count, d)``; return them and the memo of the next ask."""
        import torch

        from bo_invert.models.acquisition.feasibility import fit_feasibility
        from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
        from bo_invert.models.acquisition.probability_of_improvement import (
            log_probability_of_improvement,
        )
        from bo_invert.models.fitted_model import fit_model

        domain, memo, rng = statement.domain, request.memo or {}, request.rng()
        inputs = self._inputs(statement, request)
        observed, failed = (
            np.nan_to_num(inputs(points), nan=0.5)
            for points in (history.points, history.failed_points)
        )
        subset = select_subset(observed, history.order)
        model = fit_model(
            statement, history, observed, memo.get("outputs"), subset=subset, noisy=self.noisy
        )
        feasibility, labels = fit_feasibility(observed, failed, history.order, memo.get("labels"))
        penalty = plausibility_penalty(domain)

        def evaluate(score: Score, points: Array) -> Array:
            """Evaluate a score with feasibility and plausibility; -inf without features."""
            features = inputs(points)
            valid = np.asarray(np.isfinite(features).all(axis=1))
            with torch.no_grad():
                x = torch.as_tensor(np.where(valid[:, None], features, 0.5))
                values = score(x) if feasibility is None else score(x) + feasibility(x)
                if penalty is not None:
                    values = values + penalty(torch.as_tensor(to_unit(domain, points)))
            return np.where(valid, values.numpy(), -np.inf)

        log_probability = log_probability_of_improvement(
            model.surrogate,
            model.outputs,
            model.acquisition_data(np.empty((0, observed.shape[1]))),
            seed=draw_seed(rng),
        )

        def bounded(x: Tensor) -> Tensor:
            # A smooth maximum: where improvement is improbable, the chains sample the prior.
            floor = torch.full_like(x[:, 0], math.log(_MIN_PROBABILITY))
            return torch.logaddexp(log_probability(x), floor)

        ends = self._run_chains(
            domain, history, lambda points: evaluate(bounded, points), request.count, rng
        )
        duplicates = DuplicateFilter(domain) if self.noisy else duplicate_filter(statement, history)
        if domain.continuous and not self.noisy:
            distance = max(duplicates.min_distance, _DUPLICATE)
            duplicates = replace(duplicates, min_distance=distance)
        chosen = np.empty((0, domain.dim))
        # Each query has chains of its own; their ends are ranked by expected improvement.
        for pool in np.split(ends, request.count):
            pending = np.concatenate([history.pending_points, chosen])
            improvement = model.log_expected_improvement(
                np.nan_to_num(inputs(pending), nan=0.5), seed=draw_seed(rng)
            )
            order = np.argsort(-evaluate(improvement, pool), kind="stable")
            known = np.concatenate([history.all_points, chosen])
            found = duplicates.select_new(
                pool[order], known, 1, lambda: domain.sample(rng, _SPARE_DRAWS)
            )
            chosen = np.concatenate([chosen, found])
        return chosen, {"outputs": model.surrogate.memo, "labels": labels}

    def _run_chains(
        self,
        domain: Domain,
        history: History,
        log_probability: Callable[[Array], Array],
        count: int,
        rng: np.random.Generator,
    ) -> Array:
        """Sample prior times probability; return the ends ``(walkers * count, d)`` of chains."""
        normal = _NormalCoordinates(domain)
        first, steps = normal, self.steps
        if isinstance(domain, ConstrainedBox) and domain.reference is None:
            first = _ChordCoordinates(domain)
        best = first.coordinates(history.points[history.order[:16]])
        pool = np.concatenate([first.draws(rng, _START_DRAWS), best])
        # Prior draws resampled by probability approximate the target density, so the chains need
        # little burn-in (sampling importance resampling, Rubin 1987).
        rows = _resample(log_probability(first.points(pool)), self.walkers * count, rng)
        ends = pool[rows]
        if first is not normal:
            chords = round((1.0 - _PROJECTED) * steps)
            ends = first.walk(ends, log_probability, rng, chords)
            # Chords end on a face with probability 0, and many optima lie there. Projections often
            # end there.
            ends, steps = normal.coordinates(first.points(ends)), steps - chords
        ends = normal.walk(ends, log_probability, rng, steps)
        return domain.project(normal.points(ends))


def _resample(logs: Array, count: int, rng: np.random.Generator) -> Indices:
    """Draw ``count`` row numbers with probabilities proportional to ``exp(logs)``."""
    top = logs.max()
    shares = np.exp(logs - top) if np.isfinite(top) else np.ones(len(logs))
    return rng.choice(len(logs), size=count, p=shares / shares.sum()).astype(np.intp)


@dataclass(frozen=True)
class _NormalCoordinates:
    """Coordinates in which pCN proposes.

    These are z itself in a latent, ``Phi^-1(u)`` in a box, and ``L^-1 (u - m)`` in a box with data
    of mean m and covariance ``L L'``.
    """

    domain: Domain

    @property
    def _data(self) -> DataPrior | None:
        reference = self.domain.reference
        return reference if isinstance(reference, DataPrior) else None

    def points(self, z: Array) -> Array:
        if self.domain.latent:
            return z
        if self._data is not None:
            return self.domain.project(self._raw(self._data, z))
        return self.domain.project(ndtr(z))

    @staticmethod
    def _raw(data: DataPrior, z: Array) -> Array:
        """Return points ``(n, d)`` that may lie outside of the box."""
        mean, factor = data.moments
        return np.asarray(mean + z @ factor.T)

    def coordinates(self, points: Array) -> Array:
        if self.domain.latent:
            return points
        if self._data is not None:
            mean, factor = self._data.moments
            return np.linalg.solve(factor, (points - mean).T).T.astype(np.float64)
        z: Array = ndtri(np.clip(points, _TAIL, 1.0 - _TAIL))
        return z

    def draws(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` coordinates of points from the reference measure."""
        if self.domain.latent or self._data is not None:
            return self.coordinates(self.domain.sample(rng, n))
        return rng.standard_normal((n, self.domain.dim))

    def propose(self, z: Array, b: Array, rng: np.random.Generator) -> Array:
        """Return proposals ``(n, d)`` from coordinates ``(n, d)`` with step sizes ``(n, 1)``."""
        return crank_nicolson(z, b, rng)

    def walk(
        self,
        start: Array,
        log_probability: Callable[[Array], Array],
        rng: np.random.Generator,
        steps: int,
    ) -> Array:
        """Run a chain from each start ``(c, d)``; return the ends ``(c, d)``."""

        def log_likelihood(z: Array) -> Array:
            # pCN leaves N(0, I) invariant; the ratio p(z) / N(z; 0, I) corrects it to the prior.
            values: Array = log_probability(self.points(z)) + self.log_ratio(z)
            return values

        return sample_pcn(log_likelihood, start, rng, steps=steps, propose=self.propose)

    def log_ratio(self, z: Array) -> Array:
        """Compute log p(z) - log N(z; 0, I) up to a constant, shape ``(n,)``.

        In a box the uniform measure is N(0, I) in these coordinates, and the ratio is 0.
        """
        squares = (z**2).sum(axis=1)
        if self._data is not None:
            return np.asarray(self._data.log_density(self._raw(self._data, z)) + 0.5 * squares)
        if not self.domain.latent:
            return np.zeros(len(z))
        reference = self.domain.reference
        ratio = np.zeros(len(z)) if reference is None else reference.log_density(z) + 0.5 * squares
        return np.where(squares <= self.domain.radius**2 * (1.0 + 1e-9), ratio, -np.inf)


@dataclass(frozen=True)
class _ChordCoordinates(_NormalCoordinates):
    """Coordinates of chains inside a set of input constraints, on which the prior is uniform.

    Coordinates of parameters in linear constraints and counts are those of the unit cube, and move
    along chords of the set. Those of other parameters are ``Phi^-1(u)``. A fifth of the steps
    also moves discrete values, by projection of a pCN step onto the set.
    """

    domain: ConstrainedBox

    @cached_property
    def _axes(self) -> Mask:
        return self.domain.feasible.columns_of_axes

    @cached_property
    def _mixed(self) -> bool:
        return bool(self.domain.feasible.counts) or not self.domain.feasible.free.all()

    def points(self, z: Array) -> Array:
        return self.domain.feasible.valid(np.where(self._axes, z, ndtr(z)))

    def coordinates(self, points: Array) -> Array:
        return np.where(self._axes, points, super().coordinates(points))

    def draws(self, rng: np.random.Generator, n: int) -> Array:
        return self.coordinates(self.domain.sample(rng, n))

    def propose(self, z: Array, b: Array, rng: np.random.Generator) -> Array:
        within = self.domain.feasible
        if self._mixed and rng.random() < _DISCRETE_STEPS:
            normal = crank_nicolson(np.where(self._axes, super().coordinates(z), z), b, rng)
            found, _, done = within.repair(ndtr(normal))
            return np.where(done[:, None], np.where(self._axes, found, normal), z)
        moved = z if self._axes.all() else crank_nicolson(z, b, rng)
        if not within.coupled:
            return moved
        return np.where(self._axes, self.domain.draws.chord_steps(rng, z, b), moved)

    def log_ratio(self, z: Array) -> Array:
        """Compute the log density of the prior in scaled values, -inf where functions reject."""
        within = self.domain.feasible
        ratio = np.zeros(len(z))
        for axis in within.axes:
            if not axis.plain and not axis.discrete:
                ratio += np.log(axis.slope(z[:, axis.columns.start]))
        if within.functions:
            ratio[~within.accepts(self.points(z))] = -np.inf
        return ratio
