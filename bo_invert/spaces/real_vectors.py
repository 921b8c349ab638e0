"""Vectors of real parameters as arrays: the usual designs of a box, without names and dicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.parameters import Float
from bo_invert.types import JSON, Array


class RealVectors:
    """Vectors of real parameters and their points ``(n, d)``; results equal those by name.

    Args:
        parameters: d real parameters.
    """

    def __init__(self, parameters: Sequence[Float]) -> None:
        ends = [parameter.edges() for parameter in parameters]
        self._lower = np.array([low for low, _ in ends], dtype=float)
        self._width = np.array([high - low for low, high in ends], dtype=float)
        self._limits = np.array([(p.low, p.high) for p in parameters], dtype=float).T
        self._logarithmic = [i for i, parameter in enumerate(parameters) if parameter.log]

    def decode(self, points: Array) -> Array:
        t = self._lower + np.minimum(np.maximum(points, 0.0), 1.0) * self._width
        for i in self._logarithmic:
            t[:, i] = np.exp(t[:, i].copy())
        low, high = self._limits
        found: Array = np.minimum(np.maximum(t, low), high)
        return found

    def valid(self, designs: object) -> Array | None:
        """Return designs that are an array ``(n, d)`` within the bounds; None for all others."""
        if type(designs) is not np.ndarray or designs.dtype != np.float64 or designs.ndim != 2:
            return None
        low, high = self._limits
        inside = designs.shape[1] == len(low) and ((low <= designs) & (designs <= high)).all()
        return designs if inside else None

    def encode(self, designs: Array) -> Array:
        v = designs.copy()
        for i in self._logarithmic:
            v[:, i] = np.log(v[:, i].copy())
        found: Array = (v - self._lower) / self._width
        return found

    def exact(self, designs: Array, points: Array) -> list[JSON]:
        """Return the designs that differ from the decodings of their points, None for others."""
        decoded = self.decode(points)
        same = (decoded == designs) & (np.signbit(decoded) == np.signbit(designs))
        return [
            None if equal else row
            for equal, row in zip(same.all(axis=1).tolist(), designs.tolist(), strict=True)
        ]
