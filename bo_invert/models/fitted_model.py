"""What a strategy knows once its model is fitted: the told trials it learned from, and what is believed of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.acquisition import expected_improvement as acquisition
from bo_invert.models.acquisition.expected_improvement import AcquisitionData, Score
from bo_invert.models.acquisition.thompson import thompson_scores
from bo_invert.models.acquisition.ucb_pe import ucb_pe
from bo_invert.models.gp import surrogate as exact
from bo_invert.models.gp.surrogate import ModelSearchSpace, Surrogate
from bo_invert.models.output_transforms import ModelledOutputs, clip_outliers
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array


@dataclass(frozen=True)
class FittedModel:
    """A surrogate of told outputs.

    Args:
        inputs: unit inputs it was fitted to, shape ``(n, d)``.
        losses: shape ``(n,)``.
        feasible: which satisfy the constraints, shape ``(n,)``.
        outputs: what is modelled of them.
        surrogate: fitted to that.
        noisy: whether the same input is answered differently each time.
        told: how many completed trials there are, those left out included.
    """

    inputs: Array
    losses: Array
    feasible: NDArray[np.bool_]
    outputs: ModelledOutputs
    surrogate: Surrogate
    noisy: bool
    completed: int

    def acquisition_data(self, pending: Array) -> AcquisitionData:
        """What an acquisition has to know, with unit inputs ``(p, d)`` under evaluation.

        Whether fine structure hides better values is not known either: every second point counts on it. Always doing
        so stays where the model's mean is best, never doing so misses narrow optima.
        """
        fine = (self.completed + len(pending)) % 2 == 0
        return AcquisitionData(self.inputs, self.losses, self.feasible, pending, self.noisy, fine)

    def log_expected_improvement(self, pending: Array, *, seed: int, samples: int = 128) -> Score:
        """Log expected improvement, with unit inputs ``(p, d)`` under evaluation."""
        known = self.acquisition_data(pending)
        return self._housed(
            acquisition.log_expected_improvement(
                self.surrogate, self.outputs, known, seed=seed, samples=samples
            )
        )

    def ucb_pe(self, pending: Array, *, explore: bool) -> Score:
        """The score of GP-UCB-PE, with unit inputs ``(p, d)`` under evaluation."""
        return self._housed(
            ucb_pe(self.surrogate, self.outputs, self.acquisition_data(pending), explore=explore)
        )

    def thompson_scores(self, count: int, seed: int) -> Score:
        """Scores ``(count, b)`` of functions drawn from the posterior, at unit inputs ``(b, d)``."""
        return self._housed(thompson_scores(self.surrogate, self.outputs, count, seed))

    def predicted_scores(self) -> Array:
        """How good the model believes the told points to be, shape ``(n,)``; higher is better."""
        with torch.no_grad():
            score = acquisition.posterior_mean_score(self.surrogate, self.outputs)(
                self.surrogate.gp.inputs
            )
        return np.asarray(score.cpu().numpy())

    def _housed(self, score: Score) -> Score:
        """The score computed where the model lives, of inputs that live elsewhere; gradients find their way."""
        like = self.surrogate.offset
        if like.device.type == "cpu":
            return score
        return lambda inputs: score(inputs.to(like)).to(inputs)


def fit_model(
    statement: ProblemStatement,
    history: History,
    inputs: Array,
    memo: JSON = None,
    *,
    subset: NDArray[np.intp] | None = None,
    kernel: str = "auto",
    noisy: bool = False,
    warp: bool = True,
    device: str = "cpu",
) -> FittedModel:
    """Fit a surrogate to the completed trials of a log.

    Args:
        statement: of the problem.
        history: with n completed trials.
        inputs: what the surrogate sees of them, on the scale of the unit cube, shape ``(n, k)``.
        memo: of an earlier surrogate of theirs.
        some: positions of the trials it is given; None for all.
        kernel: a key of ``base.KERNELS``.
        noisy: whether the same input is answered differently each time.
        warp: whether the heavy tail of a plain loss may be straightened.
        device: where the model lives.

    Raises:
        InvalidInputError: torch cannot use that device here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(f"models: device {device!r} cannot be used here: {error}") from None
    rows = np.arange(len(inputs)) if subset is None else subset
    outputs = ModelledOutputs(statement, history.y[rows], history.losses[rows])
    choice = ModelSearchSpace.of(kernel, noisy, outputs.warp_directions if warp else None)
    surrogate = exact.fit_surrogate(
        inputs[rows], outputs.values, memo, choice, device=device, total=len(inputs)
    )
    feasible = history.violations[rows] <= 0.0
    losses = clip_outliers(history.losses[rows, None])[:, 0]
    return FittedModel(inputs[rows], losses, feasible, outputs, surrogate, noisy, len(inputs))
