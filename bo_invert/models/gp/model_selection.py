"""What kind of model suits the data: kernel, belief about noise, warp, and whether the coordinates differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from bo_invert.models.base import KERNELS, MANY
from bo_invert.models.gp.hyperparameters import EXACT, MEASURED, NOISY, Belief
from bo_invert.models.gp.hyperparameters import fit as fit_hyperparameters
from bo_invert.models.gp.kernels import kernel
from bo_invert.models.gp.output_warp import Warp, knees
from bo_invert.models.gp.posterior import condition
from bo_invert.types import JSON

_GLANCE = 100
"""So many points tell which kind of model suits."""
_FOLDS = 4
_JUDGED = 3
"""So many of the modelled numbers tell whether coordinates differ."""
_MARGIN = 2.0
"""A rival must explain the data better by so many nats before the model changes."""


@dataclass(frozen=True)
class Choice:
    """Which models may be fitted; more than one, and the data choose. The first of each is the usual one.

    Args:
        kernels: names.
        beliefs: about the noise.
        ties: whether all coordinates share one lengthscale.
        tails: for each number 1 where high values are bad, -1 where low ones are and 0 where nobody knows; numbers
            with a sign may be warped. None to warp nothing.
    """

    kernels: tuple[str, ...] = ("rbf",)
    beliefs: tuple[Belief, ...] = (EXACT,)
    tails: tuple[int, ...] | None = None
    ties: tuple[bool, ...] = (False,)

    @classmethod
    def of(cls, kernel: str, noisy: bool, tails: tuple[int, ...] | None) -> Choice:
        """The choice behind a strategy's options: a key of ``base.KERNELS``, and whether the oracle is noisy."""
        return cls(
            KERNELS[kernel], (NOISY, MEASURED) if noisy else (NOISY, EXACT), tails, (True, False)
        )


USUAL = Choice()
"""The squared exponential, hardly any noise, nothing warped, a lengthscale for each coordinate."""


@dataclass(frozen=True)
class Plan:
    """A kernel, a belief, a knee for each number (0 for none), and whether there is one lengthscale for all."""

    kernel: str
    belief: Belief
    knees: tuple[float, ...]
    tied: bool

    def warp(self, values: Tensor, tails: tuple[int, ...] | None) -> Warp | None:
        if tails is None or not any(self.knees):
            return None
        sign = values.new_tensor([float(t or 1) for t in tails])
        knee = values.new_tensor([k or float("inf") for k in self.knees])
        return Warp(sign, (sign * values).amin(0), knee)

    def resembles(self, other: Plan | None) -> bool:
        """Whether the kinds of model are the same; knees move with the data."""
        return other is not None and (self.kernel, self.belief, any(self.knees)) == (
            other.kernel,
            other.belief,
            any(other.knees),
        )


def serves(memo: JSON, d: int, choice: Choice) -> bool:
    """Whether a memo is of about the same model: an option or the problem may have changed since."""
    logs = (memo or {}).get("logs", [])
    return bool(
        logs
        and all(len(row) == d + 1 for row in logs)
        and memo["kernel"] in choice.kernels
        and memo["belief"] in {belief.name for belief in choice.beliefs}
        and memo.get("tied") in choice.ties  # logs of earlier versions do not say
    )


def recalled(note: JSON, choice: Choice) -> Plan:
    """The plan in a memo that serves."""
    belief = next(belief for belief in choice.beliefs if belief.name == note["belief"])
    return Plan(note["kernel"], belief, tuple(note["knees"]), note["tied"])


def chosen_plan(x: Tensor, raw: Tensor, choice: Choice, note: JSON, size: int) -> tuple[Plan, JSON]:
    """The plan under which left-out values are most probable, and a memo of its fit.

    First the warp is chosen, then kernel and belief, then whether the coordinates differ. Of many points, some are
    looked at.
    """
    usual = Plan(choice.kernels[0], choice.beliefs[0], (0.0,) * raw.shape[1], choice.ties[0])
    current = usual if note is None else recalled(note, choice)
    n = len(x)
    if n > _GLANCE:
        some = torch.linspace(0, n - 1, _GLANCE, dtype=torch.float64).round().long().to(x.device)
        x, raw = x[some], raw[some]
    first = (choice.kernels[0], choice.beliefs[0])
    tied = current.tied
    plans = [Plan(*first, shape, tied) for shape in _shapes(raw, choice.tails)]
    best, highest, answer = _densest(x, raw, choice, plans, current)
    for pair in product(choice.kernels, choice.beliefs):
        if pair != first:
            found = _densest(x, raw, choice, [Plan(*pair, best.knees, tied)], current)
            if found[1] > highest:
                best, highest, answer = found
    if len(choice.ties) > 1 and len(x) >= 2 * _FOLDS:
        warp = best.warp(raw, choice.tails)
        scores = basis(raw if warp is None else warp(raw))[0]
        densities = {
            t: _held_out(x, scores, replace(best, tied=t)) + _MARGIN * (t == tied)
            for t in choice.ties
        }
        best = replace(best, tied=max(choice.ties, key=densities.__getitem__))
    memo = {
        "n": 0,  # rough fits only start the one that counts
        "logs": answer.tolist(), "kernel": best.kernel, "belief": best.belief.name, "knees": list(best.knees),
        "tied": best.tied, "chosen": size,
    }  # fmt: skip
    return best, memo


def _densest(
    x: Tensor, raw: Tensor, choice: Choice, plans: Sequence[Plan], current: Plan | None
) -> tuple[Plan, float, Tensor]:
    """The best of plans with one kernel and one belief, the log density of left-out values under it, and its fit."""
    warps = [plan.warp(raw, choice.tails) for plan in plans]
    bases = [basis(raw if warp is None else warp(raw)) for warp in warps]
    k = bases[0][0].shape[1]
    name = plans[0].kernel
    found, _ = fit_hyperparameters(
        x, torch.cat([base[0] for base in bases], 1), plans[0].belief, kernel(name), rough=True,
        tied=plans[0].tied,
    )  # fmt: skip
    densities = []
    for i, (plan, warp, (scores, weights, _)) in enumerate(zip(plans, warps, bases, strict=True)):
        density = _left_out(x, scores, found[i * k : (i + 1) * k], name)
        if warp is not None:
            density += float(warp.log_slope(raw).sum())
        if raw.shape[1] <= MANY:
            density -= float(weights.diagonal().log().sum()) * len(x)
        densities.append(density + _MARGIN * plan.resembles(current))
    at = max(range(len(plans)), key=densities.__getitem__)
    return plans[at], densities[at], found[at * k : (at + 1) * k]


def _shapes(raw: Tensor, tails: tuple[int, ...] | None) -> list[tuple[float, ...]]:
    """Knees worth trying: none, or one for each number whose bad side is known."""
    c = raw.shape[1]
    plain = (0.0,) * c
    if tails is None or not any(tails) or len(raw) < 8 or c > MANY:
        return [plain]
    columns = [knees(raw[:, j], float(tail)) if tail else [] for j, tail in enumerate(tails)]
    many = max(len(column) for column in columns)
    return [
        plain,
        *(tuple(col[i] if i < len(col) else 0.0 for col in columns) for i in range(many)),
    ]


def _held_out(x: Tensor, scores: Tensor, plan: Plan) -> float:
    """Log density of scores predicted by fits without them.

    Left-out values would not do here: many lengthscales can be fitted so that the values they were fitted to predict
    each other.
    """
    scores = scores[:, :_JUDGED]
    k = scores.shape[1]
    folds = [torch.arange(len(x), device=x.device) % _FOLDS == fold for fold in range(_FOLDS)]
    least = min(int((~out).sum()) for out in folds)
    kept = [torch.nonzero(~out)[:least, 0] for out in folds]
    inputs = torch.stack([x[some] for some in kept]).repeat_interleave(k, 0)
    values = torch.cat([scores[some] for some in kept], 1)
    logs, _ = fit_hyperparameters(
        inputs, values, plan.belief, kernel(plan.kernel), rough=True, tied=plan.tied
    )
    total = 0.0
    for fold, (out, some) in enumerate(zip(folds, kept, strict=True)):
        own = logs[fold * k : (fold + 1) * k]
        process = condition(
            kernel(plan.kernel), own[:, :-1], own[:, -1].exp(), x[some], scores[some]
        )
        mean, variance = process(x[out])
        variance = variance + own[:, -1].exp()
        total += float(
            (
                -0.5 * (scores[out] - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()
            ).sum()
        )
    return total


def _left_out(x: Tensor, scores: Tensor, logs: Tensor, name: str) -> float:
    """Log density of the scores, each predicted from all others."""
    mean, variance = condition(
        kernel(name), logs[:, :-1], logs[:, -1].exp(), x, scores
    ).leave_one_out()
    return float(
        (-0.5 * (scores - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()).sum()
    )


def basis(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores ``(n, k)`` of mean 0 and variance 1, weights ``(k, c)`` and offset ``(c,)``.

    Values are scores times weights plus offset. Up to ``MANY`` numbers are taken one by one; more are replaced by
    their leading principal components, as many as explain all but a millionth of the variance, at most ``MANY``.
    """
    offset = values.mean(0)
    spread = values.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * offset.abs(), spread, 1.0)
    standard = (values - offset) / spread
    if values.shape[1] <= MANY:
        return standard, spread.diag(), offset
    left, sizes, right = torch.linalg.svd(standard, full_matrices=False)
    missing = 1.0 - (sizes**2).cumsum(0) / (sizes**2).sum().clamp(min=1e-300)
    k = min(MANY, 1 + int((missing > 1e-6).sum()), len(sizes))
    root = len(values) ** 0.5
    scale = (sizes[:k] / root).clamp(min=1e-12)
    return left[:, :k] * root, scale[:, None] * right[:k] * spread, offset
