"""Cached property with one value in each process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

S = TypeVar("S")
T = TypeVar("T")


class process_local(Generic[S, T]):
    """Property that is computed once in each process, at its first use by any thread.

    Copies and pickles of the object do not contain the value, and a forked process computes its
    own. The value must not refer to the object, which would then stay in memory.
    """

    def __init__(self, compute: Callable[[S], T]) -> None:
        self._compute = compute
        self._values: WeakKeyDictionary[Any, dict[int, T]] = WeakKeyDictionary()
        self._locks: dict[int, threading.RLock] = {}

    def __get__(self, instance: S, owner: type[S] | None = None) -> T:
        # Each process has a lock of its own: another thread may hold the lock during a fork.
        process = os.getpid()
        with self._locks.setdefault(process, threading.RLock()):
            values = self._values.setdefault(instance, {})
            if process not in values:
                values[process] = self._compute(instance)
            return values[process]
