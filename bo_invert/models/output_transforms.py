"""Which numbers of a told outcome are modelled, and how samples of them become a loss and constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import Array

_HUGE, _ABSURD = 1e100, 1e9
"""Largest magnitude of a modelled number in its units, and largest distance from the median in
multiples of the interquartile range. Engineering choice: the squares of larger numbers overflow, or
leave no digits for the others."""


class ModelledOutputs:
    """The modelled numbers of n outcomes: the raw outputs that objective and constraints read.

    A ``Composite`` whose function cannot take tensors is the exception: then its loss is modelled instead, beside
    the outputs that constraints read.

    Args:
        statement: of the problem.
        y: told raw outputs, shape ``(n, m)``.
        losses: shape ``(n,)``.
    """

    def __init__(self, statement: ProblemStatement, y: Array, losses: Array) -> None:
        self.statement = statement
        self.m = y.shape[1]
        self.composite = statement.objective.structured and _is_differentiable(
            statement.objective.loss, y, losses
        )
        constrained = [constraint.index for constraint in statement.constraints]
        self.models_loss = statement.objective.structured and not self.composite
        read = [] if self.models_loss else _read_columns(statement.objective, self.m)
        self.columns = sorted({*read, *constrained})
        modelled, losses = clip_outliers(y[:, self.columns]), clip_outliers(losses[:, None])[:, 0]
        self.values: Array = np.column_stack([losses, modelled]) if self.models_loss else modelled
        """What the surrogate is fitted to, shape ``(n, c)``."""
        place = np.zeros((len(self.columns), self.m))
        place[np.arange(len(self.columns)), self.columns] = 1.0
        self._place = (
            None
            if self.columns == list(range(self.m))
            else torch.tensor(place, dtype=torch.float64)
        )
        self.loss_gap = float(np.median(losses) - losses.min()) or float(losses.std()) or 1.0
        """What lies between a usual loss and the best one."""
        spread = modelled.std(axis=0)
        self._scales = dict(zip(self.columns, np.where(spread > 0, spread, 1.0), strict=True))

    @property
    def loss_column(self) -> tuple[int, float] | None:
        """The modelled number that is the loss, and its sign; None where the loss is more, or constrained itself."""
        if self.composite:
            return None
        column = 0 if self.models_loss else self.column(self._index)
        if (
            any(self.column(c.index) == column for c in self.statement.constraints)
            or self.values.shape[1] > MAX_INDEPENDENT_OUTPUTS
        ):
            return None
        return column, self._sign

    @property
    def target_terms(self) -> tuple[list[int], Array, Array] | None:
        """Of a ``Target`` whose outputs are modelled one by one: modelled numbers, wanted values and scales.

        None for anything else, and where an output of the target is constrained too.
        """
        target = self.statement.objective
        if (
            self.models_loss
            or not isinstance(target, Target)
            or self.values.shape[1] > MAX_INDEPENDENT_OUTPUTS
        ):
            return None
        if {constraint.index for constraint in self.statement.constraints} & set(target.indices):
            return None
        columns = [self.column(index) for index in target.indices]
        return columns, np.array(target.value), np.array(target.scale)

    @property
    def warp_directions(self) -> tuple[int, ...]:
        """For each modelled number 1 where high values are bad, -1 where low ones are, 0 where it depends."""
        tails = [0] * int(self.values.shape[1])
        if not self.composite:
            tails[0 if self.models_loss else self.column(self._index)] = int(self._sign)
        return tuple(tails)

    def constraint_bounds(self, like: Tensor) -> list[tuple[int, float, Tensor]]:
        """Constraints as (modelled number, sense, bound as a row ``(c,)``): ``sense * (number - bound) <= 0``."""
        return [
            (
                self.column(c.index),
                1.0 if c.sense == "<=" else -1.0,
                like.new_full((self.values.shape[1],), c.bound),
            )
            for c in self.statement.constraints
        ]

    def loss(self, modelled: Tensor) -> Tensor:
        """Loss ``(...)`` of modelled numbers ``(..., c)``."""
        if self.models_loss:
            return modelled[..., 0]
        loss: Tensor = self.statement.objective.loss(self._raw(modelled))
        return loss

    @property
    def constraint_excesses(self) -> list[Callable[[Tensor], Tensor]]:
        """One function per constraint, from ``(..., c)`` to ``(...)`` in units of the output's spread; <= 0 is fine."""
        return [self._excess(constraint) for constraint in self.statement.constraints]

    def violation(self, modelled: Tensor) -> Tensor:
        """Sum of what constraints are missed by ``(...)``, for modelled numbers ``(..., c)``."""
        missed = [excess(modelled).clamp(min=0.0) for excess in self.constraint_excesses]
        return torch.stack(missed).sum(0) if missed else torch.zeros_like(modelled[..., 0])

    @property
    def _sign(self) -> float:
        return (
            1.0
            if self.models_loss
            or float(self.statement.objective.loss(np.eye(self.m))[self._index]) > 0
            else -1.0
        )

    @property
    def _index(self) -> int:
        return int(_read_columns(self.statement.objective, self.m)[0])

    def column(self, output: int) -> int:
        """Which modelled number stands for an output."""
        return self.columns.index(output) + int(self.models_loss)

    def _excess(self, constraint: Any) -> Callable[[Tensor], Tensor]:
        scale = float(self._scales[constraint.index])

        def excess(modelled: Tensor) -> Tensor:
            result: Tensor = constraint.excess(self._raw(modelled)) / scale
            return result

        return excess

    def _raw(self, modelled: Tensor) -> Tensor:
        """Raw outputs ``(..., m)``, zero where nothing reads them."""
        picked = modelled[..., 1:] if self.models_loss else modelled
        return picked if self._place is None else picked @ self._place.to(picked)


def _read_columns(objective: Any, m: int) -> Sequence[int]:
    """Outputs that an objective reads; all of them when it does not say."""
    if getattr(objective, "indices", None) is not None:
        return list(objective.indices)
    if not objective.structured and hasattr(objective, "index"):
        return [objective.index]
    return range(m)


def _is_differentiable(loss: Callable[[Any], Any], y: Array, losses: Array) -> bool:
    """Whether a loss works on a batch of tensors, lets gradients through, and agrees with what was told."""
    sample = torch.tensor(y[None], dtype=torch.float64, requires_grad=True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a numpy function on a tensor warns before it fails
            result = loss(sample)
            (gradient,) = torch.autograd.grad(result.sum(), sample)
        return result.shape == sample.shape[:-1] and bool(
            np.allclose(result.detach().numpy()[0], losses, rtol=1e-6, atol=1e-9)
            and gradient.isfinite().all()
        )
    except Exception:
        return False


def clip_outliers(values: Array) -> Array:
    """Values ``(n, c)`` without absurd ones, whose squares overflow or beside which all others are alike.

    Some oracles answer 1e300 where they mean "no". Such values are drawn to within ``_ABSURD`` times the middle half's
    spread of the median, each column by itself.
    """
    finite = np.clip(values, -_HUGE, _HUGE)
    low, median, high = np.quantile(finite, [0.25, 0.5, 0.75], axis=0)
    reach = np.where(high > low, _ABSURD * (high - low), _HUGE)
    return np.clip(finite, median - reach, median + reach)
