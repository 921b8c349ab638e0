"""What kind of model suits the data: kernel, belief about noise, warp, and whether the coordinates differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from bo_invert.models.base import KERNELS, MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.gp.hyperparameters import EXACT, MEASURED, NOISY, NoisePrior
from bo_invert.models.gp.hyperparameters import fit_hyperparameters as fit_hyperparameters
from bo_invert.models.gp.kernels import get_kernel
from bo_invert.models.gp.output_warp import Warp, threshold_candidates
from bo_invert.models.gp.posterior import condition
from bo_invert.types import JSON

_MAX_POINTS = 100
"""So many points tell which kind of model suits."""
_FOLDS = 4
_MAX_COLUMNS = 3
"""So many of the modelled numbers tell whether coordinates differ."""
_MARGIN = 2.0
"""A rival must explain the data better by so many nats before the model changes."""


@dataclass(frozen=True)
class ModelSearchSpace:
    """Which models may be fitted; more than one, and the data choose. The first of each is the usual one.

    Args:
        kernels: names.
        beliefs: about the noise.
        ties: whether all coordinates share one lengthscale.
        tails: for each number 1 where high values are bad, -1 where low ones are and 0 where nobody knows; numbers
            with a sign may be warped. None to warp nothing.
    """

    kernels: tuple[str, ...] = ("rbf",)
    noise_priors: tuple[NoisePrior, ...] = (EXACT,)
    warp_directions: tuple[int, ...] | None = None
    shared_lengthscales: tuple[bool, ...] = (False,)

    @classmethod
    def of(
        cls, kernel: str, noisy: bool, warp_directions: tuple[int, ...] | None
    ) -> ModelSearchSpace:
        """The choice behind a strategy's options: a key of ``base.KERNELS``, and whether the oracle is noisy."""
        return cls(
            KERNELS[kernel],
            (NOISY, MEASURED) if noisy else (NOISY, EXACT),
            warp_directions,
            (True, False),
        )


DEFAULT_SEARCH_SPACE = ModelSearchSpace()
"""The squared exponential, hardly any noise, nothing warped, a lengthscale for each coordinate."""


@dataclass(frozen=True)
class ModelSpec:
    """A kernel, a belief, a knee for each number (0 for none), and whether there is one lengthscale for all."""

    kernel: str
    noise_prior: NoisePrior
    warp_thresholds: tuple[float, ...]
    shared_lengthscale: bool

    def warp(self, values: Tensor, tails: tuple[int, ...] | None) -> Warp | None:
        if tails is None or not any(self.warp_thresholds):
            return None
        sign = values.new_tensor([float(t or 1) for t in tails])
        knee = values.new_tensor([k or float("inf") for k in self.warp_thresholds])
        return Warp(sign, (sign * values).amin(0), knee)

    def same_family(self, other: ModelSpec | None) -> bool:
        """Whether the kinds of model are the same; knees move with the data."""
        return other is not None and (self.kernel, self.noise_prior, any(self.warp_thresholds)) == (
            other.kernel,
            other.noise_prior,
            any(other.warp_thresholds),
        )


def is_compatible(memo: JSON, d: int, search_space: ModelSearchSpace) -> bool:
    """Whether a memo is of about the same model: an option or the problem may have changed since."""
    logs = (memo or {}).get("logs", [])
    return bool(
        logs
        and all(len(row) == d + 1 for row in logs)
        and memo["kernel"] in search_space.kernels
        and memo["belief"] in {belief.name for belief in search_space.noise_priors}
        and memo.get("tied")
        in search_space.shared_lengthscales  # logs of earlier versions do not say
    )


def spec_from_memo(note: JSON, search_space: ModelSearchSpace) -> ModelSpec:
    """The plan in a memo that serves."""
    belief = next(belief for belief in search_space.noise_priors if belief.name == note["belief"])
    return ModelSpec(note["kernel"], belief, tuple(note["knees"]), note["tied"])


def select_model(
    x: Tensor, raw: Tensor, search_space: ModelSearchSpace, note: JSON, size: int
) -> tuple[ModelSpec, JSON]:
    """The plan under which left-out values are most probable, and a memo of its fit.

    First the warp is chosen, then kernel and belief, then whether the coordinates differ. Of many points, some are
    looked at.
    """
    usual = ModelSpec(
        search_space.kernels[0],
        search_space.noise_priors[0],
        (0.0,) * raw.shape[1],
        search_space.shared_lengthscales[0],
    )
    current = usual if note is None else spec_from_memo(note, search_space)
    n = len(x)
    if n > _MAX_POINTS:
        some = (
            torch.linspace(0, n - 1, _MAX_POINTS, dtype=torch.float64).round().long().to(x.device)
        )
        x, raw = x[some], raw[some]
    first = (search_space.kernels[0], search_space.noise_priors[0])
    tied = current.shared_lengthscale
    plans = [
        ModelSpec(*first, shape, tied)
        for shape in _candidate_thresholds(raw, search_space.warp_directions)
    ]
    best, highest, answer = _best_by_leave_one_out(x, raw, search_space, plans, current)
    for pair in product(search_space.kernels, search_space.noise_priors):
        if pair != first:
            found = _best_by_leave_one_out(
                x, raw, search_space, [ModelSpec(*pair, best.warp_thresholds, tied)], current
            )
            if found[1] > highest:
                best, highest, answer = found
    if len(search_space.shared_lengthscales) > 1 and len(x) >= 2 * _FOLDS:
        warp = best.warp(raw, search_space.warp_directions)
        scores = output_basis(raw if warp is None else warp(raw))[0]
        densities = {
            t: _cross_validated_log_density(x, scores, replace(best, shared_lengthscale=t))
            + _MARGIN * (t == tied)
            for t in search_space.shared_lengthscales
        }
        best = replace(
            best,
            shared_lengthscale=max(search_space.shared_lengthscales, key=densities.__getitem__),
        )
    memo = {
        "n": 0,  # rough fits only start the one that counts
        "logs": answer.tolist(), "kernel": best.kernel, "belief": best.noise_prior.name, "knees": list(best.warp_thresholds),
        "tied": best.shared_lengthscale, "chosen": size,
    }  # fmt: skip
    return best, memo


def _best_by_leave_one_out(
    x: Tensor,
    raw: Tensor,
    search_space: ModelSearchSpace,
    plans: Sequence[ModelSpec],
    current: ModelSpec | None,
) -> tuple[ModelSpec, float, Tensor]:
    """The best of plans with one kernel and one belief, the log density of left-out values under it, and its fit."""
    warps = [plan.warp(raw, search_space.warp_directions) for plan in plans]
    bases = [output_basis(raw if warp is None else warp(raw)) for warp in warps]
    k = bases[0][0].shape[1]
    name = plans[0].kernel
    found, _ = fit_hyperparameters(
        x, torch.cat([base[0] for base in bases], 1), plans[0].noise_prior, get_kernel(name), coarse=True,
        shared_lengthscale=plans[0].shared_lengthscale,
    )  # fmt: skip
    densities = []
    for i, (plan, warp, (scores, weights, _)) in enumerate(zip(plans, warps, bases, strict=True)):
        density = _leave_one_out_log_density(x, scores, found[i * k : (i + 1) * k], name)
        if warp is not None:
            density += float(warp.log_slope(raw).sum())
        if raw.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
            density -= float(weights.diagonal().log().sum()) * len(x)
        densities.append(density + _MARGIN * plan.same_family(current))
    at = max(range(len(plans)), key=densities.__getitem__)
    return plans[at], densities[at], found[at * k : (at + 1) * k]


def _candidate_thresholds(raw: Tensor, tails: tuple[int, ...] | None) -> list[tuple[float, ...]]:
    """Knees worth trying: none, or one for each number whose bad side is known."""
    c = raw.shape[1]
    plain = (0.0,) * c
    if tails is None or not any(tails) or len(raw) < 8 or c > MAX_INDEPENDENT_OUTPUTS:
        return [plain]
    columns = [
        threshold_candidates(raw[:, j], float(tail)) if tail else [] for j, tail in enumerate(tails)
    ]
    many = max(len(column) for column in columns)
    return [
        plain,
        *(tuple(col[i] if i < len(col) else 0.0 for col in columns) for i in range(many)),
    ]


def _cross_validated_log_density(x: Tensor, scores: Tensor, plan: ModelSpec) -> float:
    """Log density of scores predicted by fits without them.

    Left-out values would not do here: many lengthscales can be fitted so that the values they were fitted to predict
    each other.
    """
    scores = scores[:, :_MAX_COLUMNS]
    k = scores.shape[1]
    folds = [torch.arange(len(x), device=x.device) % _FOLDS == fold for fold in range(_FOLDS)]
    least = min(int((~out).sum()) for out in folds)
    kept = [torch.nonzero(~out)[:least, 0] for out in folds]
    inputs = torch.stack([x[some] for some in kept]).repeat_interleave(k, 0)
    values = torch.cat([scores[some] for some in kept], 1)
    logs, _ = fit_hyperparameters(
        inputs,
        values,
        plan.noise_prior,
        get_kernel(plan.kernel),
        coarse=True,
        shared_lengthscale=plan.shared_lengthscale,
    )
    total = 0.0
    for fold, (out, some) in enumerate(zip(folds, kept, strict=True)):
        own = logs[fold * k : (fold + 1) * k]
        process = condition(
            get_kernel(plan.kernel), own[:, :-1], own[:, -1].exp(), x[some], scores[some]
        )
        mean, variance = process(x[out])
        variance = variance + own[:, -1].exp()
        total += float(
            (
                -0.5 * (scores[out] - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()
            ).sum()
        )
    return total


def _leave_one_out_log_density(x: Tensor, scores: Tensor, logs: Tensor, name: str) -> float:
    """Log density of the scores, each predicted from all others."""
    mean, variance = condition(
        get_kernel(name), logs[:, :-1], logs[:, -1].exp(), x, scores
    ).leave_one_out()
    return float(
        (-0.5 * (scores - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()).sum()
    )


def output_basis(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores ``(n, k)`` of mean 0 and variance 1, weights ``(k, c)`` and offset ``(c,)``.

    Values are scores times weights plus offset. Up to ``MANY`` numbers are taken one by one; more are replaced by
    their leading principal components, as many as explain all but a millionth of the variance, at most ``MANY``.
    """
    offset = values.mean(0)
    spread = values.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * offset.abs(), spread, 1.0)
    standard = (values - offset) / spread
    if values.shape[1] <= MAX_INDEPENDENT_OUTPUTS:
        return standard, spread.diag(), offset
    left, sizes, right = torch.linalg.svd(standard, full_matrices=False)
    missing = 1.0 - (sizes**2).cumsum(0) / (sizes**2).sum().clamp(min=1e-300)
    k = min(MAX_INDEPENDENT_OUTPUTS, 1 + int((missing > 1e-6).sum()), len(sizes))
    root = len(values) ** 0.5
    scale = (sizes[:k] / root).clamp(min=1e-12)
    return left[:, :k] * root, scale[:, None] * right[:k] * spread, offset
