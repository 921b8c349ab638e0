"""Bayesian optimization in a surrogate latent space: what lies between a few good draws of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError, UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain, Float, box_domain
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed
from bo_invert.types import Array, Query, State, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from bo_invert.models.acquisition.expected_improvement import Score


@dataclass(frozen=True)
class O3(Strategy):
    """Surrogate latent space (Willis et al. 2025, arXiv 2509.23800): low-dimensional, whatever the generator's latent.

    First the reference measure is drawn from. The K best points told become the *seeds*, and from then on only their
    mixtures ``sum_k w_k z_k`` with ``w >= 0`` and ``|w| = 1`` are searched: independent draws of N(0, I) mix to draws
    of N(0, I), so mixtures look to the generator like what it was taught. Once as many mixtures have been told as there
    were draws, the best points known become the new seeds.

    The Gaussian process sees the weights, and its log expected improvement is searched over a cube that maps to evenly
    distributed weights. The paper breaks a stick in K - 1 places instead and models its coordinates: there one
    seed alone is a whole face of the cube, to be learned again and again.

    The first draws may be the user's own data, and so may seeds. It takes any objective and constraints that ``gp``
    takes, and needs no encoder. Where the best point is no mixture of the seeds, it cannot be found.

    Args:
        seeds: K, at least 2; default: ``d + 1``, at most 8.
        draws: told before the first mixture, at least ``seeds``; default: half of the budget, 50 without one.
        renew: mixtures told before better seeds are taken; default: as many as ``draws``; 0 for never.
        noisy: the oracle answers differently to the same point.
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
                f"strategy 'o3': seeds must be at least 2 and draws at least as many as seeds, got {self}"
            )
        if self.renew is not None and self.renew < 0:
            raise InvalidInputError(f"strategy 'o3': renew must be at least 0, got {self.renew}")

    def check(self, statement: ProblemStatement) -> None:
        if not statement.domain.latent:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} mixes draws of a generator's latent, and problem {statement.name!r} is a box "
                "of parameters. Use a Latent space, or take 'gp' or 'turbo', which work in boxes"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        drawn = [trial for trial in history.trials if "w" not in trial.query.meta]
        enough = self._enough(domain, request.budget)
        told = sum(trial.state is State.COMPLETED for trial in drawn)
        coming = sum(trial.state.open for trial in drawn)
        seeds = self._seeds(history)
        if seeds is None:
            if told + coming < enough or told < min(enough, self._many(domain)):
                points = domain.sample(request.rng(), request.count)
                return Proposal(
                    tuple(Query(point, origin=self.name) for point in points), request.memo
                )
            seeds = _best(history.ranking, self._many(domain))
        elif self._worn(history, seeds, enough):
            seeds = _best(history.ranking, self._many(domain))
        from bo_invert.models.threads import one_thread

        rng = request.rng()
        with one_thread():
            return self._mixed(statement, history, seeds, request, rng)

    def _many(self, domain: Domain) -> int:
        return self.seeds or min(domain.dim + 1, 8)

    def _enough(self, domain: Domain, budget: int | None) -> int:
        if self.draws is not None:
            return self.draws
        return max(self._many(domain), 50 if budget is None else budget // 2)

    def _seeds(self, history: History) -> list[Trial] | None:
        """The seeds in use: the log says it itself, in the latest mixture."""
        for trial in reversed(history.trials):
            numbers = trial.query.meta.get("seeds")
            if trial.origin == self.name and numbers is not None:
                by_number = {known.number: known for known in history.trials}
                return [by_number[number] for number in numbers]
        return None

    def _worn(self, history: History, seeds: list[Trial], enough: int) -> bool:
        """Whether these seeds have been mixed for long enough."""
        renew = enough if self.renew is None else self.renew
        numbers = [trial.number for trial in seeds]
        asked = [trial for trial in history.trials if trial.query.meta.get("seeds") == numbers]
        return renew > 0 and sum(trial.state is State.COMPLETED for trial in asked) >= renew

    def _mixed(
        self,
        statement: ProblemStatement,
        history: History,
        seeds: list[Trial],
        request: Request,
        rng: np.random.Generator,
    ) -> Proposal:
        from bo_invert.models.acquisition.feasibility import fit_feasibility
        from bo_invert.models.data_subset import select_subset
        from bo_invert.models.fitted_model import fit_model
        from bo_invert.models.optim.duplicates import DuplicateFilter, plateau_width
        from bo_invert.models.optim.optimize_acquisition import optimize_acquisition

        domain = statement.domain
        corners = np.array([trial.point for trial in seeds])
        numbers = [trial.number for trial in seeds]
        where = dict(zip(numbers, np.eye(len(seeds)), strict=True))
        where |= {
            trial.number: np.array(trial.query.meta["w"])
            for trial in history.trials
            if trial.query.meta.get("seeds") == numbers
        }
        inside = History([trial for trial in history.trials if trial.number in where])
        told, lost, pending = (
            np.array([where[trial.number] for trial in group]).reshape(-1, len(seeds))
            for group in (inside.completed, inside.failed, inside.pending)
        )
        memo = (request.memo or {}) if (request.memo or {}).get("seeds") == numbers else {}
        some = select_subset(told, inside.order)
        learned = fit_model(
            statement, inside, told, memo.get("outputs"), subset=some, noisy=self.noisy
        )
        answered, labels = fit_feasibility(told, lost, inside.order, memo.get("labels"))
        cube = box_domain({f"u{k}": Float(0.0, 1.0) for k in range(len(seeds))})
        incumbents = coordinates(told[inside.order[:5]])
        apart = DuplicateFilter(
            cube, 0.0 if self.noisy else plateau_width(coordinates(told[some]), inside.y[some])
        )
        queries: list[Query] = []
        while len(queries) < request.count:
            gain = learned.log_expected_improvement(pending, seed=draw_seed(rng))
            score = _of_coordinates(gain, answered, _wish(domain, corners))
            taken = coordinates(np.concatenate([told, lost, pending]))
            w = weights(
                optimize_acquisition(score, cube, incumbents, taken, rng, duplicates=apart)[0]
            )
            point = domain.project(mixtures(w[None], corners))[0]
            queries.append(Query(point, origin=self.name, meta={"w": w.tolist(), "seeds": numbers}))
            pending = np.concatenate([pending, w[None]])
        return Proposal(
            tuple(queries), {"seeds": numbers, "outputs": learned.surrogate.memo, "labels": labels}
        )


def _best(ranking: Sequence[Trial], many: int) -> list[Trial]:
    """The best trials at different points."""
    _, first = np.unique(np.array([trial.point for trial in ranking]), axis=0, return_index=True)
    return [ranking[i] for i in np.sort(first)[:many]]


def weights(u: Array) -> Array:
    """Weights ``(..., K)``, not negative and of norm 1, of coordinates ``(..., K)`` in the unit cube.

    Coordinates become absolute values of normal numbers, and these are divided by their norm. Uniform coordinates
    therefore give weights that are uniform on the positive part of the sphere.
    """
    import torch

    w: Array = _weights(torch.as_tensor(u)).numpy()
    return w


def coordinates(w: Array) -> Array:
    """Coordinates ``(..., K)`` in the unit cube that ``weights`` maps to ``w``: of many, those of usual length."""
    from scipy.special import ndtr

    u: Array = 2.0 * ndtr(w * np.sqrt(w.shape[-1])) - 1.0
    return u


def mixtures(w: Array, seeds: Array) -> Array:
    """Points ``(n, d)`` of weights ``(n, K)`` of seeds ``(K, d)``.

    Seeds that point the same way add up to a point beyond all of them, which few dimensions make likely; it is
    pulled back to the norm that orthogonal seeds would have given.
    """
    import torch

    points: Array = _mixtures(torch.as_tensor(w), torch.as_tensor(seeds)).numpy()
    return points


def _weights(u: Tensor) -> Tensor:
    import torch

    normal: Tensor = torch.special.ndtri(0.5 + 0.5 * u.clamp(1e-6, 1.0 - 1e-6))
    w: Tensor = normal / normal.norm(dim=-1, keepdim=True)
    return w


def _mixtures(w: Tensor, seeds: Tensor) -> Tensor:
    mixed = w @ seeds
    shell = (w.square() @ seeds.square().sum(-1)).sqrt()
    points: Tensor = mixed * (shell / mixed.norm(dim=-1).clamp(min=1e-12)).clamp(max=1.0).unsqueeze(
        -1
    )
    return points


def _wish(domain: Domain, corners: Array) -> Score | None:
    """The wish for plausible points as a score of weights."""
    import torch

    from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty

    wish = plausibility_penalty(domain)
    if wish is None:
        return None
    seeds, (lower, upper) = torch.as_tensor(corners), torch.as_tensor(domain.bounds)
    return lambda w: wish((_mixtures(w, seeds) - lower) / (upper - lower))


def _of_coordinates(*scores: Score | None) -> Score:
    """The sum of scores of weights, as a score of coordinates."""

    def total(u: Tensor) -> Tensor:
        w = _weights(u)
        return reduce(add, (score(w) for score in scores if score is not None))

    return total
