"""Random forest as a surrogate of oracles that answer in steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.models.base import to_unit
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Array, Mask

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeRegressor

_TREES, _FEWEST_TREES = 50, 20
"""Largest and least number of trees. Engineering choice: more trees hardly change the moments."""
_FITTED = 6000
"""Observations times trees, above which there are fewer trees. Engineering choice: bounds the cost.
Each tree of many observations is more precise."""
_FEATURES = 5.0 / 6.0
"""Share of the inputs that a split considers (Hutter, Hoos & Leyton-Brown 2011, section 4.1)."""

_LARGE = 1e30
"""Largest magnitude of features in their units. Engineering choice: trees read single precision."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Fitted regression trees; each one is a sample of the function.

    Args:
        trees: Trees of standardised values.
        offset: Mean of the values, shape ``(c,)``.
        spread: Standard deviation of the values, shape ``(c,)``.
        observed: Inputs of the fit, shape ``(n, d)``.
        out_of_bag: For each tree the observations outside of its bootstrap sample, shape
            ``(t, n)``.
    """

    trees: list[DecisionTreeRegressor]
    offset: Array
    spread: Array
    observed: Array
    out_of_bag: Mask

    def samples(self, inputs: Array) -> Array:
        """Return the values ``(t, b, c)`` of each tree at inputs ``(b, d)``."""
        inputs = np.asarray(inputs, dtype=np.float32)
        shape = len(inputs), len(self.offset)
        # ``tree_`` leaves out the checks of the wrapper, which take most of the time.
        scaled = np.stack([tree.tree_.predict(inputs).reshape(shape) for tree in self.trees])
        return np.asarray(self.offset + self.spread * scaled)

    def left_out_mean(self) -> Array:
        """Return the mean ``(n, c)`` at each observed input over the trees without it.

        An observation in all bootstrap samples, which is rare, gets the mean over all trees.
        """
        weights = np.where(self.out_of_bag.any(axis=0), self.out_of_bag, True).astype(float)
        weights /= weights.sum(axis=0)
        return np.asarray((weights[:, :, None] * self.samples(self.observed)).sum(axis=0))


def fit_forest(inputs: Array, values: Array, seed: int) -> Forest:
    """Fit a random forest (Breiman 2001): bagged trees with one value in each leaf.

    Args:
        inputs: Finite inputs, shape ``(n, d)``.
        values: Finite values, shape ``(n, c)``.
        seed: Seed of the bootstrap samples and of the splits.
    """
    from sklearn.ensemble import RandomForestRegressor

    # A split compares squared errors over all outputs, which need equal scales.
    offset, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    trees = int(np.clip(_FITTED // len(inputs), _FEWEST_TREES, _TREES))
    forest = RandomForestRegressor(trees, max_features=_FEATURES, random_state=seed)
    scaled = (values - offset) / spread
    forest.fit(np.asarray(inputs, dtype=np.float32), scaled if len(offset) > 1 else scaled[:, 0])
    outside = np.ones((trees, len(inputs)), dtype=bool)
    for row, chosen in zip(outside, forest.estimators_samples_, strict=True):
        row[chosen] = False
    return Forest(forest.estimators_, offset, spread, inputs, outside)


def forest_inputs(statement: ProblemStatement) -> Callable[[Array], Array]:
    """Return the function from points ``(n, d)`` to inputs of a forest, ``(n, p)``.

    These are the features of designs, if the space has any, and unit inputs otherwise.
    """
    features = statement.features
    if features is None:
        return lambda points: to_unit(statement.domain, points)

    def inputs(points: Array) -> Array:
        if not len(points):
            return np.empty((0, 0))
        rows = np.asarray(features(points), dtype=np.float64).reshape(len(points), -1)
        return np.asarray(np.nan_to_num(rows).clip(-_LARGE, _LARGE))

    return inputs
