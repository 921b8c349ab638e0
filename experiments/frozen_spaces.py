"""Search spaces of frozen_regressors.py: vectors or classes, in boxes or latents of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from frozen_data import Data
from numpy.typing import NDArray

import bo_invert as bi
from bo_invert.types import Array

#: Share of the variance that the components of a latent explain, and limits of their number.
EXPLAINED, COMPONENTS = 0.9, (2, 12)
#: Limits of the count of one-hot numbers behind an argmax.
ONE_HOT = (16, 64)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def plain(designs: Any) -> Array:
    """Return designs that are the model's inputs, shape ``(n, d)``."""
    return np.asarray(designs, dtype=float)


@dataclass(frozen=True, eq=False)
class Components:
    """Decoder of principal components: ``clip(mean + scale * (codes @ axes))``.

    Args:
        mean: mean of the data, shape ``(d,)``.
        scale: standard deviations of the data, shape ``(d,)``.
        axes: principal axes of the standardized data, shape ``(k, d)``.
        low: lower bounds, shape ``(d,)``.
        high: upper bounds, shape ``(d,)``.
    """

    mean: Array
    scale: Array
    axes: Array
    low: Array
    high: Array

    def __call__(self, codes: Array) -> Array:
        return np.clip(self.mean + self.scale * (codes @ self.axes), self.low, self.high)

    def encode(self, designs: Any) -> Array:
        return ((np.asarray(designs, dtype=float) - self.mean) / self.scale) @ self.axes.T

    @staticmethod
    def of(rows: Array, scale: Array) -> Components:
        """Fit the components of data ``(n, d)``."""
        mean = rows.mean(axis=0)
        _, lengths, axes = np.linalg.svd((rows - mean) / scale, full_matrices=False)
        share = np.cumsum(lengths**2) / (lengths**2).sum()
        count = int(np.searchsorted(share, EXPLAINED)) + 1
        number = min(max(count, COMPONENTS[0]), COMPONENTS[1], rows.shape[1])
        # The sign of a principal axis is arbitrary: its largest entry becomes positive.
        top = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
        axes = axes * np.sign(top)[:, None]
        return Components(mean, scale, axes[:number], rows.min(axis=0), rows.max(axis=0))


def vectors(data: Data, *, latent: bool) -> tuple[Any, Any, Callable[[Any], Array]]:
    """Return a space of vectors, the real designs, and the reader of designs."""
    if not latent:
        return bi.Box(data.x.min(axis=0), data.x.max(axis=0)), data.x, plain
    decoder = Components.of(data.x, data.x.std(axis=0))
    codes = decoder.encode(data.x)
    return bi.Latent(decoder, codes.shape[1], decoder.encode, codes=codes), data.x, plain


@dataclass(frozen=True)
class OneHot:
    """Reader of ``positions`` classes out of ``classes``: texts, or one row of numbers each."""

    positions: int
    classes: int

    def __call__(self, designs: Any) -> Array:
        if isinstance(designs[0], str):
            index = np.array([[LETTERS.index(letter) for letter in text] for text in designs])
        else:
            index = self.argmax(np.asarray(designs, dtype=float))
        return np.eye(self.classes)[index].reshape(len(index), -1)

    def argmax(self, numbers: Array) -> NDArray[np.intp]:
        """Return the class of each position, shape ``(n, positions)``."""
        return numbers.reshape(-1, self.positions, self.classes).argmax(axis=2)

    def texts(self, numbers: Array) -> list[str]:
        return ["".join(LETTERS[i] for i in row) for row in self.argmax(numbers)]


@dataclass(frozen=True, eq=False)
class Texts:
    """Decoder of principal components of one-hot rows to texts."""

    components: Components
    alphabet: OneHot

    def __call__(self, codes: Array) -> list[str]:
        return self.alphabet.texts(self.components(codes))

    def encode(self, texts: Any) -> Array:
        return self.components.encode(self.alphabet(texts))


def classes(
    data: Data, rng: np.random.Generator, *, latent: bool, features: bool
) -> tuple[Any, Any, Callable[[Any], Array]]:
    """Return a space of classes, the real designs, and the reader of designs."""
    size, count = int(rng.choice([16, 24, 32, 48, 64])), int(rng.choice([3, 4, 5, 6, 8]))
    positions = max(2, min(data.x.shape[1], size // count))
    count = max(count, -(-ONE_HOT[0] // positions))
    columns = data.x[:, np.sort(rng.permutation(data.x.shape[1])[:positions])]
    cuts = np.quantile(columns, np.arange(1, count) / count, axis=0)
    index = (columns[:, None, :] > cuts[None]).sum(axis=1)
    names = np.array([rng.permutation(count) for _ in range(positions)])
    index = np.take_along_axis(names.T, index, axis=0)
    rows = np.eye(count)[index].reshape(len(index), -1)
    alphabet = OneHot(positions, count)
    if not latent:
        return bi.Box(np.zeros(rows.shape[1]), np.ones(rows.shape[1])), rows, alphabet
    decoder = Texts(Components.of(rows, np.ones(rows.shape[1])), alphabet)
    texts = alphabet.texts(rows)
    codes = decoder.encode(texts)
    readable = alphabet if features else None
    space = bi.Latent(decoder, codes.shape[1], decoder.encode, codes=codes, features=readable)
    return space, texts, alphabet
