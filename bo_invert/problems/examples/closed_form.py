"""Formulas that work on numpy arrays and on torch tensors, as differentiable oracles."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch


class Analytic(torch.nn.Module):
    """A batch of vectors ``(n, d)`` to outputs ``(n, m)`` in double precision.

    Args:
        formula: takes the batch and the module ``torch`` and returns the outputs.
    """

    def __init__(self, formula: Callable[[torch.Tensor, ModuleType], torch.Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))  # tells device and dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.formula(x, torch)
        return outputs
