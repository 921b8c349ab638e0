"""Values and derivatives of observations, as data of a Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.gp.output_warp import Warp, threshold_candidates

_MAX_ROWS = 1600
"""Largest number of values and derivatives in a posterior. Engineering choice: C has its square as
entries, and an ask takes about a second."""
LEAST_POINTS = 8
"""Least number of observations in a fit. Engineering choice: fewer say little of lengthscales."""


@dataclass(frozen=True, eq=False)
class DerivativeData:
    """Standardised values and derivatives of n observations.

    Args:
        inputs: Unit inputs, shape ``(n, d)``.
        values: Values, shape ``(n,)``.
        slopes: Derivatives along the directions, shape ``(n, p)``; NaN where none were measured.
        directions: Orthonormal directions V in unit inputs, shape ``(p, d)``.
    """

    inputs: Tensor
    values: Tensor
    slopes: Tensor
    directions: Tensor

    @staticmethod
    def of(inputs: Tensor, values: Tensor, gradients: Tensor) -> DerivativeData:
        """Return the data of gradients ``(n, d)``, projected if they are too many.

        Args:
            inputs: Unit inputs, shape ``(n, d)``.
            values: Values, shape ``(n,)``.
            gradients: Gradients in unit inputs, shape ``(n, d)``; NaN where none were measured.
        """
        n, d = inputs.shape
        count = max(1, min(d, _MAX_ROWS // n - 1))
        directions = torch.eye(d).to(inputs)
        if count < d:
            # Unit gradients count alike, so that a few steep points do not decide alone.
            unit = torch.nn.functional.normalize(gradients[~gradients.isnan().any(1)])
            directions = torch.linalg.svd(unit, full_matrices=False).Vh[:count]
        return DerivativeData(inputs, values, gradients @ directions.T, directions)

    @property
    def measured(self) -> Tensor:
        """Positions of the derivatives in the flattened slopes, shape ``(g,)``."""
        return (~self.slopes.isnan()).flatten().nonzero().squeeze(-1)

    @property
    def targets(self) -> Tensor:
        """Values, then derivatives, shape ``(N,)``."""
        return torch.cat([self.values, self.slopes.flatten()[self.measured]])

    def select(self, rows: Tensor) -> DerivativeData:
        """Return some of the observations."""
        return DerivativeData(
            self.inputs[rows], self.values[rows], self.slopes[rows], self.directions
        )

    def evenly_spaced(self, rows: int) -> Tensor:
        """Return observations evenly spaced from the best value to the worst one.

        Args:
            rows: Largest number of their values and derivatives.
        """
        size = min(len(self.values), max(LEAST_POINTS, rows // (1 + len(self.directions))))
        # All ranks are in single precision, whatever the default type.
        ranks = torch.linspace(0, len(self.values) - 1, size, dtype=torch.float32).round().long()
        return self.values.argsort(stable=True)[ranks]

    def warped(self, share: float) -> tuple[DerivativeData, float]:
        """Compress high values; return standardised data, and the log of the Jacobian.

        Args:
            share: Share of the values below the threshold of the warp; 0 for no warp.
        """
        thresholds = threshold_candidates(self.values, 1.0, (share,)) if share > 0.0 else []
        if not thresholds:
            return self, 0.0
        one = self.values.new_ones(1)
        warp = Warp(one, self.values.min()[None], thresholds[0] * one)
        values = warp(self.values[:, None])[:, 0]
        unit = values.std(correction=0)
        log_slopes = warp.log_slope(self.values[:, None])[:, 0] - unit.log()
        count = 1 + (~self.slopes.isnan()).sum(1)
        data = DerivativeData(
            self.inputs, (values - values.mean()) / unit,
            self.slopes * log_slopes.exp()[:, None], self.directions,
        )  # fmt: skip
        return data, float((count * log_slopes).sum())

    def with_values(self, inputs: Tensor, values: Tensor) -> DerivativeData:
        """Add values ``(q,)`` without derivatives at inputs ``(q, d)``."""
        nothing = self.slopes.new_full((len(inputs), self.slopes.shape[1]), torch.nan)
        return DerivativeData(
            torch.cat([self.inputs, inputs]), torch.cat([self.values, values]),
            torch.cat([self.slopes, nothing]), self.directions,
        )  # fmt: skip
