"""Sums over told points that grow with the log: only what is new is summed. numpy only."""

from __future__ import annotations

import threading

import numpy as np

from bo_invert.models.linear.sphere import Chart
from bo_invert.types import Array

#: Points whose features are summed at a time.
_BLOCK = 64


class Grams:
    """Gram matrices of the features, ``(D + 1, D + 1)``, summed in blocks, and the last few sums kept.

    Most asks see the points of the ask before and a few more, and pay for those only. The order of summation does not
    depend on what is kept, so neither does any bit of the result.
    """

    def __init__(self, kept: int = 4) -> None:
        self.kept = kept
        self.lock = threading.Lock()
        self.sums: list[tuple[Chart, Array, Array]] = []

    def __call__(self, chart: Chart, points: Array) -> Array:
        whole = len(points) - len(points) % _BLOCK
        start, total = self._longest(chart, points)
        if start < whole:
            total = total.copy()
            for first in range(start, whole, _BLOCK):
                block = chart.lift(points[first : first + _BLOCK])
                total += block.T @ block
            with self.lock:
                self.sums = [(chart, points[:whole].copy(), total), *self.sums[: self.kept - 1]]
        rest = chart.lift(points[whole:])
        return np.asarray(total + rest.T @ rest)

    def _longest(self, chart: Chart, points: Array) -> tuple[int, Array]:
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


gram_of = Grams()
