"""Bayesian optimization in a surrogate latent space spanned by a few good draws (O3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.acquisition.expected_improvement import Score
from bo_invert.models.acquisition.feasibility import fit_feasibility
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.optim.duplicates import DuplicateFilter, plateau_width
from bo_invert.models.optim.optimize_acquisition import optimize_acquisition
from bo_invert.objectives import ProblemStatement
from bo_invert.parameters import Float
from bo_invert.search_domain import Domain, box_domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import Array, Query, State, Trial


@dataclass(frozen=True)
class O3(Strategy):
    """Bayesian optimization in a surrogate latent space (Willis et al. 2025, arXiv 2509.23800).

    The strategy draws from the latent prior first. The K best points become the *seeds* z_k.
    Then it searches mixtures of seeds only:

        ``z = sum_k w_k z_k`` with ``w_k >= 0`` and ``|w|_2 = 1``.

    Such a mixture of independent draws from N(0, I) is distributed as N(0, I), so mixtures are
    plausible inputs of the generator. Once there are as many completed mixtures as draws, the
    best observed points become the new seeds.

    The GP is fitted to the weights. The log expected improvement is maximised over a cube that
    maps to uniformly distributed weights. The paper uses a stick-breaking map with K - 1
    coordinates instead, in which a whole face of the cube stands for one seed.

    Observations of the user count as draws and may become seeds. Objectives and constraints are
    those of ``gp``; no encoder is needed. Use it for small budgets in latents of hundreds of
    coordinates. It cannot find a point outside the span of the seeds.

    Args:
        seeds: K, at least 2; default: ``d + 1``, at most 8.
        draws: observations before the first mixture, at least ``seeds``; default: half of the
            budget, 50 without one.
        renew: completed mixtures before new seeds; default: as many as ``draws``; 0 for never.
        noisy: the oracle is noisy.
    """

    name = "o3"
    seeds: int | None = None
    draws: int | None = None
    renew: int | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        if (self.seeds is not None and self.seeds < 2) or (
            self.draws is not None and self.draws < (self.seeds or 2)
        ):
            raise InvalidInputError(
                "strategy 'o3': seeds must be at least 2 and draws at least as many as seeds, "
                f"got {self}"
            )
        if self.renew is not None and self.renew < 0:
            raise InvalidInputError(f"strategy 'o3': renew must be at least 0, got {self.renew}")

    def check(self, statement: ProblemStatement) -> None:
        if not statement.domain.latent:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} mixes draws of a latent prior, and problem "
                f"{statement.name!r} is a box of parameters. Use a Latent space, or 'gp' or 'turbo'"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        # Mixtures store their weights; all other trials count as draws.
        drawn = [trial for trial in history.trials if "w" not in trial.query.meta]
        size = self._design_size(domain, request.budget)
        completed = sum(trial.state is State.COMPLETED for trial in drawn)
        pending = sum(trial.state.open for trial in drawn)
        seeds = self._current_seeds(history)
        if seeds is None:
            if completed + pending < size or completed < min(size, self._seed_count(domain)):
                points = domain.sample(request.rng(), request.count)
                queries = tuple(Query(point, origin=self.name) for point in points)
                return Proposal(queries, request.memo)
            seeds = _best(history.ranking, self._seed_count(domain))
        elif self._exhausted(history, seeds, size):
            seeds = _best(history.ranking, self._seed_count(domain))
        with one_thread():
            return self._propose(statement, history, seeds, request)

    def _seed_count(self, domain: Domain) -> int:
        return self.seeds or min(domain.dim + 1, 8)

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        if self.draws is not None:
            return self.draws
        return max(self._seed_count(domain), 50 if budget is None else budget // 2)

    def _current_seeds(self, history: History) -> list[Trial] | None:
        """Return the seeds of the latest mixture in the log; None before the first."""
        for trial in reversed(history.trials):
            numbers = trial.query.meta.get("seeds")
            if trial.origin == self.name and numbers is not None:
                by_number = {known.number: known for known in history.trials}
                return [by_number[number] for number in numbers]
        return None

    def _exhausted(self, history: History, seeds: list[Trial], size: int) -> bool:
        """Return True if enough mixtures of these seeds are completed."""
        renew = size if self.renew is None else self.renew
        numbers = [trial.number for trial in seeds]
        asked = [trial for trial in history.trials if trial.query.meta.get("seeds") == numbers]
        return renew > 0 and sum(trial.state is State.COMPLETED for trial in asked) >= renew

    def _propose(
        self,
        statement: ProblemStatement,
        history: History,
        seeds: list[Trial],
        request: Request,
    ) -> Proposal:
        domain, rng = statement.domain, request.rng()
        corners = np.array([trial.point for trial in seeds])
        numbers = [trial.number for trial in seeds]
        # A seed is the mixture with one weight of 1.
        known = dict(zip(numbers, np.eye(len(seeds)), strict=True))
        known |= {
            trial.number: np.array(trial.query.meta["w"])
            for trial in history.trials
            if trial.query.meta.get("seeds") == numbers
        }
        inside = History([trial for trial in history.trials if trial.number in known])
        observed, failed, pending = (
            np.array([known[trial.number] for trial in group]).reshape(-1, len(seeds))
            for group in (inside.completed, inside.failed, inside.pending)
        )
        # Other seeds are another input space, in which former hyperparameters mean nothing.
        memo = (request.memo or {}) if (request.memo or {}).get("seeds") == numbers else {}
        subset = select_subset(observed, inside.order)
        model = fit_model(
            statement, inside, observed, memo.get("outputs"), subset=subset, noisy=self.noisy
        )
        feasibility, labels = fit_feasibility(observed, failed, inside.order, memo.get("labels"))
        cube = box_domain({f"u{k}": Float(0.0, 1.0) for k in range(len(seeds))})
        incumbents = coordinates(observed[inside.order[:5]])
        width = (
            0.0 if self.noisy else plateau_width(coordinates(observed[subset]), inside.y[subset])
        )
        duplicates = DuplicateFilter(cube, width)
        queries: list[Query] = []
        while len(queries) < request.count:
            improvement = model.log_expected_improvement(pending, seed=draw_seed(rng))
            score = _of_coordinates(improvement, feasibility, _penalty(domain, corners))
            taken = coordinates(np.concatenate([observed, failed, pending]))
            u, _ = optimize_acquisition(score, cube, incumbents, taken, rng, duplicates=duplicates)
            w = weights(u)
            point = domain.project(mixtures(w[None], corners))[0]
            queries.append(Query(point, origin=self.name, meta={"w": w.tolist(), "seeds": numbers}))
            pending = np.concatenate([pending, w[None]])
        note = {"seeds": numbers, "outputs": model.surrogate.memo, "labels": labels}
        return Proposal(tuple(queries), note)


def _best(ranking: Sequence[Trial], count: int) -> list[Trial]:
    """Return the best trials at different points."""
    _, first = np.unique(np.array([trial.point for trial in ranking]), axis=0, return_index=True)
    return [ranking[i] for i in np.sort(first)[:count]]


def weights(u: Array) -> Array:
    """Map coordinates ``(..., K)`` in the unit cube to weights ``w >= 0`` with ``|w| = 1``.

    ``n_k = Phi^-1((1 + u_k) / 2)`` is the absolute value of a normal number and ``w = n / |n|``.
    Uniform coordinates therefore yield weights uniform on the positive part of the sphere.
    """

    w: Array = _weights(torch.as_tensor(u)).numpy()
    return w


def coordinates(w: Array) -> Array:
    """Invert ``weights`` with ``|n| = sqrt(K)``, the typical norm of K normal numbers."""

    # ``weights`` divides by |n|, so any norm is an inverse; sqrt(K) avoids saturation of Phi.
    u: Array = 2.0 * ndtr(w * np.sqrt(w.shape[-1])) - 1.0
    return u


def mixtures(w: Array, seeds: Array) -> Array:
    """Mix seeds ``(K, d)`` with weights ``(n, K)`` to points ``(n, d)``.

    Orthogonal seeds yield the norm ``sqrt(sum_k w_k^2 |z_k|^2)``. Seeds of similar direction
    exceed it, which few coordinates make likely, and the mixture is scaled back to this norm.
    """

    points: Array = _mixtures(torch.as_tensor(w), torch.as_tensor(seeds)).numpy()
    return points


def _weights(u: Tensor) -> Tensor:

    # The clamp keeps n positive and finite, so that |n| > 0 and gradients exist.
    normal: Tensor = torch.special.ndtri(0.5 + 0.5 * u.clamp(1e-6, 1.0 - 1e-6))
    w: Tensor = normal / normal.norm(dim=-1, keepdim=True)
    return w


def _mixtures(w: Tensor, seeds: Tensor) -> Tensor:
    # For independent z_k ~ N(0, I), Cov[sum_k w_k z_k] = sum_k w_k^2 I = I.
    mixed = w @ seeds
    # |sum_k w_k z_k|^2 = sum_k w_k^2 |z_k|^2 for orthogonal seeds
    orthogonal = (w.square() @ seeds.square().sum(-1)).sqrt()
    scale = (orthogonal / mixed.norm(dim=-1).clamp(min=1e-12)).clamp(max=1.0)
    points: Tensor = mixed * scale.unsqueeze(-1)
    return points


def _penalty(domain: Domain, corners: Array) -> Score | None:
    """Return the plausibility penalty as a function of weights; None without a floor."""

    penalty = plausibility_penalty(domain)
    if penalty is None:
        return None
    # The penalty is a function of unit inputs, to which mixtures are converted.
    seeds, (lower, upper) = torch.as_tensor(corners), torch.as_tensor(domain.bounds)
    return lambda w: penalty((_mixtures(w, seeds) - lower) / (upper - lower))


def _of_coordinates(*scores: Score | None) -> Score:
    """Sum scores of weights, as a function of coordinates in the cube."""

    def total(u: Tensor) -> Tensor:
        w = _weights(u)
        return reduce(add, (score(w) for score in scores if score is not None))

    return total
