"""Observed and pending points of an acquisition function, and the variance that they add."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.acquisition.added_variance import AddedVariance, MisfitVariance
from bo_invert.models.acquisition.unseen_pairs import UnseenPairs
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.types import Array, Mask

_MISFIT_RADIUS = 0.1
"""Correlation length of the model misfit in lengthscales. Engineering choice."""


@dataclass(frozen=True)
class AcquisitionData:
    """Data of an acquisition function.

    Args:
        losses: Observed losses, shape ``(n,)``.
        feasible: Mask of the observations that satisfy the constraints, shape ``(n,)``.
        pending: Pending unit inputs, shape ``(p, d)``.
        noisy: The oracle is noisy.
        use_misfit: The model misfit variance counts as a source of improvement.
        unseen: Variance of unseen pairs of values, instead of that of the misfit; None for none.
        inside: Mask of the observations that can be the incumbent, shape ``(n,)``: those inside the
            domain, with the fixed values of the ask; None for all.
    """

    losses: Array
    feasible: Mask
    pending: Array
    noisy: bool = False
    use_misfit: bool = False
    unseen: UnseenPairs | None = None
    inside: Mask | None = None


def added_variance(
    surrogate: Surrogate, data: AcquisitionData
) -> tuple[Tensor, AddedVariance | None]:
    """Return the misfit variance of an exact oracle: a constant ``(k,)``, and one that varies.

    An outcome contains structure that is too fine for the model, so it offers improvement.
    """
    misfit = surrogate.misfit_variance * (data.use_misfit and not data.noisy)
    if data.unseen is not None:
        return torch.zeros_like(misfit), data.unseen
    if not len(data.pending) or not bool(misfit.any()):
        return misfit, None
    gp = surrogate.gp
    lengthscales = gp.kernel.column_log_lengthscales(gp.log_lengthscales).exp()
    pending = torch.as_tensor(data.pending).to(misfit)
    return torch.zeros_like(misfit), MisfitVariance(misfit, pending, lengthscales, _MISFIT_RADIUS)
