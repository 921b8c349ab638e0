"""GP-UCB with pure exploration (GP-UCB-PE), for batches and asynchronous queries.

Contal et al., ECML 2013, in the form of OSS Vizier's default (Song et al. 2024). The first query
after new data maximises the upper confidence bound. Further ones maximise the standard deviation,
given the pending points, where the optimum may be. No samples are needed, so pending points cost
little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.optim.score import Score
from bo_invert.models.output_transforms import ModelledOutputs

_UCB_WIDTH = 1.8
"""Standard deviations from the mean to the upper bound (Song et al. 2024)."""
_PROMISING_WIDTH = 0.5
"""Standard deviations from the mean to the bound of a promising region (Song et al. 2024)."""
_PENALTY = 10.0
"""Penalty per standard deviation of a violation (Song et al. 2024)."""


def ucb_pe(
    surrogate: Surrogate, outputs: ModelledOutputs, data: AcquisitionData, *, explore: bool
) -> Score:
    """Build the score of GP-UCB-PE for a loss that is linear in one output.

    With gain g and standard deviation s it is g + 1.8 s. To explore it is
    s - 10 max(0, t - g - 0.5 s); t is the mean gain at the highest upper bound. Predicted
    violations are penalised.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Modelled outputs with a ``loss_column``.
        data: Observed and pending points; pending ones reduce the standard deviation.
        explore: Maximise the standard deviation among promising points.
    """
    assert outputs.loss_column is not None
    column, sign = outputs.loss_column
    gp, like = surrogate.gp, surrogate.offset
    pending = torch.as_tensor(data.pending, dtype=like.dtype, device=like.device)
    # Outcomes equal to the mean leave means as they are and reduce standard deviations.
    normals = pending.new_zeros(1, len(gp.log_lengthscales), len(pending))
    after = gp.fantasize(pending, normals)[0] if len(pending) else gp
    # The threshold uses the data only, at observed and pending points.
    mean, variance = gp(torch.cat([gp.inputs, pending]))
    gain = -sign * mean[:, column]
    threshold = gain[(gain + _UCB_WIDTH * variance[:, column].sqrt()).argmax()]

    def score(inputs: Tensor) -> Tensor:
        mean, variance = after(inputs)
        gain, left = -sign * mean[:, column], variance[:, column].sqrt()
        violation = outputs.violation(surrogate.values(mean))
        if not explore:
            return gain + _UCB_WIDTH * left - _PENALTY * violation
        # The promising region uses the data only; pending points would shrink it.
        std = gp(inputs)[1][:, column].sqrt() if len(pending) else left
        short = (threshold - gain - _PROMISING_WIDTH * std).clamp(min=0.0)
        return left - _PENALTY * (short + violation)

    return score
