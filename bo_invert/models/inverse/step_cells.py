"""Cells of a stepwise function, on which its outputs are constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist
from torch import Tensor

from bo_invert.types import Array, Mask

_PAIRS = 4
"""Ties from which a function counts as stepwise. Engineering choice: more than chance or a bound of
the output gives."""
_LEAST, _MOST = 1e-2, 1e6
"""Range of the density of thresholds, per unit of a coordinate. Engineering choice: from no step in
the unit cube to steps of the size of rounding errors."""
_FITTED = 1000
"""Largest number of observations whose pairs are fitted. Engineering choice: half a million pairs
bound time and memory."""
_ITERATIONS = 60
"""Number of bisections of the logarithm of the density. Engineering choice: to rounding errors."""


@dataclass(frozen=True, eq=False)
class StepCells:
    """Probability that a point lies in the cell of an observation.

    Trees, and rounded outputs, have thresholds. If they are a Poisson process of the density
    lambda in each coordinate, two points have none between them with probability

        ``q = exp(-lambda sum_j |x_j - x'_j|)``

    (Lakshminarayanan, Roy & Teh 2014, of Mondrian trees). Their outputs are then equal.

    Args:
        inputs: Observed unit inputs, shape ``(n, d)``.
        hits: Mask of the observations that meet the target, shape ``(n,)``.
        density: Density lambda; infinite for an output without ties.
    """

    inputs: Array
    hits: Mask
    density: float

    @classmethod
    def fit(cls, inputs: Array, outputs: Array, hits: Mask) -> StepCells:
        """Estimate the density by maximum likelihood from the ties of the observations.

        The log likelihood ``-lambda sum_ties r + sum_others log(1 - exp(-lambda r))`` with the
        distances r of all pairs is concave. Of many observations, 1,000 spread over the log count.

        Args:
            inputs: Observed unit inputs, shape ``(n, d)``.
            outputs: Observed outputs, shape ``(n, c)``.
            hits: Mask of the observations that meet the target, shape ``(n,)``.
        """
        rows = np.linspace(0, len(inputs) - 1, min(len(inputs), _FITTED)).astype(int)
        distance = pdist(inputs[rows], "cityblock")
        # Equal sums in another order differ by rounding.
        scale = np.abs(outputs).max(0, initial=0.0) + 1e-300
        equal = pdist(outputs[rows] / scale, "chebyshev") <= 1e-12
        apart = distance > 0.0
        ties, others = distance[apart & equal], distance[apart & ~equal]
        if len(ties) < _PAIRS:
            return cls(inputs, hits, np.inf)
        low, high = np.log(_LEAST), np.log(_MOST)
        for _ in range(_ITERATIONS):
            middle = 0.5 * (low + high)
            rate = np.exp(middle)
            # d/d(lambda) of the log likelihood; r / (exp(lambda r) - 1) does not overflow as below.
            tails = np.exp(-rate * others)
            slope = (others * tails / -np.expm1(-rate * others)).sum() - ties.sum()
            low, high = (middle, high) if slope > 0.0 else (low, middle)
        return cls(inputs, hits, float(np.exp(low)))

    @property
    def stepwise(self) -> bool:
        """True if the observations have ties."""
        return bool(np.isfinite(self.density))

    def log_mixture(self, inputs: Tensor, log_acceptance: Tensor) -> Tensor:
        """Return the log probability ``(n,)`` of a hit, given that of another cell.

        ``log((1 - q) a + q [the nearest observation is a hit])``.

        Args:
            inputs: Unit inputs, shape ``(n, d)``.
            log_acceptance: Log probability a of a hit under a model, shape ``(n,)``.
        """
        if not self.stepwise:
            return log_acceptance
        nearest = cdist(inputs.detach().cpu().numpy(), self.inputs, "cityblock").argmin(1)
        centre = torch.as_tensor(self.inputs[nearest]).to(inputs)
        away = self.density * (inputs - centre).abs().sum(1)
        hit = torch.as_tensor(self.hits[nearest], device=inputs.device)
        other = log_acceptance + torch.log(-torch.expm1(-away.clamp(min=1e-12)))
        return torch.where(hit, torch.logaddexp(other, -away), other)
