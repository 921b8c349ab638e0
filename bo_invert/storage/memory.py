"""Storage in the memory of this process, for notebooks, tests and benchmarks."""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bo_invert.errors import StorageConflictError
from bo_invert.storage.base import check_name, json_text, name_taken, unknown_study
from bo_invert.types import JSON


@dataclass
class _MemoryLog:
    """Log of one study: header and events as JSON text, and the number of heartbeats by worker."""

    header: str
    events: list[str]
    beats: Counter[str] = field(default_factory=Counter)


class MemoryStore:
    """Storage that ends with the process.

    It stores events as JSON text, so it accepts only data that a disk would accept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: dict[str, _MemoryLog] = {}

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"_logs": copy.deepcopy(self._logs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        check_name(name)
        texts = [json_text(event) for event in events]
        log = _MemoryLog(json_text(header), texts)
        with self._lock:
            if name in self._logs:
                raise name_taken(name)
            self._logs[name] = log

    def header(self, name: str) -> JSON:
        return json.loads(self._log(name).header)

    def names(self) -> list[str]:
        return list(self._logs)

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        return [json.loads(event) for event in self._log(name).events[after:][:limit]]

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        texts = [json_text(event) for event in events]
        with self._lock:
            log = self._log(name).events
            if len(log) != after:
                raise StorageConflictError(f"study {name!r} has {len(log)} events, not {after}")
            log.extend(texts)
            return len(log)

    def beat(self, name: str, worker: str) -> None:
        with self._lock:
            self._log(name).beats[worker] += 1

    def beats(self, name: str) -> dict[str, int]:
        with self._lock:
            return dict(self._log(name).beats)

    def delete(self, name: str) -> None:
        with self._lock:
            self._log(name)  # raises if there is none
            del self._logs[name]

    def _log(self, name: str) -> _MemoryLog:
        if name not in self._logs:
            raise unknown_study(name, list(self._logs))
        return self._logs[name]
