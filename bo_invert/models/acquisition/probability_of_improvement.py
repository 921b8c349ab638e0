"""The probability that an input improves on what is known, as a logarithm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_invert.models.acquisition.expected_improvement import AcquisitionData, Score
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.gp.surrogate import Surrogate

if TYPE_CHECKING:
    from bo_invert.models.output_transforms import ModelledOutputs


def log_probability_of_improvement(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    *,
    seed: int,
    samples: int = 128,
) -> Score:
    """Log probability that an input ``(b, d)`` is feasible and better than the best feasible one told, shape ``(b,)``.

    In closed form where the loss is one modelled number; otherwise a share of quasi-Monte Carlo samples, with the
    normal distribution of their mean and variance as one more sample: where no sample improves, it still says which
    way is up. With noise, the best is what the model believes of told points. Where nothing feasible is known, a
    smaller violation of the constraints is an improvement. Pending inputs are not looked at.

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: how modelled numbers become losses.
        known: what the log says.
        seed: of the quasi-random numbers.
        samples: how many of them.
    """
    some = bool(data.feasible.any())
    at = surrogate.gp.inputs
    told = surrogate.gp(at)[0] if data.noisy or not some else surrogate.gp.values[..., 0].T
    if outputs.loss_column is not None and some:
        return _direct(surrogate, outputs, data, told)
    drawn = sobol_normals(samples, told.shape[1], seed, surrogate.offset)
    loss = surrogate.loss_function(outputs)

    def bad(numbers: Tensor) -> Tensor:
        return loss(numbers) if some else outputs.violation(surrogate.values(numbers))

    if some and not data.noisy:
        best = surrogate.offset.new_tensor(data.losses[data.feasible].min())
    else:
        believed = bad(told)
        best = believed[torch.as_tensor(data.feasible)].min() if some else believed.min()

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.posterior(inputs)
        numbers = mean + variance.sqrt() * drawn[:, None, :]  # (S, b, k)
        losses = bad(numbers)
        better = losses < best
        if some and outputs.constraint_excesses:
            better &= outputs.violation(surrogate.values(numbers)) <= 0.0
        spread = losses.std(0) + 1e-12 * losses.mean(0).abs() + 1e-300
        tail = torch.special.log_ndtr((best - losses.mean(0)) / spread)
        log: Tensor = torch.logaddexp(better.sum(0).to(tail).log(), tail) - math.log(
            len(drawn) + 1.0
        )
        return log

    return score


def _direct(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData, told: Tensor
) -> Score:
    assert outputs.loss_column is not None
    column, sign = outputs.loss_column
    best = (sign * told[:, column])[torch.as_tensor(data.feasible, device=told.device)].min()
    limits = [
        (i, sense, surrogate.standardize(bound)[i])
        for i, sense, bound in outputs.constraint_bounds(surrogate.offset)
    ]

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.posterior(inputs)
        std = variance.sqrt()
        log: Tensor = torch.special.log_ndtr((best - sign * mean[:, column]) / std[:, column])
        for i, sense, bound in limits:
            log = log + torch.special.log_ndtr(sense * (bound - mean[:, i]) / std[:, i])
        return log

    return score
