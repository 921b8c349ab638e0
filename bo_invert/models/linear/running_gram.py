"""Sums over told points that grow with the log: only what is new is summed. numpy only."""

from __future__ import annotations

import threading

import numpy as np

from bo_invert.models.linear.sphere import SphereProjection
from bo_invert.types import Array

#: Points whose features are summed at a time.
_BLOCK = 64


class RunningGram:
    """Gram matrices of the features, ``(D + 1, D + 1)``, summed in blocks, and the last few sums kept.

    Most asks see the points of the ask before and a few more, and pay for those only. The order of summation does not
    depend on what is kept, so neither does any bit of the result.
    """

    def __init__(self, max_sums: int = 4) -> None:
        self.max_sums = max_sums
        self.lock = threading.Lock()
        self.sums: list[tuple[SphereProjection, Array, Array]] = []

    def __call__(self, chart: SphereProjection, points: Array) -> Array:
        whole = len(points) - len(points) % _BLOCK
        start, total = self._longest(chart, points)
        if start < whole:
            total = total.copy()
            for first in range(start, whole, _BLOCK):
                block = chart.features(points[first : first + _BLOCK])
                total += block.T @ block
            with self.lock:
                self.sums = [(chart, points[:whole].copy(), total), *self.sums[: self.max_sums - 1]]
        rest = chart.features(points[whole:])
        return np.asarray(total + rest.T @ rest)

    def _longest(self, chart: SphereProjection, points: Array) -> tuple[int, Array]:
        """The largest kept sum of the first points, and how many they are."""
        with self.lock:
            sums = [
                (known, total)
                for owner, known, total in self.sums
                if owner == chart and len(known) <= len(points)
            ]
        for known, total in sorted(sums, key=lambda pair: -len(pair[0])):
            if np.array_equal(known, points[: len(known)]):
                return len(known), total
        return 0, np.zeros((chart.size + 1, chart.size + 1))


gram_of = RunningGram()
