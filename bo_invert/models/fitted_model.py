"""Surrogate of a log with the data that acquisition functions need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.acquisition import expected_improvement
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.hypervolume_improvement import log_hypervolume_improvement
from bo_invert.models.acquisition.thompson_sample_paths import thompson_scores
from bo_invert.models.acquisition.ucb_pe import ucb_pe
from bo_invert.models.acquisition.unseen_pairs import UnseenPairs
from bo_invert.models.gp.mixed_kernel import MixedKernel, column_structure
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.optim.score import Score, differentiable
from bo_invert.models.outliers import clip_outliers
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array, Indices, Mask

_NEGLIGIBLE = 1e-3
"""Expected improvement, in standard deviations of the loss, below which unseen pairs of choices
count as uncertain. Engineering choice."""


@dataclass(frozen=True)
class FittedModel:
    """Surrogate of the observed outputs, and acquisition functions under it.

    Args:
        losses: Losses of the n observations in the fit, shape ``(n,)``.
        feasible: Mask of the observations that satisfy the outcome constraints, shape ``(n,)``.
        outputs: Modelled outputs.
        surrogate: Surrogate of the modelled outputs.
        noisy: The oracle is noisy.
        completed: Number of completed trials, including those outside of the fit.
        inside: Mask of the observations that can be the incumbent, shape ``(n,)``.
    """

    losses: Array
    feasible: Mask
    outputs: ModelledOutputs
    surrogate: Surrogate
    noisy: bool
    completed: int
    inside: Mask

    @property
    def explained_share(self) -> float:
        """Share of the variance that leave-one-out predictions explain; negative for bad ones."""
        values = self.surrogate.gp.values[:, :, 0].mT
        errors = values - self.surrogate.gp.leave_one_out()[0]
        return 1.0 - float(errors.square().mean() / values.var(0, correction=0).mean())

    def acquisition_data(self, pending: Array) -> AcquisitionData:
        """Return the data of an acquisition function with pending unit inputs ``(p, d)``.

        The model misfit variance counts as a source of improvement at every second point. A search
        that always uses it stays at the best posterior mean; without it, narrow optima are missed.
        """
        use_misfit = (self.completed + len(pending)) % 2 == 0
        return AcquisitionData(
            self.losses, self.feasible, pending, self.noisy, use_misfit, inside=self.inside
        )

    def log_expected_improvement(
        self, pending: Array, *, seed: int, samples: int = 128, unseen: UnseenPairs | None = None
    ) -> Score:
        """Return the log expected improvement with pending unit inputs ``(p, d)``.

        For a ``Pareto`` objective, it is that of the hypervolume.

        ``unseen`` adds the variance of unseen pairs of values of choices.
        """
        data = replace(self.acquisition_data(pending), unseen=unseen)
        pareto = isinstance(self.outputs.statement.objective, Pareto)
        if pareto and data.feasible.any():
            return log_hypervolume_improvement(self.surrogate, self.outputs, data, seed=seed)
        return expected_improvement.log_expected_improvement(
            self.surrogate, self.outputs, data, seed=seed, samples=samples
        )

    def unseen_pairs(self, score: Score, best: Array, known: Array) -> UnseenPairs | None:
        """Return the variance of unseen pairs of choices; None while the model expects a gain.

        Args:
            score: Log expected improvement, in standard deviations of the loss.
            best: Unit input of its maximum, shape ``(1, d)``.
            known: Observed and pending unit inputs, shape ``(n, d)``.
        """
        structure = column_structure(self.outputs.statement.domain)
        if (
            self.outputs.loss_column is None
            or structure is None
            or len(structure.choices) < MixedKernel.PAIRED
            or differentiable(score).values(best)[0] > math.log(_NEGLIGIBLE)
        ):
            return None
        return UnseenPairs(structure, known)

    def ucb_pe(self, pending: Array, *, explore: bool) -> Score:
        """Return the score of GP-UCB-PE with pending unit inputs ``(p, d)``."""
        data = self.acquisition_data(pending)
        return self._on_device(ucb_pe(self.surrogate, self.outputs, data, explore=explore))

    def thompson_scores(self, count: int, seed: int) -> Score:
        """Return scores ``(count, b)`` of drawn posterior functions at unit inputs ``(b, d)``."""
        return thompson_scores(self.surrogate, self.outputs, count, seed)

    @torch.no_grad()
    def predicted_scores(self) -> Array:
        """Return the posterior mean score of the observations, shape ``(n,)``; higher is better."""
        # Observations are smoothed by the posterior, which matters for noisy oracles.
        score = expected_improvement.posterior_mean_score(self.surrogate, self.outputs)
        return np.asarray(score(self.surrogate.gp.inputs).cpu().numpy())

    def _on_device(self, score: Score) -> Score:
        """Evaluate a score on the device of the surrogate, with inputs and results elsewhere."""
        like = self.surrogate.offset
        # ``to`` is differentiable, so gradients return to the device of the inputs.
        return score if like.is_cpu else lambda inputs: score(inputs.to(like)).to(inputs)


def fit_model(
    statement: ProblemStatement,
    history: History,
    inputs: Array,
    memo: JSON = None,
    *,
    subset: Indices | None = None,
    kernel: str = "auto",
    noisy: bool = False,
    warp: bool = True,
    device: str = "cpu",
) -> FittedModel:
    """Fit a surrogate to the completed trials of a log, without repeated observations if exact.

    Args:
        statement: Problem statement.
        history: Log with n completed trials.
        inputs: Unit inputs of the surrogate at these trials, shape ``(n, k)``.
        memo: Memo of an earlier fit.
        subset: Positions of the trials in the fit; None for all.
        kernel: Key of ``base.KERNELS``.
        noisy: The oracle is noisy.
        warp: Allow an output warp of losses that are one output.
        device: Torch device of the surrogate.

    Raises:
        InvalidInputError: The device is not available.
    """
    # An unavailable device would otherwise fail in the middle of a fit.
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(
            f"models: device must be available to torch, got {device!r}: {error}. Use 'cpu'."
        ) from None
    # Outliers are clipped within the subset, as the surrogate sees them.
    rows = np.arange(len(inputs)) if subset is None else subset
    if not noisy:
        # Noise of an exact oracle represents structure finer than the lengthscales. Equal outputs
        # of a repeated input say nothing about it, but would exclude noise.
        observed = np.concatenate([inputs[rows], history.y[rows]], axis=1)
        rows = rows[np.sort(np.unique(observed, axis=0, return_index=True)[1])]
    outputs = ModelledOutputs(statement, history.y[rows], history.losses[rows])
    # Inputs may be features of designs instead of points.
    points = inputs.shape[1] == statement.domain.dim
    search_space = ModelSearchSpace.of(
        kernel,
        noisy,
        outputs.warp_directions if warp else None,
        column_structure(statement.domain) if points else None,
    )
    if isinstance(statement.objective, Pareto):
        search_space = search_space.for_several_criteria()
    surrogate = fit_surrogate(
        inputs[rows], outputs.values, memo, search_space, device=device, total=len(inputs)
    )
    losses = clip_outliers(history.losses[rows, None])[:, 0]
    feasible = history.violations[rows] <= 0.0
    inside = np.isfinite(history.violations[rows])
    return FittedModel(losses, feasible, outputs, surrogate, noisy, len(inputs), inside)
