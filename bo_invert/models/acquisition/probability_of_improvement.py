"""Log probability of improvement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs


def log_probability_of_improvement(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    data: AcquisitionData,
    *,
    seed: int,
    samples: int = 128,
) -> Score:
    """Build log P(feasible and better than the best feasible observation), shape ``(b,)``.

    It is analytic if the loss is linear in one output: log Phi((best - mean) / std). Otherwise it
    is the share of quasi-Monte Carlo samples that improve. A normal approximation counts as one
    more sample and gives a gradient if no sample improves. With noise, the best loss is that of the
    posterior mean. Without a feasible observation, the violation is improved instead. Pending
    points are ignored.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Map from modelled outputs to losses.
        data: Observed points.
        seed: Seed of the quasi-random numbers.
        samples: Number of samples.
    """
    some_feasible = bool(data.feasible.any())
    observed = (
        surrogate.gp(surrogate.gp.inputs)[0]
        if data.noisy or not some_feasible
        else surrogate.gp.values[..., 0].T
    )
    if outputs.loss_column is not None and some_feasible:
        return _analytic(surrogate, outputs, data, observed)
    normals = sobol_normals(samples, observed.shape[1], seed, surrogate.offset)
    loss = surrogate.loss_function(outputs)

    def badness(scores: Tensor) -> Tensor:
        return loss(scores) if some_feasible else outputs.violation(surrogate.values(scores))

    # Single observations of a noisy oracle are no reference; their posterior means are.
    if some_feasible and not data.noisy:
        best = surrogate.offset.new_tensor(data.losses[data.feasible].min())
    else:
        predicted = badness(observed)
        best = predicted[torch.as_tensor(data.feasible)].min() if some_feasible else predicted.min()

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.gp(inputs)
        scores = mean + variance.sqrt() * normals[:, None, :]  # (S, b, k)
        losses = badness(scores)
        better = losses < best
        if some_feasible and outputs.statement.constraints:
            better &= outputs.violation(surrogate.values(scores)) <= 0.0
        # (number of better samples + Phi((best - mean) / std)) / (S + 1)
        spread = losses.std(0) + 1e-12 * losses.mean(0).abs() + 1e-300
        tail = torch.special.log_ndtr((best - losses.mean(0)) / spread)
        log: Tensor = torch.logaddexp(better.sum(0).to(tail).log(), tail) - math.log(
            len(normals) + 1.0
        )
        return log

    return score


def _analytic(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData, observed: Tensor
) -> Score:
    """Build log Phi of the improvement plus log Phi of each constraint."""
    assert outputs.loss_column is not None
    column, sign = outputs.loss_column
    # Independent outputs: the joint probability is a product of normal distribution functions.
    feasible = torch.as_tensor(data.feasible, device=observed.device)
    best = (sign * observed[:, column])[feasible].min()
    bounds = surrogate.standardized_bounds(outputs)

    def score(inputs: Tensor) -> Tensor:
        mean, variance = surrogate.gp(inputs)
        std = variance.sqrt()
        log: Tensor = torch.special.log_ndtr((best - sign * mean[:, column]) / std[:, column])
        for i, sense, bound in bounds:
            log = log + torch.special.log_ndtr(sense * (bound - mean[:, i]) / std[:, i])
        return log

    return score
