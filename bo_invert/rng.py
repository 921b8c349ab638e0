"""Random numbers that depend on a seed and a key, never on a hidden generator."""

from __future__ import annotations

import numpy as np

#: Keys of the streams that stay the same over all asks of a study live apart from the asks' own keys.
_STREAM = 0xB0


def ask_generator(seed: int, number: int) -> np.random.Generator:
    """The generator of ask ``number`` of a study with this ``seed``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def stream_generator(seed: int, *key: int) -> np.random.Generator:
    """A generator that is the same at every ask: the ``key``-th stream of a study."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, len(key), *key)))


def draw_seed(rng: np.random.Generator) -> int:
    """A non-negative 31-bit integer, for libraries that want an integer seed."""
    return int(rng.integers(2**31 - 1))
