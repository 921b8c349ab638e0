"""What a model of all told outputs expects of every told point, when single answers are noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.base import KERNELS, to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp.hyperparameter_averaging import averaged_posterior
from bo_invert.models.gp.hyperparameters import MEASURED
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.threads import one_thread
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import Array

_Z_90 = 1.6448536269514722
"""Standard deviations from the middle of a normal distribution to the ends of its central 90 %."""
_SAMPLES = 256
_MAX_SAMPLED = 2_000_000
"""So many sampled outputs are held in memory."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What is believed of b told points, the noise of a single answer left out.

    Triples are the low end, the middle and the high end of a central 90 % interval. The middle is a mean; of a number
    that the model warps, the median.

    Args:
        positions: of the points among the completed trials, shape ``(b,)``; rising.
        losses: triples of the objective, shape ``(3, b)``.
        probability: that the outcome constraints hold, shape ``(b,)``.
        outputs: triples of all outputs, shape ``(3, b, m)``.
    """

    positions: NDArray[np.intp]
    losses: Array
    probability: Array
    outputs: Array


def posterior_expectation(statement: ProblemStatement, history: History) -> Expectation:
    """Fit processes to the told outputs and ask them about the told points. Repeats of a point are evidence.

    What is unsettled about their hyperparameters is averaged over. Beyond 1,000 told points they are given
    a selection, and asked about that.

    Args:
        statement: of the problem.
        history: at least one trial is completed.
    """
    inputs = to_unit(statement.domain, history.points)
    some = select_subset(inputs, history.order)
    inputs, y = inputs[some], history.y[some]
    modelled = ModelledOutputs(statement, y, history.losses[some])
    rest = [j for j in range(y.shape[1]) if j not in modelled.columns]
    outputs = torch.empty(3, *y.shape, dtype=torch.float64)
    with one_thread():
        told = _ObservedPosterior.learned(inputs, modelled.values, modelled.warp_directions)
        outputs[..., modelled.columns] = told.triples()[..., int(modelled.models_loss) :]
        if rest:  # what neither objective nor constraints read is no business of their model
            outputs[..., rest] = _ObservedPosterior.learned(inputs, y[:, rest], None).triples()
        losses, probability = _losses(told, modelled), _probability(told, modelled)
    return Expectation(some, losses.numpy(), probability.numpy(), outputs.numpy())


@dataclass(frozen=True)
class _ObservedPosterior:
    """What is believed at the b told points.

    Args:
        surrogate: fitted to c numbers there.
        mean: of the k standardised numbers behind them, shape ``(b, k)``.
        variance: likewise, without noise.
    """

    surrogate: Surrogate
    mean: Tensor
    variance: Tensor

    @staticmethod
    def learned(inputs: Array, values: Array, tails: tuple[int, ...] | None) -> _ObservedPosterior:
        choice = ModelSearchSpace(KERNELS["auto"], (MEASURED,), tails, (True, False))
        surrogate = fit_surrogate(inputs, values, search_space=choice)
        return _ObservedPosterior(
            surrogate, *averaged_posterior(surrogate.gp, MEASURED, surrogate.gp.inputs)
        )

    @property
    def normal(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the warped numbers, shape ``(b, c)`` each."""
        weights = self.surrogate.weights
        return self.mean @ weights + self.surrogate.offset, (
            self.variance @ weights**2 + self.surrogate.residual_variance
        ).sqrt()

    def triples(self) -> Tensor:
        """Of the c numbers, shape ``(3, b, c)``."""
        centre, std = self.normal
        three = torch.stack([centre - _Z_90 * std, centre, centre + _Z_90 * std])
        return three if self.surrogate.warp is None else self.surrogate.warp.inverse(three)


def _losses(told: _ObservedPosterior, modelled: ModelledOutputs) -> Tensor:
    """Triples of the loss, shape ``(3, b)``.

    The loss of ``Target`` and ``Composite`` is averaged over what the outputs may be: a point that is known well is
    then preferred to one that may as well be far off.
    """
    if not modelled.composite:  # the loss is one of the numbers, or minus it
        return modelled.loss(told.triples()).sort(0).values
    loss, found = told.surrogate.loss_function(modelled), []
    drawn = sobol_normals(_SAMPLES, told.mean.shape[1], 0, told.mean)
    step = max(1, _MAX_SAMPLED // (_SAMPLES * modelled.values.shape[1]))
    for start in range(0, len(told.mean), step):
        part = slice(start, start + step)
        sampled = loss(told.mean[part] + told.variance[part].sqrt() * drawn[:, None])
        low, high = sampled.nanquantile(sampled.new_tensor([0.05, 0.95]), dim=0)
        found.append(torch.stack([low, sampled.nanmean(0), high]))
    return torch.cat(found, 1).nan_to_num(torch.inf)


def _probability(told: _ObservedPosterior, modelled: ModelledOutputs) -> Tensor:
    """That all constraints hold, shape ``(b,)``."""
    (centre, std), warp = told.normal, told.surrogate.warp
    log = torch.zeros_like(centre[:, 0])
    for column, sense, bound in modelled.constraint_bounds(told.mean):
        limit = bound if warp is None else warp(bound)
        log = log + torch.special.log_ndtr(
            sense * (limit[column] - centre[:, column]) / std[:, column]
        )
    return log.exp()
