"""Expected losses and outputs of the observed points of a noisy oracle."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.history import History
from bo_invert.models.acquisition.log_ei import sobol_normals
from bo_invert.models.base import KERNELS, Z_90, to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp.hyperparameter_averaging import averaged_posterior
from bo_invert.models.gp.hyperparameter_fit import MEASURED
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Array, Indices

_SAMPLES = 256
"""Number of samples of a loss. Engineering choice: a standard error of 6 % of the deviation."""
_MAX_SAMPLED = 2_000_000
"""Largest number of sampled outputs in memory, 16 MB. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """Noise-free posterior at b observed points.

    Triples are lower end, centre and upper end of a central 90 % interval. The centre is the mean,
    or the median of a warped output.

    Args:
        positions: Rising positions of the points among the completed trials, shape ``(b,)``.
        losses: Triples of the loss, shape ``(3, b)``.
        probability: Probability that the outcome constraints hold, shape ``(b,)``.
        outputs: Triples of all outputs, shape ``(3, b, m)``.
    """

    positions: Indices
    losses: Array
    probability: Array
    outputs: Array


@one_thread()
def posterior_expectation(statement: ProblemStatement, history: History) -> Expectation:
    """Estimate the noise-free losses and outputs of the observed points.

    Gaussian processes are averaged over hyperparameters. Repeated points count as evidence. Beyond
    1,000 observations, a subset is used and predicted.

    Args:
        statement: Problem statement.
        history: Log with at least one completed trial.
    """
    inputs = to_unit(statement.domain, history.points)
    some = select_subset(inputs, history.order)
    inputs, y = inputs[some], history.y[some]
    modelled = ModelledOutputs(statement, y, history.losses[some])
    rest = [j for j in range(y.shape[1]) if j not in modelled.columns]
    outputs = torch.empty(3, *y.shape, dtype=torch.float64)
    posterior = _ObservedPosterior.fit(inputs, modelled.values, modelled.warp_directions)
    outputs[..., modelled.columns] = posterior.triples()[..., modelled.modelled_losses :]
    if rest:  # separate models, so that unused outputs do not change the loss
        outputs[..., rest] = _ObservedPosterior.fit(inputs, y[:, rest], None).triples()
    losses, probability = _losses(posterior, modelled), _probability(posterior, modelled)
    outside = [history.completed[position].outside for position in some]
    probability[torch.tensor(outside)] = 0.0
    return Expectation(some, losses.numpy(), probability.numpy(), outputs.numpy())


@dataclass(frozen=True)
class _ObservedPosterior:
    """Posterior at the b observed points.

    Args:
        surrogate: Surrogate of c outputs.
        mean: Mean of the k scores, shape ``(b, k)``.
        variance: Noise-free variance of the scores, shape ``(b, k)``.
    """

    surrogate: Surrogate
    mean: Tensor
    variance: Tensor

    @staticmethod
    def fit(
        inputs: Array, values: Array, warp_directions: tuple[int, ...] | None
    ) -> _ObservedPosterior:
        """Fit a surrogate to measurements and average over its hyperparameters."""
        # Repeated points determine the noise, so its prior is wide.
        search_space = ModelSearchSpace(
            KERNELS["auto"], (MEASURED,), warp_directions, (True, False)
        )
        surrogate = fit_surrogate(inputs, values, search_space=search_space)
        return _ObservedPosterior(
            surrogate, *averaged_posterior(surrogate.gp, MEASURED, surrogate.gp.inputs)
        )

    def triples(self) -> Tensor:
        """Return triples of the c outputs, shape ``(3, b, c)``."""
        centre, std = self.surrogate.warped_moments(self.mean, self.variance)
        # A monotone warp maps quantiles to quantiles.
        return self.surrogate.unwarp(
            torch.stack([centre - Z_90 * std, centre, centre + Z_90 * std])
        )


def _losses(posterior: _ObservedPosterior, modelled: ModelledOutputs) -> Tensor:
    """Return triples of the loss, shape ``(3, b)``.

    The loss of ``Target`` and ``Composite`` is averaged over the posterior of the outputs, which
    penalises uncertain points: E|y - t|^2 = |E y - t|^2 + Var y.
    """
    if not modelled.composite:  # the loss is plus or minus one output
        return modelled.loss(posterior.triples()).sort(0).values
    loss, found = posterior.surrogate.loss_function(modelled), []
    mean, variance = posterior.mean, posterior.variance
    normals = sobol_normals(_SAMPLES, mean.shape[1], 0, mean)
    # Points are processed in parts to bound the memory of the samples.
    step = max(1, _MAX_SAMPLED // (_SAMPLES * modelled.values.shape[1]))
    parts = torch.split(mean, step), torch.split(variance.sqrt(), step)
    for centre, std in zip(*parts, strict=True):
        sampled = loss(centre + std * normals[:, None])
        # Quantiles of the samples need no assumption about the distribution of the loss.
        low, high = sampled.nanquantile(sampled.new_tensor([0.05, 0.95]), dim=0)
        found.append(torch.stack([low, sampled.nanmean(0), high]))
    return torch.cat(found, 1).nan_to_num(torch.inf)


def _probability(posterior: _ObservedPosterior, modelled: ModelledOutputs) -> Tensor:
    """Return the probability that all constraints hold, shape ``(b,)``."""
    centre, std = posterior.surrogate.warped_moments(posterior.mean, posterior.variance)
    log = torch.zeros_like(centre[:, 0])
    # The posterior is normal on the warped scale, so the bounds are warped too.
    for column, sense, bound in posterior.surrogate.warped_bounds(modelled):
        log = log + torch.special.log_ndtr(sense * (bound - centre[:, column]) / std[:, column])
    return log.exp()
