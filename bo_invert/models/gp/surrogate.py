"""Gaussian-process surrogate: output warp, standardisation or principal components, posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.averaged_posterior import average
from bo_invert.models.gp.hyperparameter_fit import fit_hyperparameters
from bo_invert.models.gp.kernels import Kernel
from bo_invert.models.gp.model_selection import (
    DEFAULT_SEARCH_SPACE,
    ModelSearchSpace,
    ModelSpec,
    is_compatible,
    output_basis,
    select_model,
    spec_from_memo,
    to_memo,
)
from bo_invert.models.gp.output_warp import Warp
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.target import Target
from bo_invert.types import JSON, Array


@dataclass(frozen=True)
class Surrogate:
    """Surrogate of c modelled outputs: y = w^-1(s @ weights + offset) with k processes s.

    Args:
        gp: Posterior of k standardised scores s at unit inputs ``(..., d)``, for acquisition
            functions.
        predictive: Posterior for predictions. Of few observations it is an average over output
            scales, and ``gp`` one at scale 1: with a larger scale, all of the improvement would be
            expected in unknown corners.
        weights: Shape ``(k, c)``.
        offset: Shape ``(c,)``.
        residual_variance: Variance of each warped output outside of the k components, shape
            ``(c,)``.
        warp: Output warp w; None without a warp.
        memo: Memo for the next fit.
    """

    gp: GPPosterior
    predictive: GPPosterior
    weights: Tensor
    offset: Tensor
    residual_variance: Tensor
    warp: Warp | None
    memo: JSON

    def values(self, scores: Tensor) -> Tensor:
        """Return modelled outputs ``(..., c)`` of scores ``(..., k)``."""
        return self.unwarp(scores @ self.weights + self.offset)

    def unwarp(self, warped: Tensor) -> Tensor:
        """Return modelled outputs ``(..., c)`` of warped ones."""
        return warped if self.warp is None else self.warp.inverse(warped)

    def warped_moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of warped outputs, ``(..., c)`` each.

        Args:
            mean: Mean of the scores, shape ``(..., k)``.
            variance: Variance of the scores, shape ``(..., k)``.
        """
        # Independent scores: the variance of a sum is the sum of w^2 v.
        std = (variance @ self.weights**2 + self.residual_variance).sqrt()
        return mean @ self.weights + self.offset, std

    def mean(self, inputs: Tensor) -> Tensor:
        """Return the posterior mean (median of a warped output), shape ``(..., c)``."""
        return self.values(self.gp(inputs)[0])

    @property
    def misfit_variance(self) -> Tensor:
        """Fitted noise variance of the scores, shape ``(k,)``; 0 below 1e-4.

        It is noise of the oracle, or structure too fine for the model. Smaller values only
        stabilise the algebra.
        """
        return _considerable(self.gp.typical_noise)

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Predict outcomes: means and variances of the scores with noise, ``(..., k)`` each."""
        mean, variance = self.predictive(inputs)
        return mean, variance + _considerable(self.predictive.typical_noise)

    def loss_function(self, outputs: ModelledOutputs) -> Callable[[Tensor], Tensor]:
        """Return the function from scores ``(..., k)`` to losses ``(...)``.

        The loss of a target is |A s + b|^2 with A ``(m, k)``. With A = Q R it is
        |R s + Q'b|^2 + |b - Q Q'b|^2, which needs k instead of m outputs per evaluation.
        """
        target = outputs.statement.objective
        transformed = outputs.modelled_losses > 0 or self.warp is not None
        if transformed or not isinstance(target, Target) or not target.points:
            return lambda scores: outputs.loss(self.values(scores))
        columns = [outputs.column(index) for index in target.indices]
        scale = self.offset.new_tensor(target.units) * len(columns) ** 0.5
        # The loss is the mean of squares; the scale includes sqrt(m).
        slopes = (self.weights[:, columns] / scale).mT  # (m, k)
        rest = (self.offset[columns] - self.offset.new_tensor(target.value)) / scale
        q, r = torch.linalg.qr(slopes)
        inside = q.mT @ rest
        outside = (rest - q @ inside).square().sum()
        return lambda scores: (scores @ r.mT + inside).square().sum(-1) + outside

    def warped_bounds(self, outputs: ModelledOutputs) -> list[tuple[int, float, Tensor]]:
        """Return constraints as (output, sense, bound): ``sense * (warped - bound) <= 0``."""
        return [
            (i, sense, (row if self.warp is None else self.warp(row))[i])
            for i, sense, row in outputs.constraint_bounds(self.offset)
        ]

    def standardized_bounds(self, outputs: ModelledOutputs) -> list[tuple[int, float, Tensor]]:
        """Return constraints as (score, sense, bound): ``sense * (score - bound) <= 0``; k = c."""
        scale = self.weights.diagonal()
        return [
            (i, sense, (bound - self.offset[i]) / scale[i])
            for i, sense, bound in self.warped_bounds(outputs)
        ]


def _considerable(noise: Tensor) -> Tensor:
    return torch.where(noise > 1e-4, noise, 0.0)


def fit_surrogate(
    inputs: Array,
    values: Array,
    memo: JSON = None,
    search_space: ModelSearchSpace = DEFAULT_SEARCH_SPACE,
    device: str = "cpu",
    total: int | None = None,
) -> Surrogate:
    """Fit a surrogate; n >= 1.

    Hyperparameters are fitted again after 5 % more data, the specification is selected again after
    12.5 % more. Between fits the memo provides both.

    Args:
        inputs: Unit inputs, shape ``(n, d)``.
        values: Finite values, shape ``(n, c)``.
        memo: Memo of an earlier fit of the same problem.
        search_space: Candidate models.
        device: Torch device.
        total: Number of completed trials, if the inputs are a subset; governs when to fit again.
    """
    size = len(inputs) if total is None else total
    x = torch.tensor(inputs, dtype=torch.float64, device=device)
    raw = torch.tensor(values, dtype=torch.float64, device=device)
    note = memo if is_compatible(memo, x.shape[1], search_space) else None
    selected = False
    # A single candidate needs no selection.
    choices = search_space.kernels, search_space.noise_priors, search_space.shared_lengthscales
    if note is not None and size < 1.125 * note["chosen"]:
        spec = spec_from_memo(note, search_space)
    elif max(map(len, choices)) == 1 and not any(search_space.warp_directions or ()):
        spec = search_space.default_spec(values.shape[1])
    else:
        (spec, note), selected = select_model(x, raw, search_space, note, size), True
    warp = spec.warp(raw, search_space.warp_directions)
    warped = raw if warp is None else warp(raw)
    scores, weights, offset = output_basis(warped)
    # Discarded components act as independent noise of each output.
    residual_variance = (warped - offset - scores @ weights).square().mean(0) * (
        weights.shape[0] < weights.shape[1]
    )
    kernel = search_space.kernel(spec.kernel)
    logs, fitted = _hyperparameters(x, scores, spec, kernel, note, size, selected)
    gp = condition(kernel, logs[:, :-1], logs[:, -1].exp(), x, scores)
    predictive, shares = gp, None if note is None else note.get("shares")
    if shares is not None and len(shares[0]) == scores.shape[1]:
        predictive = average(gp, spec.noise_prior, scores.new_tensor(shares))
        gp = predictive.of_scale(1.0) or gp
    # Every ask stores a memo, so numbers are rounded to six decimals.
    rounded = logs.mul(1e6).round().div(1e6).tolist()
    chosen = size if note is None else note["chosen"]
    options = {"mixed": search_space.structure is not None, "shares": shares}
    after = to_memo(spec, fitted, rounded, chosen, options)
    return Surrogate(gp, predictive, weights, offset, residual_variance, warp, after)


def _hyperparameters(
    x: Tensor,
    scores: Tensor,
    spec: ModelSpec,
    kernel: Kernel,
    memo: JSON,
    size: int,
    selected: bool,
) -> tuple[Tensor, int]:
    """Return log hyperparameters ``(k, h + 1)`` and the number of trials at their fit.

    If the model was ``selected`` now, the memo holds its fit to a part of the observations.
    """
    warm_start = None
    if memo is not None and len(memo["logs"]) == scores.shape[1]:
        # Another number of components has no counterpart in the memo.
        warm_start = scores.new_tensor(memo["logs"])
        if memo["n"] <= size < memo["n"] + max(1, memo["n"] // 20):
            return warm_start, memo["n"]
    logs, _ = fit_hyperparameters(
        x,
        scores,
        spec.noise_prior,
        kernel,
        warm_start,
        shared_lengthscale=spec.shared_lengthscale,
        single_start=selected and warm_start is not None,
    )
    return logs, size
