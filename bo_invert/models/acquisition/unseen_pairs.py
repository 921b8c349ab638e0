"""Prior variance of pairs of values of choices that occur in no observation.

A surrogate that has seen only sums of effects of single choices is certain that there is nothing
else. Two values that have an effect only together are then never tried together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bo_invert.models.acquisition.added_variance import AddedVariance
from bo_invert.models.array_module import A, array_module, as_array, matching
from bo_invert.models.gp.mixed_kernel import ColumnStructure
from bo_invert.types import Array, Indices

_SHARE = 0.75
"""Variance of a design with no seen pair, in units of the variance of the observed outputs.
Engineering choice: development problems of six choices, 60 seeds of experiments/mixed_tasks.py."""


@dataclass(frozen=True, eq=False)
class UnseenPairs(AddedVariance):
    """Variance ``v(x) = s u(x) / p`` of u unseen ones among the p pairs of values of a design.

    A pair is seen if one known input has both values (covering arrays, Cohen et al. 1997).

    Args:
        structure: Columns of the inputs, with at least two choices.
        known: Observed and pending unit inputs, shape ``(n, d)``.
    """

    structure: ColumnStructure
    known: Array

    def __call__(self, inputs: A) -> A:
        values = self._one_hot(as_array(inputs))
        count = len(self.structure.choices)
        # Each pair occurs twice in the quadratic form.
        unseen = 0.5 * ((values @ self._unseen) * values).sum(1)
        return matching(_SHARE * unseen[:, None] / (0.5 * count * (count - 1)), inputs)

    def gradient(self, inputs: A, upstream: A) -> A:
        # Choices have no derivative.
        zeros: A = array_module(inputs).zeros_like(inputs)
        return zeros

    def on_host(self) -> UnseenPairs:
        return self

    @cached_property
    def _unseen(self) -> Array:
        """1 for values of two choices that no known input has together, shape ``(e, e)``."""
        values = self._one_hot(self.known)
        others = self._owner[:, None] != self._owner[None]
        return np.asarray(((values.T @ values == 0.0) & others).astype(float))

    @cached_property
    def _owner(self) -> Indices:
        """Number of the choice of each value, shape ``(e,)``."""
        sizes = [max(len(columns), 2) for columns in self.structure.choices]
        return np.repeat(np.arange(len(sizes)), sizes)

    def _one_hot(self, inputs: Array) -> Array:
        """Return indicators ``(b, e)`` of the values of all choices."""
        parts = []
        for columns in self.structure.choices:
            own = inputs[:, list(columns)]
            # A choice of two values has one column.
            index = own.argmax(1) if len(columns) > 1 else (own[:, 0] > 0.5).astype(int)
            parts.append(np.eye(max(len(columns), 2))[index])
        return np.concatenate(parts, axis=1)
