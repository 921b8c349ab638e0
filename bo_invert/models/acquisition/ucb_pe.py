"""Upper confidence bounds with pure exploration (GP-UCB-PE), for batches and asynchronous queries.

Contal et al., ECML 2013; in the form of OSS Vizier's default (Song et al. 2024): where nothing has been asked since the
data changed, the highest upper bound; otherwise the most uncertain place, given what is under evaluation, among those
that may still hold the optimum. Nothing is sampled, so a hundred pending points cost little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_invert.models.acquisition.expected_improvement import AcquisitionData

if TYPE_CHECKING:
    from bo_invert.models.gp.surrogate import Surrogate
    from bo_invert.models.output_transforms import ModelledOutputs

Score = Callable[[Tensor], Tensor]

_UCB_WIDTH = 1.8
"""Standard deviations of the upper bound."""
_PROMISING_WIDTH = 0.5
"""A place may hold the optimum where mean plus so many standard deviations reach the threshold."""
_PENALTY = 10.0
"""Of what is missed, in standard deviations of the outputs."""


def ucb_pe(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData, *, explore: bool
) -> Score:
    """Score of GP-UCB-PE for a loss that is plus or minus one modelled number.

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: with ``direct``; violated constraints, as predicted, are penalised.
        known: what the log says; its pending points shrink the uncertainty around them.
        explore: seek the uncertain among the promising, instead of the highest bound.
    """
    assert outputs.loss_column is not None
    column, sign = outputs.loss_column
    process = surrogate.gp
    pending = torch.as_tensor(
        data.pending, dtype=surrogate.offset.dtype, device=surrogate.offset.device
    )
    after = process
    if len(pending):
        normals = pending.new_zeros(1, len(process.log_lengthscales), len(pending))
        after, _ = process.fantasize(
            pending, normals
        )  # outcomes as expected: means stay, deviations shrink
    # The threshold is the mean where the upper bound is highest, among all that was asked.
    asked = torch.cat([process.inputs, pending])
    mean, variance = process(asked)
    gain = -sign * mean[:, column]
    threshold = gain[(gain + _UCB_WIDTH * variance[:, column].sqrt()).argmax()]

    def score(inputs: Tensor) -> Tensor:
        mean, variance = after(inputs)
        gain, left = -sign * mean[:, column], variance[:, column].sqrt()
        missed = outputs.violation(surrogate.values(mean))
        if not explore:
            return gain + _UCB_WIDTH * left - _PENALTY * missed
        std = process(inputs)[1][:, column].sqrt() if len(pending) else left
        short = (threshold - gain - _PROMISING_WIDTH * std).clamp(min=0.0)
        return left - _PENALTY * (short + missed)

    return score
