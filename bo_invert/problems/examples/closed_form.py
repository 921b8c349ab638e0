"""Differentiable oracles from formulas on torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch


class Analytic(torch.nn.Module):
    """Torch module of a formula from vectors ``(n, d)`` to outputs ``(n, m)``, in float64.

    Args:
        formula: map from the batch and the module ``torch`` to the outputs.
    """

    def __init__(self, formula: Callable[[torch.Tensor, ModuleType], torch.Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))  # holds device and dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.formula(x, torch)
