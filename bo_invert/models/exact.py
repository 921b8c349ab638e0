"""What is believed of told outputs: Gaussian processes behind a basis, a scale and, for heavy tails, a warp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from bo_invert.models.base import KERNELS
from bo_invert.models.fit import EXACT, NOISY, Belief
from bo_invert.models.fit import fit as fit_hyperparameters
from bo_invert.models.kernels import kernel
from bo_invert.models.outputs import MANY
from bo_invert.models.process import Process, condition
from bo_invert.models.warp import Warp, knees
from bo_invert.threads import one_thread
from bo_invert.types import JSON, Array

_GLANCE = 100
"""So many points tell which kind of model suits."""
_FOLDS = 4
_JUDGED = 3
"""So many of the modelled numbers tell whether coordinates differ."""
_MARGIN = 2.0
"""A rival must explain the data better by so many nats before the model changes."""


@dataclass(frozen=True)
class Surrogate:
    """Independent processes behind c numbers.

    Args:
        process: of k standardised numbers at unit inputs ``(..., d)``.
        weights: shape ``(k, c)``; with ``offset`` it leads from the process's numbers to the warped ones.
        offset: shape ``(c,)``.
        warp: from modelled numbers to warped ones; None where nothing is warped.
        memo: for the next fit.
    """

    process: Process
    weights: Tensor
    offset: Tensor
    warp: Warp | None
    memo: JSON

    def values(self, samples: Tensor) -> Tensor:
        """The modelled numbers ``(..., c)`` of the processes' ``(..., k)``."""
        warped = samples @ self.weights + self.offset
        return warped if self.warp is None else self.warp.inverse(warped)

    def mean(self, inputs: Tensor) -> Tensor:
        """Posterior mean (of a warped number: median) of the modelled numbers at inputs ``(..., d)``: ``(..., c)``."""
        return self.values(self.process(inputs)[0])

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the processes' standardised numbers at inputs ``(..., d)``, ``(..., k)`` each."""
        return self.process(inputs)

    @property
    def ripple(self) -> Tensor:
        """What an outcome varies by beyond the processes' own variance, shape ``(k,)``.

        That is noise, or structure too fine for the model. Below a percent of the spread it is no more than what keeps
        the algebra stable.
        """
        noise = self.process.noise[:, 0]
        return torch.where(noise > 1e-4, noise, 0.0)

    def standard(self, values: Tensor) -> Tensor:
        """The processes' numbers ``(..., k)`` of modelled ones ``(..., c)``; only where k = c."""
        warped = values if self.warp is None else self.warp(values)
        return (warped - self.offset) / self.weights.diagonal()


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
        return cls(KERNELS[kernel], (NOISY,) if noisy else (NOISY, EXACT), tails, (True, False))


def fit(
    inputs: Array,
    values: Array,
    memo: JSON = None,
    choice: Choice = Choice(),
    noise: Array | None = None,
    device: str = "cpu",
    told: int | None = None,
) -> Surrogate:
    """A surrogate of values ``(n, c)`` at unit inputs ``(n, d)``; n >= 1.

    Hyperparameters are fitted anew whenever the data have grown by 5 %; what kind of model it is, whenever they
    have grown by an eighth, by the density of every value as predicted from all others (leave-one-out).

    Args:
        inputs: shape ``(n, d)``.
        values: shape ``(n, c)``, finite.
        memo: of an earlier surrogate of the same problem: where the fit starts, and whether it is needed.
        choice: which models may be fitted; default: the squared exponential, hardly any noise, nothing warped.
        noise: known variances of the values, shape ``(n, c)``; only for up to ``MANY`` numbers without a warp.
        device: where to compute.
        told: how many points there are, where the inputs are a selection of them: what "the data have grown" refers to.
    """
    size = len(inputs) if told is None else told
    x = torch.tensor(inputs, dtype=torch.float64, device=device)
    raw = torch.tensor(values, dtype=torch.float64, device=device)
    note = memo if _serves(memo, x.shape[1], choice) else None
    if note is not None and size < 1.125 * note["chosen"]:
        plan = _recalled(note, choice)
    elif len(choice.kernels) * len(choice.beliefs) * len(choice.ties) == 1 and not any(choice.tails or ()):
        plan = _Plan(choice.kernels[0], choice.beliefs[0], (0.0,) * values.shape[1], choice.ties[0])
    else:
        plan, note = _chosen(x, raw, choice, note, size)
    warp = plan.warp(raw, choice.tails)
    scores, weights, offset = _basis(raw if warp is None else warp(raw))
    known = None
    if noise is not None and weights.shape[0] == weights.shape[1] and warp is None:
        known = torch.tensor(noise, dtype=torch.float64, device=device) / weights.diagonal() ** 2
    logs, fitted = _hyperparameters(x, scores, plan, note, known, size)
    spread = logs[:, -1].exp()
    spread = spread if known is None else spread[:, None] + known.T
    process = condition(kernel(plan.kernel), logs[:, :-1], spread, x, scores)
    after = {
        "n": fitted,
        "logs": logs.tolist(),
        "kernel": plan.kernel,
        "belief": plan.belief.name,
        "knees": list(plan.knees),
        "tied": plan.tied,
        "chosen": size if note is None else note.get("chosen", size),
    }
    return Surrogate(process, weights, offset, warp, after)


@contextmanager
def settled(seed: int) -> Iterator[None]:
    """Inside, models compute the same everywhere: one thread, a local seed."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Plan:
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

    def resembles(self, other: _Plan | None) -> bool:
        """Whether the kinds of model are the same; knees move with the data."""
        return other is not None and (self.kernel, self.belief, any(self.knees)) == (
            other.kernel,
            other.belief,
            any(other.knees),
        )


def _serves(memo: JSON, d: int, choice: Choice) -> bool:
    """Whether a memo is of about the same model: an option or the problem may have changed since."""
    logs = (memo or {}).get("logs", [])
    return bool(
        logs
        and all(len(row) == d + 1 for row in logs)
        and memo["kernel"] in choice.kernels
        and memo["belief"] in {belief.name for belief in choice.beliefs}
        and memo.get("tied") in choice.ties  # logs of earlier versions do not say
    )


def _recalled(note: JSON, choice: Choice) -> _Plan:
    belief = next(belief for belief in choice.beliefs if belief.name == note["belief"])
    return _Plan(note["kernel"], belief, tuple(note["knees"]), note["tied"])


def _hyperparameters(
    x: Tensor, scores: Tensor, plan: _Plan, note: JSON, known: Tensor | None, size: int
) -> tuple[Tensor, int]:
    warm = None
    if note is not None and len(note["logs"]) == scores.shape[1]:
        warm = scores.new_tensor(note["logs"])
        if note["n"] <= size < note["n"] + max(1, note["n"] // 20):
            return warm, note["n"]
    return fit_hyperparameters(x, scores, plan.belief, kernel(plan.kernel), warm, known, tied=plan.tied)[0], size


def _chosen(x: Tensor, raw: Tensor, choice: Choice, note: JSON, size: int) -> tuple[_Plan, JSON]:
    """The plan under which left-out values are most probable, and a memo of its fit.

    First the warp is chosen, then kernel and belief, then whether the coordinates differ. Of many points, some are
    looked at.
    """
    usual = _Plan(choice.kernels[0], choice.beliefs[0], (0.0,) * raw.shape[1], choice.ties[0])
    current = usual if note is None else _recalled(note, choice)
    n = len(x)
    if n > _GLANCE:
        some = torch.linspace(0, n - 1, _GLANCE, dtype=torch.float64).round().long().to(x.device)
        x, raw = x[some], raw[some]
    first = (choice.kernels[0], choice.beliefs[0])
    tied = current.tied
    plans = [_Plan(*first, shape, tied) for shape in _shapes(raw, choice.tails)]
    best, highest, answer = _densest(x, raw, choice, plans, current)
    for pair in product(choice.kernels, choice.beliefs):
        if pair != first:
            found = _densest(x, raw, choice, [_Plan(*pair, best.knees, tied)], current)
            if found[1] > highest:
                best, highest, answer = found
    if len(choice.ties) > 1 and len(x) >= 2 * _FOLDS:
        warp = best.warp(raw, choice.tails)
        scores = _basis(raw if warp is None else warp(raw))[0]
        densities = {t: _held_out(x, scores, replace(best, tied=t)) + _MARGIN * (t == tied) for t in choice.ties}
        best = replace(best, tied=max(choice.ties, key=densities.__getitem__))
    memo = {
        "n": 0,  # rough fits only start the one that counts
        "logs": answer.tolist(), "kernel": best.kernel, "belief": best.belief.name, "knees": list(best.knees),
        "tied": best.tied, "chosen": size,
    }  # fmt: skip
    return best, memo


def _densest(
    x: Tensor, raw: Tensor, choice: Choice, plans: Sequence[_Plan], current: _Plan | None
) -> tuple[_Plan, float, Tensor]:
    """The best of plans with one kernel and one belief, the log density of left-out values under it, and its fit."""
    warps = [plan.warp(raw, choice.tails) for plan in plans]
    bases = [_basis(raw if warp is None else warp(raw)) for warp in warps]
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
    return [plain, *(tuple(col[i] if i < len(col) else 0.0 for col in columns) for i in range(many))]


def _held_out(x: Tensor, scores: Tensor, plan: _Plan) -> float:
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
    logs, _ = fit_hyperparameters(inputs, values, plan.belief, kernel(plan.kernel), rough=True, tied=plan.tied)
    total = 0.0
    for fold, (out, some) in enumerate(zip(folds, kept, strict=True)):
        own = logs[fold * k : (fold + 1) * k]
        process = condition(kernel(plan.kernel), own[:, :-1], own[:, -1].exp(), x[some], scores[some])
        mean, variance = process(x[out])
        variance = variance + own[:, -1].exp()
        total += float((-0.5 * (scores[out] - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()).sum())
    return total


def _left_out(x: Tensor, scores: Tensor, logs: Tensor, name: str) -> float:
    """Log density of the scores, each predicted from all others."""
    mean, variance = condition(kernel(name), logs[:, :-1], logs[:, -1].exp(), x, scores).leave_one_out()
    return float((-0.5 * (scores - mean) ** 2 / variance - 0.5 * (2 * torch.pi * variance).log()).sum())


def _basis(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores ``(n, k)`` of mean 0 and variance 1, weights ``(k, c)`` and offset ``(c,)``.

    Values are scores times weights plus offset. Up to ``MANY`` numbers are taken one by one; more are replaced by
    their leading principal components, as many as explain all but a millionth of the variance, at most ``MANY``.
    """
    offset = values.mean(0)
    spread = values.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * (1.0 + offset.abs()), spread, 1.0)
    standard = (values - offset) / spread
    if values.shape[1] <= MANY:
        return standard, spread.diag(), offset
    left, sizes, right = torch.linalg.svd(standard, full_matrices=False)
    missing = 1.0 - (sizes**2).cumsum(0) / (sizes**2).sum().clamp(min=1e-300)
    k = min(MANY, 1 + int((missing > 1e-6).sum()), len(sizes))
    root = len(values) ** 0.5
    scale = (sizes[:k] / root).clamp(min=1e-12)
    return left[:, :k] * root, scale[:, None] * right[:k] * spread, offset


__all__ = ["EXACT", "MANY", "Belief", "Choice", "Surrogate", "fit", "settled"]
