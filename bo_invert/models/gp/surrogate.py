"""What is believed of told outputs: Gaussian processes behind a basis, a scale and, for heavy tails, a warp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.gp.hyperparameters import fit_hyperparameters as fit_hyperparameters
from bo_invert.models.gp.kernels import get_kernel
from bo_invert.models.gp.model_selection import (
    DEFAULT_SEARCH_SPACE,
    ModelSearchSpace,
    ModelSpec,
    is_compatible,
    output_basis,
    select_model,
    spec_from_memo,
)
from bo_invert.models.gp.output_warp import Warp
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives import Target
from bo_invert.types import JSON, Array


@dataclass(frozen=True)
class Surrogate:
    """Independent processes behind c numbers.

    Args:
        process: of k standardised numbers at unit inputs ``(..., d)``.
        weights: shape ``(k, c)``; with ``offset`` it leads from the process's numbers to the warped ones.
        offset: shape ``(c,)``.
        omitted: variance of each warped number that the process's numbers leave out, shape ``(c,)``; 0 where k = c.
        warp: from modelled numbers to warped ones; None where nothing is warped.
        memo: for the next fit.
    """

    gp: GPPosterior
    weights: Tensor
    offset: Tensor
    residual_variance: Tensor
    warp: Warp | None
    memo: JSON

    def values(self, samples: Tensor) -> Tensor:
        """The modelled numbers ``(..., c)`` of the processes' ``(..., k)``."""
        warped = samples @ self.weights + self.offset
        return warped if self.warp is None else self.warp.inverse(warped)

    def mean(self, inputs: Tensor) -> Tensor:
        """Posterior mean (of a warped number: median) of the modelled numbers at inputs ``(..., d)``: ``(..., c)``."""
        return self.values(self.gp(inputs)[0])

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the processes' standardised numbers at inputs ``(..., d)``, ``(..., k)`` each."""
        return self.gp(inputs)

    @property
    def misfit_variance(self) -> Tensor:
        """What an outcome varies by beyond the processes' own variance, shape ``(k,)``.

        That is noise, or structure too fine for the model. Below a percent of the spread it is no more than what keeps
        the algebra stable.
        """
        noise = self.gp.noise[:, 0]
        return torch.where(noise > 1e-4, noise, 0.0)

    def loss_function(self, outputs: ModelledOutputs) -> Callable[[Tensor], Tensor]:
        """Loss ``(...)`` of a surrogate's standardised numbers ``(..., k)``.

        The distance from a target is a quadratic form of these numbers, whatever number of outputs they stand for.
        """
        target = outputs.statement.objective
        if outputs.models_loss or self.warp is not None or not isinstance(target, Target):
            return lambda numbers: outputs.loss(self.values(numbers))
        at = [outputs.column(index) for index in target.indices]
        scale = self.offset.new_tensor(target.scale) * len(at) ** 0.5
        slopes = (self.weights[:, at] / scale).mT  # (m, k)
        rest = (self.offset[at] - self.offset.new_tensor(target.value)) / scale
        q, r = torch.linalg.qr(slopes)
        inside = q.mT @ rest
        outside = (rest - q @ inside).square().sum()
        return lambda numbers: (numbers @ r.mT + inside).square().sum(-1) + outside

    def standardize(self, values: Tensor) -> Tensor:
        """The processes' numbers ``(..., k)`` of modelled ones ``(..., c)``; only where k = c."""
        warped = values if self.warp is None else self.warp(values)
        return (warped - self.offset) / self.weights.diagonal()


def fit_surrogate(
    inputs: Array,
    values: Array,
    memo: JSON = None,
    search_space: ModelSearchSpace = DEFAULT_SEARCH_SPACE,
    noise: Array | None = None,
    device: str = "cpu",
    total: int | None = None,
) -> Surrogate:
    """A surrogate of values ``(n, c)`` at unit inputs ``(n, d)``; n >= 1.

    Hyperparameters are fitted anew whenever the data have grown by 5 %; what kind of model it is, whenever they
    have grown by an eighth, by the density of every value as predicted from all others (leave-one-out).

    Args:
        inputs: shape ``(n, d)``.
        values: shape ``(n, c)``, finite.
        memo: of an earlier surrogate of the same problem: where the fit starts, and whether it is needed.
        choice: which models may be fitted; default: the squared exponential, hardly any noise, nothing warped.
        noise: known variances of the values, shape ``(n, c)``, for up to ``MANY`` numbers; then nothing is warped.
        device: where to compute.
        told: how many points there are, where the inputs are a selection of them: what "the data have grown" refers to.

    Raises:
        InvalidInputError: variances are known of more numbers than are modelled one by one.
    """
    if noise is not None:
        if values.shape[1] > MAX_INDEPENDENT_OUTPUTS:
            raise InvalidInputError(
                f"models: known noise is for up to {MAX_INDEPENDENT_OUTPUTS} outputs, got {values.shape[1]}; of more, "
                "principal components are modelled"
            )
        search_space = replace(search_space, warp_directions=None)
    size = len(inputs) if total is None else total
    x = torch.tensor(inputs, dtype=torch.float64, device=device)
    raw = torch.tensor(values, dtype=torch.float64, device=device)
    note = memo if is_compatible(memo, x.shape[1], search_space) else None
    if note is not None and size < 1.125 * note["chosen"]:
        plan = spec_from_memo(note, search_space)
    elif len(search_space.kernels) * len(search_space.noise_priors) * len(
        search_space.shared_lengthscales
    ) == 1 and not any(search_space.warp_directions or ()):
        plan = ModelSpec(
            search_space.kernels[0],
            search_space.noise_priors[0],
            (0.0,) * values.shape[1],
            search_space.shared_lengthscales[0],
        )
    else:
        plan, note = select_model(x, raw, search_space, note, size)
    warp = plan.warp(raw, search_space.warp_directions)
    warped = raw if warp is None else warp(raw)
    scores, weights, offset = output_basis(warped)
    omitted = (warped - offset - scores @ weights).square().mean(0) * (
        weights.shape[0] < weights.shape[1]
    )
    known = None
    if noise is not None:
        known = torch.tensor(noise, dtype=torch.float64, device=device) / weights.diagonal() ** 2
    logs, fitted = _hyperparameters(x, scores, plan, note, known, size)
    spread = logs[:, -1].exp()
    spread = spread if known is None else spread[:, None] + known.T
    process = condition(get_kernel(plan.kernel), logs[:, :-1], spread, x, scores)
    after = {
        "n": fitted,
        "logs": logs.mul(1e6).round().div(1e6).tolist(),  # a memo is kept with every ask
        "kernel": plan.kernel,
        "belief": plan.noise_prior.name,
        "knees": list(plan.warp_thresholds),
        "tied": plan.shared_lengthscale,
        "chosen": size if note is None else note.get("chosen", size),
    }
    return Surrogate(process, weights, offset, omitted, warp, after)


def _hyperparameters(
    x: Tensor, scores: Tensor, plan: ModelSpec, note: JSON, known_noise: Tensor | None, size: int
) -> tuple[Tensor, int]:
    warm = None
    if note is not None and len(note["logs"]) == scores.shape[1]:
        warm = scores.new_tensor(note["logs"])
        if note["n"] <= size < note["n"] + max(1, note["n"] // 20):
            return warm, note["n"]
    return fit_hyperparameters(
        x,
        scores,
        plan.noise_prior,
        get_kernel(plan.kernel),
        warm,
        known_noise,
        shared_lengthscale=plan.shared_lengthscale,
    )[0], size


__all__ = ["ModelSearchSpace", "Surrogate", "fit_surrogate"]
