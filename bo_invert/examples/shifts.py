"""Where the optimum of a shifted test function lies: a new spot for every seed."""

from __future__ import annotations

import numpy as np

from bo_invert.types import Array


def generator(name: str, seed: int) -> np.random.Generator:
    """The generator of a problem, its own by name: a search with the same seed does not draw the same numbers."""
    return np.random.default_rng([seed, *name.encode()])


def spot(rng: np.random.Generator, size: int) -> Array:
    """Unit coordinates ``(size,)`` well inside a box and away from its middle: in [.15, .4] or [.6, .85] each.

    Many searches begin with the middle, and many functions have their optimum there; neither should meet by design.
    """
    return 0.5 + rng.choice((-1.0, 1.0), size) * rng.uniform(0.1, 0.35, size)
