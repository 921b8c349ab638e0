"""Cache of an oracle's results, in memory or in a file."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InfeasibleError, InvalidInputError, StorageError, require, warn_user
from bo_invert.execution.process_local import process_local
from bo_invert.hashing import design_name
from bo_invert.oracles.base import OracleResult, OracleWrapper
from bo_invert.types import JSON, Array, Design

if TYPE_CHECKING:
    import torch


class Cached(OracleWrapper):
    """Oracle with a cache; a cached result costs no call.

    The cache holds outputs bit for bit, and infeasibility. It holds no failures and no gradients:
    these are computed and billed as without a cache. Equal designs of one batch are evaluated and
    billed once. Designs that contain objects other than numbers, text, arrays, lists and dicts
    cannot be compared, and are always evaluated.

    Any number of processes may share a file. If two evaluate one design at the same time, both are
    billed and the first result is stored. If the file fails later (damage, full disk), a warning is
    issued and results are cached in memory.

    Args:
        oracle: oracle, torch module, estimator or callable.
        path: file of the cache, created if it does not exist. Default: memory of this process.
        version: version of the oracle, which must change whenever the oracle changes. Required with
            a file, unless the oracle knows the hash of its content (``Onnx``).

    Raises:
        InvalidInputError: a file without a version, or a file that cannot be written.
        StorageError: the file is damaged or not a cache.
    """

    def __init__(
        self, oracle: object, path: str | os.PathLike[str] | None = None, version: str | None = None
    ) -> None:
        super().__init__(oracle)
        self.path = None if path is None else os.path.abspath(path)
        self.version = None if version is None else str(version)
        identity = self.oracle.to_json()
        require(
            self.path is None or version is not None or "sha256" in identity,
            f"Cached: version must be given with a file, because {self.path} outlives this "
            f"{type(self.oracle).__name__}. Use Cached(oracle, path, version='1'), and change "
            "the version when the oracle changes.",
        )
        self.differentiable = self.oracle.differentiable
        self.exact_forward = self.oracle.exact_forward
        self._identity = json.dumps([identity, self.version], sort_keys=True)
        self._memory: dict[str, OracleResult] = {}
        self._file = None if self.path is None else _CacheFile(self.path)

    @property
    def placement(self) -> Mapping[str, Any]:
        return self.oracle.placement

    def passes_gradients(
        self, points: Array, decode: Callable[[torch.Tensor], torch.Tensor]
    ) -> bool:
        return self.oracle.passes_gradients(points, decode)

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        return self.oracle.forward(designs)

    def forwarding(self) -> AbstractContextManager[Callable[[torch.Tensor], torch.Tensor]]:
        return self.oracle.forwarding()

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        keys = [self._key(design, outputs) for design in designs]
        cached = self._cached([key for key in keys if key is not None], len(outputs))
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            if key is not None and key not in cached:
                first.setdefault(key, i)
        rows = [i for i, key in enumerate(keys) if key is None or first.get(key) == i]
        selected = designs if len(rows) == len(designs) else [designs[i] for i in rows]
        evaluated = self.oracle.answers(selected, outputs) if rows else []
        new = dict(zip(rows, evaluated, strict=True))
        permanent = (InfeasibleError, type(None))  # a property of the design, or outputs
        self._store({k: new[i] for k, i in first.items() if isinstance(new[i].error, permanent)})
        cached |= {key: new[i] for key, i in first.items()}
        return [
            new[i] if i in new else replace(cached[str(key)], calls=0) for i, key in enumerate(keys)
        ]

    def _key(self, design: object, outputs: Sequence[str]) -> str | None:
        name = design_name(design)
        text = json.dumps([self._identity, list(outputs), name])
        return None if name is None else hashlib.sha256(text.encode()).hexdigest()

    def _cached(self, keys: list[str], m: int) -> dict[str, OracleResult]:
        cached = {key: self._memory[key] for key in keys if key in self._memory}
        file = self._file
        if file is not None:
            with self._fallback():
                cached |= file.read([key for key in keys if key not in cached], m)
        return cached

    def _store(self, results: dict[str, OracleResult]) -> None:
        file = self._file
        if file is not None:
            with self._fallback():
                file.write(results)
        if self._file is None:
            for key, result in results.items():
                self._memory.setdefault(key, result)

    @contextmanager
    def _fallback(self) -> Iterator[None]:
        """Replace the file by memory if it fails."""
        try:
            yield
        except (StorageError, sqlite3.Error, OSError) as error:
            warn_user(
                f"Cached: {self.path} failed ({error}); results are cached in memory from now on",
                RuntimeWarning,
            )
            self._file = None

    def to_json(self) -> JSON:
        return {"type": "cached", "oracle": self.oracle.to_json(), "version": self.version}


_APPLICATION_ID = 0x62696361
"""Application id in the header of the file (SQLite file format): the characters "bica"."""


@dataclass(frozen=True, eq=False)
class _CacheFile:
    """SQLite file of results with checksums."""

    path: str

    @process_local
    def _opened(self) -> tuple[threading.Lock, sqlite3.Connection]:
        """Open the file; return a lock for the use of the connection, too."""
        connection = sqlite3.connect(self.path, timeout=60.0, check_same_thread=False)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            (identifier,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            require(
                identifier == _APPLICATION_ID or not tables,
                f"Cached: {self.path} is a database but not a cache. Choose another path.",
                StorageError,
            )
            if not tables:
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(
                    "CREATE TABLE answers (key TEXT PRIMARY KEY, y BLOB, reason BLOB, "
                    "checksum BLOB) WITHOUT ROWID"
                )
        return threading.Lock(), connection

    def __post_init__(self) -> None:
        """Open or create the file.

        Raises:
            InvalidInputError: the file cannot be created or opened.
            StorageError: the file is damaged or not a cache.
        """
        try:
            lock, connection = self._opened
            with lock:
                (status,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            require(status == "ok", status, sqlite3.DatabaseError)
        except sqlite3.OperationalError as error:
            raise InvalidInputError(f"Cached: {self.path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"Cached: {self.path} is damaged or not a cache ({error}). Delete it or choose "
                "another path."
            ) from None

    def read(self, keys: Sequence[str], m: int) -> dict[str, OracleResult]:
        """Return the cached results of ``m`` outputs each."""
        results = {}
        lock, connection = self._opened
        with lock:
            for key in keys:
                row = connection.execute(
                    "SELECT y, reason, checksum FROM answers WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    results[key] = self._result(key, m, *row)
        return results

    def write(self, results: Mapping[str, OracleResult]) -> None:
        """Add results; existing ones stay."""
        rows = []
        for key, result in results.items():
            y = None if result.y is None else result.y.astype("<f8").tobytes()
            why = None if result.error is None else result.error.reason
            reason = None if why is None else why.encode("utf-8", "backslashreplace")
            rows.append((key, y, reason, _checksum(key, y, reason)))
        lock, connection = self._opened
        with lock, connection:
            connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", rows
            )

    def _result(
        self, key: str, m: int, y: bytes | None, reason: bytes | None, checksum: bytes
    ) -> OracleResult:
        require(
            checksum == _checksum(key, y, reason) and (y is None or len(y) == 8 * m),
            "a result in it is damaged",
            StorageError,
        )
        if y is None:
            return OracleResult(None, InfeasibleError((reason or b"").decode()))
        return OracleResult(np.frombuffer(y, "<f8").astype(np.float64))


def _checksum(key: str, y: bytes | None, reason: bytes | None) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(b"y" + y if y is not None else b"reason" + (reason or b""))
    return digest.digest()[:16]
