"""Storage in the memory of this process, for notebooks, tests and benchmarks."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence

from bo_invert.errors import StorageConflictError
from bo_invert.storage.base import check_name, name_taken, unknown_study
from bo_invert.types import JSON


class MemoryStore:
    """Storage that ends with the process.

    It stores events as JSON text, so it accepts only data that a disk would accept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        self._events: dict[str, list[str]] = {}
        self._beats: dict[str, Counter[str]] = {}

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        check_name(name)
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._lock:
            if name in self._headers:
                raise name_taken(name)
            self._headers[name] = json.dumps(header, allow_nan=False)
            self._events[name] = texts
            self._beats[name] = Counter()

    def header(self, name: str) -> JSON:
        self._require(name)
        return json.loads(self._headers[name])

    def names(self) -> list[str]:
        return list(self._headers)

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        self._require(name)
        end = None if limit is None else after + limit
        return [json.loads(event) for event in self._events[name][after:end]]

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._lock:
            self._require(name)
            log = self._events[name]
            if len(log) != after:
                raise StorageConflictError(f"study {name!r} has {len(log)} events, not {after}")
            log.extend(texts)
            return len(log)

    def beat(self, name: str, worker: str) -> None:
        with self._lock:
            self._require(name)
            self._beats[name][worker] += 1

    def beats(self, name: str) -> dict[str, int]:
        with self._lock:
            self._require(name)
            return dict(self._beats[name])

    def delete(self, name: str) -> None:
        with self._lock:
            self._require(name)
            del self._headers[name], self._events[name], self._beats[name]

    def _require(self, name: str) -> None:
        if name not in self._headers:
            raise unknown_study(name, list(self._headers))
