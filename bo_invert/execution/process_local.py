"""Cached property with one value in each process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

S = TypeVar("S")
T = TypeVar("T")


class process_local(Generic[S, T]):
    """Property that is computed at its first use in each process.

    Copies and pickles of the object do not contain the value, and a forked process computes its
    own. The value must not refer to the object, which would then stay in memory.
    """

    def __init__(self, compute: Callable[[S], T]) -> None:
        self._compute = compute
        self._values: WeakKeyDictionary[Any, dict[int, T]] = WeakKeyDictionary()

    def __get__(self, instance: S, owner: type[S] | None = None) -> T:
        values = self._values.setdefault(instance, {})
        if os.getpid() not in values:
            values.setdefault(os.getpid(), self._compute(instance))
        return values[os.getpid()]
