"""Bayesian optimization that never leaves the prior: samples of it, weighed by the probability to improve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.optim.duplicates import DuplicateFilter, duplicate_filter
from bo_invert.models.optim.initial_design import initial_design_size, needs_initial_design
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from bo_invert.models.acquisition.expected_improvement import Score

SURROGATES = ("auto", "design", "latent")
#: More prior draws than this hardly change the principal components of designs.
_DRAWS = 256
#: Prior draws among which the walkers find their first places.
_LOOKS = 1024
#: Probability, everywhere, that the model is wrong and an improvement possible. A model that is sure of itself would
#: otherwise outweigh any prior, and send walkers to where no design is plausible.
_DOUBT = 1e-3
#: Walks are no descents: what lies nearer to a known point, in units of the unit cube, is the same point once more.
_SAME = 1e-4


@dataclass(frozen=True)
class PCN(Strategy):
    """Prior times probability of improvement, sampled by preconditioned Crank-Nicolson walks (Moss et al., ICML 2025).

    The generator is a prior and nothing else: the Gaussian process compares *designs*, where the space can show them
    as numbers, and the latent is only walked in. After an initial design drawn from the prior, every ask samples
    ``p(z) P(improvement at z)``. A query is, of the places where a few walkers end, the one with the highest expected
    improvement. Finds look like what the generator was taught, far more than an acquisition's maximum does; what the
    generator would hardly ever make is hardly ever found.

    ``p(z)`` is the measured reference measure where there is one, otherwise N(0, I), cut off at the domain's radius;
    in a box it is uniform. Any objective, outcome constraints, failures, open trials and a latent's ``floor`` are
    treated as by ``gp``.
    Decoding is free of oracle calls but not of time: a query takes about ``walkers * steps`` designs.

    Args:
        surrogate: ``"design"``: the process sees principal components of the designs; ``"latent"``: it sees points;
            ``"auto"``: designs where the space shows them.
        components: most principal components of designs that the process sees. Designs whose every number counts,
            such as how many atoms of which kind a molecule has, want more.
        walkers: for each query. One for a plain sample; the more there are, the greedier and the less plausible.
        steps: of each walker.
        initial: size of the initial design, data of the user's included; default ``2 d``, at least 5, at most 20
            and at most a quarter of the budget.
        noisy: the oracle answers differently to the same point.
    """

    name = "pcn"
    surrogate: str = "auto"
    components: int = 16
    walkers: int = 8
    steps: int = 60
    initial: int | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        if self.surrogate not in SURROGATES:
            raise InvalidInputError(
                f"strategy 'pcn': surrogate is one of {', '.join(map(repr, SURROGATES))}, got {self.surrogate!r}"
            )
        sizes = (
            self.components,
            self.walkers,
            self.steps,
            1 if self.initial is None else self.initial,
        )
        if min(sizes) < 1:
            raise InvalidInputError(
                f"strategy 'pcn': components, walkers, steps and initial are at least 1, got {self}"
            )

    def check(self, statement: ProblemStatement) -> None:
        if self.surrogate == "design" and statement.features is None:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} with surrogate='design' compares designs, and the space of problem "
                f"{statement.name!r} does not show them as numbers. Use a Latent whose decoder makes arrays, give the "
                "space a property features, or take surrogate='latent'"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        if needs_initial_design(
            history, initial_design_size(domain.dim, request.budget, self.initial)
        ):
            pool = domain.sample(request.rng(), request.count + 32)
            return self._propose(
                DuplicateFilter(domain).select_new(pool, history.all_points, request.count),
                request.memo,
            )
        from bo_invert.models.threads import one_thread

        rng = request.rng()
        with one_thread():
            points, memo = self._sampled(statement, history, request, rng)
        return self._propose(points, memo)

    def _propose(self, points: Array, memo: JSON) -> Proposal:
        return Proposal(tuple(Query(point, origin=self.name) for point in points), memo)

    def _inputs(self, statement: ProblemStatement, request: Request) -> Callable[[Array], Array]:
        """What the process sees of points ``(n, d)``."""
        from bo_invert.models.design_features import principal_components

        domain = statement.domain
        if self.surrogate != "latent" and statement.features is not None:
            found = principal_components(
                statement.features, domain.sample(request.stream(0), _DRAWS), self.components
            )
            if found is not None:
                return found
        return lambda points: to_unit(domain, points)

    def _sampled(
        self,
        statement: ProblemStatement,
        history: History,
        request: Request,
        rng: np.random.Generator,
    ) -> tuple[Array, JSON]:
        import torch

        from bo_invert.models.acquisition.feasibility import fit_feasibility
        from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
        from bo_invert.models.acquisition.probability_of_improvement import (
            log_probability_of_improvement,
        )
        from bo_invert.models.data_subset import select_subset
        from bo_invert.models.fitted_model import fit_model

        domain, memo = statement.domain, request.memo or {}
        inputs = self._inputs(statement, request)
        told, lost = (
            np.nan_to_num(inputs(points), nan=0.5)
            for points in (history.points, history.failed_points)
        )
        some = select_subset(told, history.order)
        learned = fit_model(
            statement, history, told, memo.get("outputs"), subset=some, noisy=self.noisy
        )
        answered, labels = fit_feasibility(told, lost, history.order, memo.get("labels"))
        wish = plausibility_penalty(domain)

        def permitted(score: Score, points: Array) -> Array:
            """A score of points, and whether they should be asked for; -inf where no design is seen."""
            seen = inputs(points)
            sound = np.asarray(np.isfinite(seen).all(axis=1))
            with torch.no_grad():
                x = torch.as_tensor(np.where(sound[:, None], seen, 0.5))
                values = score(x) if answered is None else score(x) + answered(x)
                values = (
                    values
                    if wish is None
                    else values + wish(torch.as_tensor(to_unit(domain, points)))
                )
            return np.where(sound, values.numpy(), -np.inf)

        nothing = np.empty((0, told.shape[1]))
        probability = log_probability_of_improvement(
            learned.surrogate,
            learned.outputs,
            learned.acquisition_data(nothing),
            seed=draw_seed(rng),
        )

        def doubted(x: Tensor) -> Tensor:
            return torch.logaddexp(probability(x), torch.full_like(x[:, 0], math.log(_DOUBT)))

        ends = self._walked(
            domain, history, lambda points: permitted(doubted, points), request.count, rng
        )
        apart = DuplicateFilter(domain) if self.noisy else duplicate_filter(statement, history)
        if domain.continuous and not self.noisy:
            apart = replace(apart, min_distance=max(apart.min_distance, _SAME))
        picked = np.empty((0, domain.dim))
        for pool in np.split(ends, request.count):
            pending = np.nan_to_num(
                inputs(np.concatenate([history.pending_points, picked])), nan=0.5
            )
            gain = learned.log_expected_improvement(pending, seed=draw_seed(rng))
            order = np.argsort(-permitted(gain, pool), kind="stable")
            candidates = np.concatenate([pool[order], domain.sample(rng, 256)])
            taken = np.concatenate([history.all_points, picked])
            picked = np.concatenate([picked, apart.select_new(candidates, taken, 1)])
        return picked, {"outputs": learned.surrogate.memo, "labels": labels}

    def _walked(
        self,
        domain: Domain,
        history: History,
        log_probability: Callable[[Array], Array],
        count: int,
        rng: np.random.Generator,
    ) -> Array:
        """Samples of the prior times the probability, as points; ``walkers`` for each of so many queries."""
        from bo_invert.models.optim.pcn_sampler import sample_pcn

        normal = _Normal(domain)

        def log_likelihood(z: Array) -> Array:
            values: Array = log_probability(normal.points(z)) + normal.log_ratio(z)
            return values

        best = normal.whitened(history.points[history.order[:16]])
        looks = np.concatenate([normal.draws(rng, _LOOKS), best])
        start = looks[_drawn(log_probability(normal.points(looks)), self.walkers * count, rng)]
        return normal.points(sample_pcn(log_likelihood, start, rng, steps=self.steps))


def _drawn(logs: Array, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers ``(count,)`` of rows drawn in proportion to the exponentials of logs ``(n,)``."""
    top = logs.max()
    shares = np.exp(logs - top) if np.isfinite(top) else np.ones(len(logs))
    return rng.choice(len(logs), size=count, p=shares / shares.sum()).astype(np.intp)


@dataclass(frozen=True)
class _Normal:
    """A domain's prior seen from N(0, I), which the walks keep."""

    domain: Domain

    def points(self, z: Array) -> Array:
        if self.domain.latent:
            return z
        from scipy.special import ndtr

        return self.domain.project(ndtr(z))

    def whitened(self, points: Array) -> Array:
        if self.domain.latent:
            return points
        from scipy.special import ndtri

        z: Array = ndtri(np.clip(points, 1e-6, 1.0 - 1e-6))
        return z

    def draws(self, rng: np.random.Generator, n: int) -> Array:
        if self.domain.latent:
            return self.domain.sample(rng, n)
        return rng.standard_normal((n, self.domain.dim))

    def log_ratio(self, z: Array) -> Array:
        """Log density of the prior over that of N(0, I), up to a constant, shape ``(n,)``."""
        if not self.domain.latent:
            return np.zeros(len(z))
        squares = (z**2).sum(axis=1)
        reference = self.domain.reference
        ratio = np.zeros(len(z)) if reference is None else reference.log_density(z) + 0.5 * squares
        return np.where(squares <= self.domain.radius**2 * (1.0 + 1e-9), ratio, -np.inf)
