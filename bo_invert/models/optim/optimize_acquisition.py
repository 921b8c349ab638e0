"""Where a score is highest: many cheap looks, wide and near the incumbents, then gradients from the best of them.

The near looks matter most in many dimensions (Papenmeier et al. 2025) and near a target, where what is left to gain
lies within a thousandth of the best point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.optim.batched_lbfgs import minimise_batched
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.parameters import Float
from bo_invert.search_domain import Domain
from bo_invert.types import Array

Score = Callable[[Tensor], Tensor]
_SIGMAS = (1e-3, 1e-2, 1e-1)


def optimize_acquisition(
    score: Score,
    domain: Domain,
    incumbents: Array,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
    *,
    duplicates: DuplicateFilter | None = None,
    n_global: int = 256,
    n_local: int = 192,
    starts: int = 6,
    steps: int = 50,
    warm_starts: Array | None = None,
) -> tuple[Array, Array]:
    """The point of the domain with the highest score that is not known yet, shape ``(d,)``.

    Args:
        score: of unit inputs ``(b, d)``, shape ``(b,)``.
        domain: where to search; the score is always taken at points that can be evaluated.
        incumbents: good points, best first, shape ``(k, d)``; may be empty.
        known: points ``(d,)`` not to be proposed again, if that can be avoided.
        rng: of the looks.
        spacing: what counts as known besides; default: nothing.
        wide: looks all over the domain.
        near: looks near the incumbents.
        starts: how many looks are followed by gradients.
        steps: of gradients, at most.
        before: where gradients led for a score much like this one, shape ``(b, d)``.

    Returns:
        The point, and where gradients led, shape ``(starts, d)``.
    """
    score = _at_evaluable(score, domain)
    pools = _pools(domain, incumbents, rng, n_global, n_local)
    if warm_starts is not None:
        pools.append(warm_starts)
    seen = [_scores(score, domain, pool) for pool in pools]
    best = [np.argsort(-values, kind="stable")[: starts // len(pools)] for values in seen]
    candidates = np.concatenate([pool[rows] for pool, rows in zip(pools, best, strict=True)])
    if not domain.continuous:
        candidates = _discrete_local_search(score, domain, candidates, rng)
    ends = candidates
    if domain.has_real:
        ends = _gradient_ascent(score, domain, candidates, steps)
    found = np.concatenate([ends, candidates])
    values = np.concatenate([_scores(score, domain, found), *seen])
    return _best_new(domain, np.concatenate([found, *pools]), values, known, rng, duplicates), ends


def raw_candidates(
    domain: Domain,
    incumbents: Array,
    rng: np.random.Generator,
    n_global: int = 256,
    n_local: int = 768,
) -> Array:
    """Points ``(wide + near, d)`` all over the domain and near the incumbents ``(k, d)``."""
    return np.concatenate(_pools(domain, incumbents, rng, n_global, n_local))


def optimize_in_box(
    score: Score,
    domain: Domain,
    centre: Array,
    reach: float,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
) -> Array:
    """The unknown point with the highest score in a trust region, shape ``(d,)``.

    Args:
        score: of unit inputs ``(b, d)``, shape ``(b,)``.
        domain: where to search.
        centre: of the region, shape ``(d,)``.
        reach: half its width, in units of the domain's.
        known: points not to be proposed again, if that can be avoided.
        rng: of the looks.
    """
    score = _at_evaluable(score, domain)
    lower, upper = domain.bounds
    spread = reach * (upper - lower)
    looks = np.concatenate(
        [centre[None], centre + spread * rng.uniform(-1.0, 1.0, (128, domain.dim))]
    )
    looks = domain.project(
        looks if domain.continuous else _resample_one_parameter(domain, looks, rng)
    )
    starts = looks[np.argsort(-_scores(score, domain, looks), kind="stable")[:4]]
    low, high = (to_unit(domain, bound[None])[0] for bound in (centre - spread, centre + spread))
    candidates = np.concatenate([_gradient_ascent(score, domain, starts, 60, low, high), looks])
    return _best_new(domain, candidates, _scores(score, domain, candidates), known, rng)


def _pools(
    domain: Domain, incumbents: Array, rng: np.random.Generator, n_global: int, n_local: int
) -> list[Array]:
    pools = [domain.space_filling(rng, rng, n_global)]
    if len(incumbents):
        pools.append(domain.project(_perturbed(domain, incumbents, n_local, rng)))
    return pools


def _best_new(
    domain: Domain,
    candidates: Array,
    values: Array,
    known: Sequence[Array] | Array,
    rng: np.random.Generator,
    duplicates: DuplicateFilter | None = None,
) -> Array:
    order = np.argsort(-values, kind="stable")
    candidates = np.concatenate([candidates[order], domain.uniform(rng, 1024)])
    point: Array = (duplicates or DuplicateFilter(domain)).select_new(candidates, known, 1)[0]
    return point


def _scores(score: Score, domain: Domain, points: Array) -> Array:
    with torch.no_grad():
        inputs = torch.tensor(to_unit(domain, points))
        values = torch.cat([score(chunk) for chunk in torch.split(inputs, 256)])
    return np.asarray(np.nan_to_num(values.numpy(), nan=-1e300, posinf=1e300, neginf=-1e300))


def to_evaluable(domain: Domain) -> Callable[[Tensor], Tensor]:
    """From unit inputs ``(b, d)`` to the nearest that can be evaluated; gradients flow through real coordinates."""
    if not domain.latent and domain.continuous:
        return lambda inputs: inputs
    lower, upper = (torch.tensor(bound) for bound in domain.bounds)
    if domain.latent:

        def pulled(inputs: Tensor) -> Tensor:
            points = lower + inputs * (upper - lower)
            norm = points.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            inside: Tensor = (points * (domain.radius / norm).clamp(max=1.0) - lower) / (
                upper - lower
            )
            return inside

        return pulled
    real = torch.tensor(_continuous_mask(domain))

    def rounded(inputs: Tensor) -> Tensor:
        levels = torch.tensor(domain.project(inputs.detach().numpy()))
        return torch.where(real, inputs, levels)

    return rounded


def _at_evaluable(score: Score, domain: Domain) -> Score:
    at = to_evaluable(domain)
    return lambda inputs: score(at(inputs))


def _continuous_mask(domain: Domain) -> Array:
    """Which coordinates are real numbers, shape ``(d,)``."""
    if not domain.parameters:
        return np.ones(domain.dim, dtype=bool)
    return np.concatenate([[isinstance(p, Float)] * p.width for p in domain.parameters.values()])


def _perturbed(domain: Domain, incumbents: Array, count: int, rng: np.random.Generator) -> Array:
    """Points near incumbents: normal steps of three sizes, in about 20 coordinates at most."""
    lower, upper = domain.bounds
    centres = incumbents[np.arange(count) % len(incumbents)]
    sigmas = np.array(_SIGMAS)[(np.arange(count) // len(incumbents)) % len(_SIGMAS), None] * (
        upper - lower
    )
    mask = rng.random((count, domain.dim)) < min(1.0, 20.0 / domain.dim)
    points = centres + mask * sigmas * rng.standard_normal((count, domain.dim))
    return points if domain.continuous else _resample_one_parameter(domain, points, rng)


def _resample_one_parameter(domain: Domain, points: Array, rng: np.random.Generator) -> Array:
    """The same points with one parameter that is no real number drawn anew."""
    points = points.copy()
    discrete = [
        columns
        for name, columns in domain.columns.items()
        if not isinstance(domain.parameters[name], Float)
    ]
    choice = rng.integers(len(discrete), size=len(points))
    fresh = domain.uniform(rng, len(points))
    for row, which in enumerate(choice):
        points[row, discrete[which]] = fresh[row, discrete[which]]
    return points


def _discrete_local_search(
    score: Score, domain: Domain, points: Array, rng: np.random.Generator, rounds: int = 4
) -> Array:
    """Points improved by trying other values of one discrete parameter at a time."""
    count = len(points)
    for _ in range(rounds):
        pool = np.concatenate(
            [
                points,
                domain.project(_resample_one_parameter(domain, np.repeat(points, 8, axis=0), rng)),
            ]
        )
        _, first = np.unique(pool, axis=0, return_index=True)
        pool = pool[np.sort(first)]
        points = pool[np.argsort(-_scores(score, domain, pool), kind="stable")[:count]]
    return points


def _gradient_ascent(
    score: Score,
    domain: Domain,
    points: Array,
    steps: int,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> Array:
    """Where gradients lead from points ``(k, d)``, shape ``(k, d)``; the points themselves where they lead nowhere."""
    lower, upper = (
        torch.tensor(np.broadcast_to(np.clip(bound, 0.0, 1.0), domain.dim)) for bound in (low, high)
    )

    def function(inputs: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_()
            value = -score(inputs)
            (gradient,) = torch.autograd.grad(value.sum(), inputs)
        return value.detach(), gradient

    found, _ = minimise_batched(
        function, torch.tensor(to_unit(domain, points)), lower, upper, steps=steps, tolerance=1e-6
    )
    arrived = from_unit(domain, found.numpy())
    return np.where(np.isfinite(arrived).all(1, keepdims=True), arrived, points)
