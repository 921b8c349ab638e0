"""Exclusion of one combination of unordered choices from a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.gp.mixed_kernel import ColumnStructure, column_structure
from bo_invert.models.optim.score import DifferentiableScore, Score, SumScore, differentiable
from bo_invert.types import Array, Indices, Mask

_PENALTY = 1e15
"""Penalty of an excluded point. Engineering choice: log EI is -u^2 / 2 at u standard deviations,
and u may reach 1e6 where the surrogate is certain."""

Constrain = Callable[[Score], Score]


@dataclass(frozen=True, eq=False)
class ExcludedChoices(DifferentiableScore):
    """Penalty of the unit inputs that have the choices of one input; 0 for all others.

    Args:
        structure: Columns of the inputs.
        excluded: Unit input, shape ``(d,)``.
    """

    structure: ColumnStructure
    excluded: Array

    def matches(self, inputs: Array) -> Mask:
        """Return whether unit inputs ``(b, d)`` have the excluded choices, shape ``(b,)``."""
        columns = [column for own in self.structure.choices for column in own]
        # Valid coordinates of different values differ by at least 1/2.
        near = np.abs(inputs[:, columns] - self.excluded[columns]) < 0.25
        return np.asarray(near.all(axis=1))

    def values(self, inputs: Array) -> Array:
        return np.where(self.matches(inputs), -_PENALTY, 0.0)

    def gradient(self, inputs: Array, functions: Indices) -> tuple[Array, Array]:
        return self.values(inputs), np.zeros_like(inputs)


def without_choices(domain: Domain, constrain: Constrain, ranked: Array) -> tuple[Constrain, Array]:
    """Exclude the choices of the best point from a search.

    Args:
        domain: Search domain.
        constrain: Function from a score to a constrained one.
        ranked: Observed points, best first, shape ``(n, d)``.

    Returns:
        Function from a score to one with both constraint and penalty; and the other points, all if
        none is left or without unordered choices.
    """
    structure = column_structure(domain)
    if structure is None:
        return constrain, ranked
    inputs = to_unit(domain, ranked)
    penalty = ExcludedChoices(structure, inputs[0])
    others = ranked[~penalty.matches(inputs)]
    return (
        lambda score: SumScore(differentiable(constrain(score)), penalty),
        others if len(others) else ranked,
    )
