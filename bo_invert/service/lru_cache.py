"""Least recently used cache of open studies, bounded by studies and trials."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

STUDIES = 256
"""Largest number of cached studies. Engineering choice: bounds the memory for headers."""
TRIALS = 400_000
"""Largest number of trials in all cached studies. Engineering choice: 1 GB at 2.5 kB a trial."""


class LRUCache(OrderedDict[Key, Value]):
    """Least recently used cache.

    Busy values and the value used last stay.

    Args:
        trials: returns the number of trials in a value.
        busy: returns whether a value is in use.
    """

    def __init__(
        self, trials: Callable[[Value], int], busy: Callable[[Value], bool] = lambda _: False
    ) -> None:
        super().__init__()
        self._trials = trials
        self._busy = busy

    def use(self, key: Key) -> Value | None:
        """Return the value of a key and mark it as used; None if there is none."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)

    def store(self, key: Key, value: Value) -> Value:
        """Return the value of a key, stored now if there is none; evict until the bounds hold."""
        stored = self.setdefault(key, value)
        self.move_to_end(key)
        sizes = {old: self._trials(one) for old, one in self.items()}
        for old in list(self)[:-1]:
            if len(self) <= STUDIES and sum(sizes.values()) <= TRIALS:
                break
            if not self._busy(self[old]):
                del self[old], sizes[old]
        return stored
