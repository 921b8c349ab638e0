"""Oracles of formulas that work on numpy arrays and on torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bo_invert.oracles.function import Function


def formula_oracle(
    formula: Callable[..., Any], outputs: Sequence[str], differentiable: bool
) -> Any:
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
