"""Oracles from formulas on numpy arrays or torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from bo_invert.oracles.function import Function

if TYPE_CHECKING:
    import torch

Batch: TypeAlias = Any
"""Numpy array or torch tensor, shape ``(..., d)``; formulas use both without importing torch."""


def formula_oracle(
    formula: Callable[..., Batch], outputs: Sequence[str], differentiable: bool
) -> Function | torch.nn.Module:
    """Convert a formula to an oracle.

    Args:
        formula: map from vectors ``(n, d)`` to outputs ``(n, m)``; its keyword ``xp`` is the array
            library, numpy or torch.
        outputs: m names.
        differentiable: if True, the oracle is a torch module with gradients; else a plain function
            without torch.
    """
    if not differentiable:
        return Function(formula, outputs=list(outputs))
    from bo_invert.problems.examples.closed_form import Analytic

    return Analytic(formula)
