"""What a process keeps in memory: the studies used last, as many as it has room for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

COUNT, TRIALS = 256, 400_000
"""So many studies at most, and so many trials in all of them; a trial takes some 2.5 KB."""


class Kept(Generic[Key, Value]):
    """The least recently used goes first. What is in use stays, and so does what was used last.

    Args:
        trials: how many of them something holds.
        busy: whether it is in use.
    """

    def __init__(
        self, trials: Callable[[Value], int], busy: Callable[[Value], bool] = lambda _: False
    ) -> None:
        self._trials = trials
        self._busy = busy
        self._known: OrderedDict[Key, Value] = OrderedDict()

    def __iter__(self) -> Iterator[Value]:
        return iter(list(self._known.values()))

    def get(self, key: Key) -> Value | None:
        """What is known under a key, which is used now."""
        if key not in self._known:
            return None
        self._known.move_to_end(key)
        return self._known[key]

    def put(self, key: Key, value: Value) -> None:
        """Keep something, and let go of what there is no room for."""
        self._known[key] = value
        self._known.move_to_end(key)
        sizes = {old: self._trials(one) for old, one in self._known.items()}
        for old in list(self._known)[:-1]:
            if len(self._known) <= COUNT and sum(sizes.values()) <= TRIALS:
                return
            if not self._busy(self._known[old]):
                del self._known[old], sizes[old]

    def pop(self, key: Key) -> None:
        """Forget something, if it is known."""
        self._known.pop(key, None)
