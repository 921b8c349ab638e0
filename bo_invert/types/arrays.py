"""Types of arrays, JSON values and designs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
"""Positions in an array."""
Mask = NDArray[np.bool_]
"""Selection of the entries of an array."""
JSON = Any
"""Value that ``json.dumps`` accepts: dict, list, str, int, float, bool, None."""
Design: TypeAlias = Any
"""One input of an oracle: a vector, an image, a text, a dict, a tensor or another user object."""
Designs: TypeAlias = Any
"""Batch of n designs with a length: a list, an array ``(n, ...)``, a tensor or a data frame."""


def frozen(values: ArrayLike) -> Array:
    """Return a read-only float64 copy of ``values``."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array
