"""Gram matrices of a growing log, updated block by block; numpy only."""

from __future__ import annotations

import threading

import numpy as np

from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.types import Array

_BLOCK = 64
"""Points per block of a sum. Engineering choice: small beside n, large enough for BLAS."""


class RunningGram:
    """Cache of Gram matrices Phi'Phi ``(D + 1, D + 1)`` of features Phi ``(n, D + 1)``.

    An ask usually adds few points to those of the previous one, and only these are summed. The
    order of summation does not depend on the cache, so the result is bit-identical without it.
    """

    def __init__(self, max_sums: int = 4) -> None:
        self.max_sums = max_sums
        self.lock = threading.Lock()
        self.sums: list[tuple[SphereProjection, Array, Array]] = []

    def __call__(self, projection: SphereProjection, points: Array) -> Array:
        """Return the Gram matrix of the features of points ``(n, d)``."""
        whole = len(points) - len(points) % _BLOCK
        start, total = self._longest(projection, points)
        if start < whole:
            # The copy protects cached sums, which other asks may continue.
            total = total.copy()
            for first in range(start, whole, _BLOCK):
                block = projection.features(points[first : first + _BLOCK])
                total += block.T @ block
            with self.lock:
                latest = projection, points[:whole].copy(), total
                self.sums = [latest, *self.sums[: self.max_sums - 1]]
        rest = projection.features(points[whole:])
        return np.asarray(total + rest.T @ rest)

    def _longest(self, projection: SphereProjection, points: Array) -> tuple[int, Array]:
        """Return the longest cached sum of the first points, and their number."""
        with self.lock:
            sums = sorted(self.sums, key=lambda entry: -len(entry[1]))
        # Equality of all points is checked: asks with other data share the cache.
        matches = (
            (len(known), total)
            for owner, known, total in sums
            if owner == projection and np.array_equal(known, points[: len(known)])
        )
        return next(matches, (0, np.zeros((projection.size + 1, projection.size + 1))))


gram_of = RunningGram()
"""Cache of this process."""
