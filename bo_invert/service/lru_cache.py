"""Least recently used cache of open studies, bounded by studies and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from bo_invert.storage.reader import JournalReader

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

STUDIES = 1024
"""Largest number of cached studies. Engineering choice: bounds the time of an eviction."""
BYTES = 1_000_000_000
"""Largest size of all cached studies in bytes. Engineering choice: half the memory of a small
server."""
_TRIAL, _COORDINATE = 2500, 16
"""Bytes of a trial without its point, and of a coordinate, in float and JSON form, as measured by
``experiments/served.py``."""


def journal_bytes(journal: JournalReader) -> int:
    """Estimate the memory of the trials of an open study in bytes."""
    first = journal.cached_trial(0)
    dim = 0 if first is None else len(first.point)
    return (journal.size + 1) * (_TRIAL + _COORDINATE * dim)


class LRUCache(OrderedDict[Key, Value]):
    """Least recently used cache.

    Busy values and the value used last stay.

    Args:
        size: returns the size of a value in bytes.
        busy: returns whether a value is in use.
    """

    def __init__(
        self, size: Callable[[Value], int], busy: Callable[[Value], bool] = lambda _: False
    ) -> None:
        super().__init__()
        self._size = size
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
        sizes = {old: self._size(one) for old, one in self.items()}
        for old in list(self)[:-1]:
            if len(self) <= STUDIES and sum(sizes.values()) <= BYTES:
                break
            if not self._busy(self[old]):
                del self[old], sizes[old]
        return stored
