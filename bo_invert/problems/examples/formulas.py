"""Oracles of formulas that work on numpy arrays and on torch tensors."""

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
    """The oracle of a formula.

    Args:
        formula: takes a batch of vectors ``(n, d)`` and, as ``xp``, the library of that array; answers ``(n, m)``.
        outputs: m names.
        differentiable: as a torch module, so that gradient methods can run; otherwise as a plain function, without
            importing torch.
    """
    if not differentiable:
        return Function(formula, outputs=list(outputs))
    from bo_invert.problems.examples.closed_form import Analytic

    return Analytic(formula)
