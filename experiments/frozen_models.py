"""Regressors of frozen_regressors.py: scikit-learn's, converted to arrays that answer in < 1 ms.

scikit-learn's forests take 2 to 5 ms for one row, most of it for the start of each tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble
from sklearn.neural_network import MLPRegressor

from bo_invert.types import Array

Model = Callable[[Array], Array]
"""Function from inputs ``(n, d)`` to outputs ``(n, m)``."""

#: Number of trees of a forest, and of a boosted model for each output.
FOREST, BOOSTED = 100, 150
#: Learning rate of boosted trees, scikit-learn's default.
RATE = 0.1
#: Epochs of a network, and its L2 penalty.
EPOCHS, DECAY = 400, 1e-3


@dataclass(frozen=True, eq=False)
class Trees:
    """Sum of T decision trees with at most N nodes: ``offset + sum_t values[t, leaf_t]``.

    Args:
        feature: feature of each node, shape ``(T, N)``.
        threshold: a row goes left if its feature, in single precision, is not above it.
        left: index of the left child, shape ``(T, N)``; of a leaf, its own index.
        right: index of the right child, shape ``(T, N)``; of a leaf, its own index.
        values: contribution of each node, shape ``(T, N, m)``.
        offset: constant, shape ``(m,)``.
        depth: largest depth.
    """

    feature: NDArray[np.intp]
    threshold: Array
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    values: Array
    offset: Array
    depth: int

    def __call__(self, inputs: Array) -> Array:
        rows = np.asarray(inputs, dtype=np.float32)
        each, tree = np.arange(len(rows))[:, None], np.arange(len(self.left))
        node = np.zeros((len(rows), len(self.left)), dtype=np.intp)
        for _ in range(self.depth):
            down = rows[each, self.feature[tree, node]] <= self.threshold[tree, node]
            node = np.where(down, self.left[tree, node], self.right[tree, node])
        return np.asarray(self.offset + self.values[tree, node].sum(axis=1))

    @staticmethod
    def of(trees: Sequence[Any], values: Sequence[Array], offset: Array) -> Trees:
        """Convert trees of scikit-learn; ``values`` has the shape ``(nodes, m)`` for each."""
        count = max(tree.node_count for tree in trees)
        feature, left, right = (np.zeros((len(trees), count), dtype=np.intp) for _ in range(3))
        threshold = np.zeros((len(trees), count))
        padded = np.zeros((len(trees), count, len(offset)))
        for t, tree in enumerate(trees):
            nodes, leaf = np.arange(tree.node_count), tree.children_left < 0
            feature[t, nodes] = np.where(leaf, 0, tree.feature)
            threshold[t, nodes] = tree.threshold
            left[t, nodes] = np.where(leaf, nodes, tree.children_left)
            right[t, nodes] = np.where(leaf, nodes, tree.children_right)
            padded[t, nodes] = values[t]
        depth = max(tree.max_depth for tree in trees)
        return Trees(feature, threshold, left, right, padded, offset, depth)


@dataclass(frozen=True, eq=False)
class Network:
    """Fully connected network: standardized inputs, one activation, linear outputs.

    Args:
        mean: of the inputs, shape ``(d,)``.
        scale: of the inputs, shape ``(d,)``.
        weights: matrices of the layers.
        biases: vectors of the layers.
        activation: ``"relu"``, ``"tanh"`` or ``"logistic"``.
        centre: of the outputs, shape ``(m,)``.
        spread: of the outputs, shape ``(m,)``.
    """

    mean: Array
    scale: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str
    centre: Array
    spread: Array

    def __call__(self, inputs: Array) -> Array:
        h = (np.asarray(inputs, dtype=float) - self.mean) / self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = _ACTIVATIONS[self.activation](h @ weight + bias)
        return self.centre + self.spread * (h @ self.weights[-1] + self.biases[-1])


def _relu(h: Array) -> Array:
    return np.maximum(h, 0.0)


def _logistic(h: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * h)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": _relu,
    "tanh": np.tanh,
    "logistic": _logistic,
}


def fit_forest(x: Array, y: Array, seed: int, *, extra: bool) -> Trees:
    """Fit a random forest, or a forest of extra trees, to ``x`` ``(n, d)``, ``y`` ``(n, m)``."""
    kind = ensemble.ExtraTreesRegressor if extra else ensemble.RandomForestRegressor
    forest = kind(FOREST, min_samples_leaf=2, max_features=0.5, random_state=seed)
    forest.fit(x, y if y.shape[1] > 1 else y[:, 0])
    trees = [one.tree_ for one in forest.estimators_]
    return Trees.of(trees, [tree.value[:, :, 0] / FOREST for tree in trees], np.zeros(y.shape[1]))


def fit_boosted(x: Array, y: Array, seed: int, *, depth: int) -> Trees:
    """Fit gradient boosted trees to each output."""
    trees, values = [], []
    for j in range(y.shape[1]):
        model = ensemble.GradientBoostingRegressor(
            n_estimators=BOOSTED, learning_rate=RATE, max_depth=depth, subsample=0.7,
            random_state=seed,
        ).fit(x, y[:, j])  # fmt: skip
        for (one,) in model.estimators_:
            trees.append(one.tree_)
            values.append(RATE * one.tree_.value[:, :, 0] * np.eye(y.shape[1])[j])
    return Trees.of(trees, values, y.mean(axis=0))


def fit_network(x: Array, y: Array, seed: int, hidden: Sequence[int], activation: str) -> Network:
    """Fit a network of scikit-learn."""
    mean, centre = x.mean(axis=0), y.mean(axis=0)
    # A half of the data can hold one value of a column, or of an output, only.
    scale, spread = (np.where(v > 0.0, v, 1.0) for v in (x.std(axis=0), y.std(axis=0)))
    model = MLPRegressor(
        hidden_layer_sizes=hidden, activation=activation, alpha=DECAY, max_iter=EPOCHS,
        random_state=seed, learning_rate_init=0.005,
    )  # fmt: skip
    target = (y - centre) / spread
    model.fit((x - mean) / scale, target if y.shape[1] > 1 else target[:, 0])
    return Network(
        mean, scale, tuple(model.coefs_), tuple(model.intercepts_), activation, centre, spread
    )
