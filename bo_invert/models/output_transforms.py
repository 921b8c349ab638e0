"""Modelled outputs: outputs that a surrogate models, and their map to losses and constraints."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.outliers import clip_outliers
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Array

_HEAVY = 100.0
"""Ratio of the distances of the worst and the best loss from the median, from which a criterion of
``Pareto`` may be warped. Engineering choice: ratios of test functions are below 10."""


class ModelledOutputs:
    """Modelled outputs of n outcomes: those that objective and constraints read.

    For a ``Composite`` that is not differentiable by torch, the loss is modelled instead, beside
    the outputs that constraints read.

    Args:
        statement: Problem statement.
        y: Observed outputs, shape ``(n, m)``.
        losses: Observed losses, shape ``(n,)``.

    Attributes:
        columns: Positions of the modelled outputs among the m outputs.
        modelled_losses: Number of losses among the modelled outputs, which come first: 1 if the
            loss is modelled, the number of criteria for ``Pareto``.
        values: Modelled outputs without outliers, shape ``(n, c)``.
        loss_gap: Difference between the median loss and the best one.
    """

    def __init__(self, statement: ProblemStatement, y: Array, losses: Array) -> None:
        self.statement = statement
        self.m = y.shape[1]
        objective = statement.objective
        self.composite = objective.structured and _is_differentiable(objective, y, losses)
        self.modelled_losses = self._count_losses()
        read = [] if self.modelled_losses else _read_columns(objective, self.m)
        self.columns = sorted({*read, *(c.index for c in statement.constraints)})
        modelled, losses = clip_outliers(y[:, self.columns]), clip_outliers(losses[:, None])[:, 0]
        self.values: Array = modelled
        if self.modelled_losses:
            own = clip_outliers(objective.losses(y)) if isinstance(objective, Pareto) else losses
            self.values = np.column_stack([own, modelled])
        # The embedding restores all m outputs, with zeros for those that nothing reads.
        self._embedding: Tensor | None = None
        if self.columns != list(range(self.m)):
            embedding = np.equal.outer(self.columns, np.arange(self.m))
            self._embedding = torch.tensor(embedding, dtype=torch.float64)
        self.loss_gap = float(np.median(losses) - losses.min()) or float(losses.std()) or 1.0
        # Constant outputs have scale 1, so that their excesses stay finite.
        spread = modelled.std(axis=0)
        self._scales = dict(zip(self.columns, np.where(spread > 0, spread, 1.0), strict=True))

    @property
    def loss_column(self) -> tuple[int, float] | None:
        """Modelled output that is the loss, and its sign; None if there is none.

        There is none for composite losses, for constrained outputs and for principal components.
        """
        constrained = {self.column(c.index) for c in self.statement.constraints}
        many = self.values.shape[1] > MAX_INDEPENDENT_OUTPUTS
        several = self.composite or isinstance(self.statement.objective, Pareto)
        none = several or many or self._loss_term[0] in constrained
        return None if none else self._loss_term

    @property
    def loss_position(self) -> int:
        """Modelled value that is the loss up to its sign; not defined for composite losses."""
        return self._loss_term[0]

    @property
    def warp_directions(self) -> tuple[int, ...]:
        """Direction of bad values of each modelled output: 1 high, -1 low, 0 unknown."""
        # Constrained outputs and those of a composite have no direction of their own.
        directions = [0] * int(self.values.shape[1])
        objective = self.statement.objective
        if isinstance(objective, Pareto):
            # A warp also bends the hypervolume, so only the heaviest tails are warped.
            for column, sign in zip(self.criteria_columns or (), objective.signs, strict=False):
                directions[column] = int(sign) * _has_heavy_tail(sign * self.values[:, column])
            # Far outputs also bend the model near the bound of a constraint.
            for column in {self.column(one.index) for one in self.statement.constraints}:
                own = self.values[:, column]
                directions[column] = _has_heavy_tail(own) - _has_heavy_tail(-own)
        elif not self.composite:
            column, sign = self._loss_term
            directions[column] = int(sign)
        return tuple(directions)

    @property
    def names(self) -> list[str]:
        """Names of the modelled outputs."""
        names = [self.statement.outputs[column] for column in self.columns]
        labels = getattr(self.statement.objective, "labels", ("loss",))
        return [*labels, *names] if self.modelled_losses else names

    def constraint_bounds(self, like: Tensor) -> list[tuple[int, float, Tensor]]:
        """Return constraints as (column, sense, bound): ``sense * (value - bound) <= 0``.

        A bound is a constant row ``(c,)``, so that it can be transformed like modelled outputs.
        """
        return [
            (
                self.column(c.index),
                1.0 if c.sense == "<=" else -1.0,
                like.new_full((self.values.shape[1],), c.bound),
            )
            for c in self.statement.constraints
        ]

    def loss(self, modelled: Tensor) -> Tensor:
        """Return losses ``(...)`` of modelled outputs ``(..., c)``."""
        objective = self.statement.objective
        if self.modelled_losses and isinstance(objective, Pareto):
            scaled: Tensor = modelled[..., : self.modelled_losses] / modelled.new_tensor(
                objective.scale
            )
            return scaled.mean(-1)
        if self.modelled_losses:
            return modelled[..., 0]
        loss: Tensor = self.statement.objective.loss(self.raw(modelled))
        return loss

    def criteria(self, modelled: Tensor) -> Tensor:
        """Return the losses ``(..., q)`` of the criteria of a ``Pareto`` objective."""
        objective = self.statement.objective
        assert isinstance(objective, Pareto)
        if self.modelled_losses:
            return modelled[..., : self.modelled_losses]
        losses: Tensor = objective.losses(self.raw(modelled))
        return losses

    @cached_property
    def criteria_columns(self) -> list[int] | None:
        """Modelled outputs that are plus or minus the criteria of ``Pareto``.

        None if a criterion is another function, or its output has two roles.
        """
        objective = self.statement.objective
        if not isinstance(objective, Pareto) or self.modelled_losses:
            return None
        indices = [getattr(one, "index", None) for one in objective.objectives]
        constrained = {constraint.index for constraint in self.statement.constraints}
        if None in indices or len(set(indices)) < len(indices) or constrained & set(indices):
            return None
        return [self.column(index) for index in indices if index is not None]

    def constraint_excesses(self, modelled: Tensor) -> list[Tensor]:
        """Return the excesses ``(...)`` of modelled outputs ``(..., c)``, one per constraint.

        They are in standard deviations of the output; values <= 0 satisfy the constraint.
        """
        raw = self.raw(modelled)
        return [self._excess(raw, constraint) for constraint in self.statement.constraints]

    def constraint_excess(self, modelled: Tensor, number: int) -> Tensor:
        """Return the excess ``(...)`` of one constraint, as ``constraint_excesses`` does."""
        return self._excess(self.raw(modelled), self.statement.constraints[number])

    def violation(self, modelled: Tensor) -> Tensor:
        """Return the sum of positive excesses ``(...)`` of modelled outputs ``(..., c)``."""
        # Scaled excesses of different constraints are comparable and can be summed.
        positive = [excess.clamp(min=0.0) for excess in self.constraint_excesses(modelled)]
        return torch.stack(positive).sum(0) if positive else torch.zeros_like(modelled[..., 0])

    def column(self, output: int) -> int:
        """Return the position of an output among the modelled ones."""
        return self.columns.index(output) + self.modelled_losses

    def _count_losses(self) -> int:
        objective = self.statement.objective
        if self.composite or not objective.structured:
            return 0
        return len(objective.objectives) if isinstance(objective, Pareto) else 1

    @cached_property
    def _loss_term(self) -> tuple[int, float]:
        """Modelled output that is the loss up to its sign, and the sign."""
        if self.modelled_losses:
            return 0, 1.0
        index = _read_columns(self.statement.objective, self.m)[0]
        # The loss of a unit vector is the sign of a plain objective.
        unit_loss = float(self.statement.objective.loss(np.eye(self.m)[index]))
        return self.column(index), 1.0 if unit_loss > 0 else -1.0

    def _excess(self, raw: Tensor, constraint: OutcomeConstraint) -> Tensor:
        """Return the excess ``(...)`` of outputs ``(..., m)`` in standard deviations."""
        excess: Tensor = constraint.excess(raw) / float(self._scales[constraint.index])
        return excess

    def raw(self, modelled: Tensor) -> Tensor:
        """Return all outputs ``(..., m)``, zero for those that nothing reads."""
        picked = modelled[..., self.modelled_losses :]
        return picked if self._embedding is None else picked @ self._embedding.to(picked)


def _has_heavy_tail(values: Array) -> int:
    """Return 1 if the highest of values ``(n,)`` is far from the others, else 0."""
    low, middle, high = np.quantile(values, (0.0, 0.5, 1.0))
    return int(high - middle > _HEAVY * (middle - low))


def _read_columns(objective: Objective, m: int) -> Sequence[int]:
    """Return the outputs that an objective reads; all of them if it does not name any."""
    if not objective.structured and hasattr(objective, "index"):
        return [objective.index]
    indices: Sequence[int] | None = getattr(objective, "indices", None)
    return range(m) if indices is None else indices


def _is_differentiable(objective: Objective, y: Array, losses: Array) -> bool:
    """Return whether torch computes the observed losses, in batches and with finite gradients."""
    # The observed losses are the reference for values, batching and gradients.
    sample = torch.tensor(y[None], dtype=torch.float64, requires_grad=True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a numpy function on a tensor warns before it fails
            result = objective.loss(sample)
            (gradient,) = torch.autograd.grad(result.sum(), sample)
        return result.shape == sample.shape[:-1] and bool(
            np.allclose(result.detach().numpy()[0], losses, rtol=1e-6, atol=1e-9)
            and gradient.isfinite().all()
        )
    except Exception:  # a user's function may raise anything on tensors
        return False
