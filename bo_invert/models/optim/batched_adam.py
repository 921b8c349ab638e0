"""Batched projected Adam for many small problems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bo_invert.models.optim.feasible_box import FeasibleRegion

# Kingma & Ba 2015: decay rates of both moments per step, and the term against division by 0 in
# units of the gradient.
_DECAY, _DECAY_SQUARE, _EPS = 0.9, 0.999, 1e-8


class BatchedAdam:
    """State of n independent minimisations by Adam (Kingma & Ba 2015), projected after each step.

    The caller evaluates ``points`` and calls ``update``. On devices other than the CPU, ``update``
    has fixed shapes and does not wait for the device. A row that has ended stays until ``select``.

    Args:
        start: Starts, shape ``(n, p)``.
        region: Feasible region.
        rates: Learning rates by step and row, shape ``(steps, n, 1)``; the last ones continue.

    Attributes:
        points: Positions to evaluate next, shape ``(n, p)``; not modified in place.
        running: False for rows that have met a value or gradient that is not finite, ``(n,)``.
        ended: Number of rows known to have ended; 0 on devices other than the CPU.
    """

    def __init__(self, start: Tensor, region: FeasibleRegion[Tensor], rates: Tensor) -> None:
        self.region, self._rates = region, rates
        self.points = region.project(start)
        self.running = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self.ended, self._host = 0, start.device.type == "cpu"
        self._mean, self._square = torch.zeros_like(self.points), torch.zeros_like(self.points)
        self._step = 0

    def update(self, values: Tensor, gradients: Tensor) -> None:
        """Set the next ``points`` from the values ``(n,)`` and gradients ``(n, p)``."""
        # A sum is finite only if all of its terms are.
        if not self._host or not math.isfinite(gradients.sum() + values.sum()):
            self.running = self.running & (gradients.sum(-1) + values).isfinite()
            # Rows without a gradient wait at a finite point to be dropped.
            gradients = gradients.nan_to_num(0.0, 0.0, 0.0)
            if self._host:
                self.ended = len(self.running) - int(self.running.sum())
        rates = self._rates[min(self._step, len(self._rates) - 1)]
        self._step += 1
        self._mean.lerp_(gradients, 1.0 - _DECAY)
        self._square.mul_(_DECAY_SQUARE).addcmul_(gradients, gradients, value=1.0 - _DECAY_SQUARE)
        # Both moments begin at 0; dividing by 1 - decay^step removes the bias.
        inverse = (1.0 - _DECAY**self._step) / rates
        root = self._square.sqrt().mul_(inverse / math.sqrt(1.0 - _DECAY_SQUARE**self._step))
        root.add_(inverse, alpha=_EPS)
        ahead = torch.addcdiv(self.points, self._mean, root, value=-1.0)
        self.points = self.region.project(ahead)

    def select(self, rows: Tensor) -> None:
        """Drop all rows but ``rows`` ``(a,)``."""
        self.points, self.running = self.points[rows], self.running[rows]
        self._mean, self._square = self._mean[rows], self._square[rows]
        self._rates, self.region = self._rates[:, rows], self.region.select(rows)
        self.ended = len(rows) - int(self.running.sum()) if self._host else 0
