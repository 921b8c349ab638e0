"""An oracle that is not asked twice for one design."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InfeasibleError, InvalidInputError, StorageError
from bo_invert.hashing import Digest, design_name
from bo_invert.oracles.base import Answer, Oracle, as_oracle
from bo_invert.types import JSON

if TYPE_CHECKING:
    import torch


class Cached(Oracle):
    """Answers designs that were answered before from memory or a file, at the cost of no call.

    Outputs are kept bit for bit, and so are verdicts of infeasibility; failures are not. A design that is in one batch
    twice is asked, and billed, once. Gradients are not kept: they are computed, and billed, as if there were no cache.
    Designs that cannot be compared (objects other than numbers, text, arrays, lists and dicts) are always asked.

    A file may be shared by any number of processes. Two that ask for one design at the same time may both pay; the
    answer that is written first stays. Should the file fail later on (damage, a full disk), a warning says so
    and answers are kept in memory from then on: what was paid for is never lost to the cache.

    Args:
        oracle: an ``Oracle``, or whatever can be one.
        path: of the file; it is made if there is none. Default: memory, of this process alone.
        version: which state of the oracle the answers are from. Required with a file, which outlives code and weights,
            unless the oracle knows its content (``Onnx``): change it whenever the oracle changes.

    Raises:
        InvalidInputError: a file without a version, or no way to write there.
        StorageError: the file is damaged, or is something else.
    """

    def __init__(
        self, oracle: Any, path: str | os.PathLike[str] | None = None, version: str | None = None
    ) -> None:
        self.oracle = as_oracle(oracle)
        self.path = None if path is None else os.path.abspath(path)
        self.version = None if version is None else str(version)
        identity = self.oracle.to_json()
        if self.path is not None and version is None and "sha256" not in identity:
            raise InvalidInputError(
                f"Cached: {self.path} will outlive this {type(self.oracle).__name__}, whose answers may change; say "
                "which one it is, as in Cached(oracle, path, version='1'), and change that when the oracle changes"
            )
        self.outputs = self.oracle.outputs
        self.batched, self.differentiable = self.oracle.batched, self.oracle.differentiable
        self.waits = self.oracle.waits
        self._identity = json.dumps([identity, self.version], sort_keys=True)
        self._memory: dict[str, Answer] = {}
        self._file = None if self.path is None else _File(self.path)
        if self._file is not None:
            self._file.check()

    @property
    def exact_forward(self) -> bool:
        return self.oracle.exact_forward

    @property
    def placement(self) -> Mapping[str, Any]:
        return self.oracle.placement

    def __call__(self, designs: Sequence[Any]) -> Any:
        """What the oracle itself answers now: nothing is looked up or kept."""
        return self.oracle(designs)

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        return self.oracle.forward(designs)

    def interrupt(self) -> None:
        self.oracle.interrupt()

    def answers(self, designs: Sequence[Any], outputs: Sequence[str]) -> list[Answer]:
        keys = [self._key(design, outputs) for design in designs]
        known = self._known([key for key in keys if key is not None], len(outputs))
        first = {
            key: i
            for i, key in reversed(list(enumerate(keys)))
            if key is not None and key not in known
        }
        asked = [i for i, key in enumerate(keys) if key is None or first.get(key) == i]
        fresh = dict(zip(asked, self._ask(designs, asked, outputs), strict=True))
        self._keep({key: fresh[i] for key, i in first.items() if _lasting(fresh[i])})
        known |= {key: fresh[i] for key, i in first.items()}
        return [
            fresh[i] if i in fresh else replace(known[str(key)], calls=0)
            for i, key in enumerate(keys)
        ]

    def _ask(self, designs: Sequence[Any], rows: list[int], outputs: Sequence[str]) -> list[Answer]:
        some = designs if len(rows) == len(designs) else [designs[i] for i in rows]
        return self.oracle.answers(some, outputs) if rows else []

    def _key(self, design: Any, outputs: Sequence[str]) -> str | None:
        name = design_name(design)
        if name is None:
            return None
        return hashlib.sha256(
            json.dumps([self._identity, list(outputs), name]).encode()
        ).hexdigest()

    def _known(self, keys: list[str], m: int) -> dict[str, Answer]:
        known = {key: self._memory[key] for key in keys if key in self._memory}
        rest, file = [key for key in keys if key not in known], self._file
        if file is not None and rest:
            with self._going_on():
                known |= file.read(rest, m)
        return known

    def _keep(self, answers: dict[str, Answer]) -> None:
        file = self._file
        if file is None:
            for key, answer in answers.items():
                self._memory.setdefault(key, answer)
        elif answers:
            with self._going_on(answers):
                file.write(answers)

    @contextmanager
    def _going_on(self, answers: Mapping[str, Answer] | None = None) -> Iterator[None]:
        """Where the file fails, memory takes over."""
        try:
            yield
        except (StorageError, sqlite3.Error, OSError) as error:
            warnings.warn(
                f"the cache {self.path} fails, and is not used any more: {error}",
                RuntimeWarning,
                stacklevel=5,
            )
            self._file = None
            self._memory.update(answers or {})

    @property
    def inside(self) -> Any:
        return self.oracle.inside

    def digest(self) -> Digest | None:
        return self.oracle.digest()

    def to_json(self) -> JSON:
        return {"type": "cached", "oracle": self.oracle.to_json(), "version": self.version}


def _lasting(answer: Answer) -> bool:
    """Whether it is a fact about the design: outputs, or that it cannot be evaluated at all."""
    return answer.verdict is None or isinstance(answer.verdict, InfeasibleError)


_MARK = 0x62696361
"""Says in the head of an SQLite file that it is such a cache."""
_WAIT = 60.0
"""Seconds to wait for other processes that write."""


class _File:
    """Answers in an SQLite file, each with a checksum; one connection in each process, made when it is needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: tuple[int, sqlite3.Connection] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_path"])  # type: ignore[misc]

    def check(self) -> None:
        """Open the file, or make it.

        Raises:
            InvalidInputError: it cannot be made or opened.
            StorageError: it is damaged, or something else.
        """
        try:
            with self._lock:
                for (said,) in self._connection().execute("PRAGMA quick_check(1)"):
                    if said != "ok":
                        raise StorageError(
                            f"{self._path} is damaged ({said}); delete it, or give another path"
                        )
        except sqlite3.OperationalError as error:
            raise InvalidInputError(f"Cached: {self._path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"{self._path} is damaged, or no cache ({error}); delete it, or give another path"
            ) from None

    def read(self, keys: Sequence[str], m: int) -> dict[str, Answer]:
        """The answers that are there, of ``m`` outputs each."""
        found = {}
        with self._lock:
            connection = self._connection()
            for key in keys:
                row = connection.execute(
                    "SELECT y, reason, checksum FROM answers WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    found[key] = self._answer(key, m, *row)
        return found

    def write(self, answers: Mapping[str, Answer]) -> None:
        """Add answers; those that are there stay."""
        rows = []
        for key, answer in answers.items():
            y = None if answer.y is None else answer.y.astype("<f8").tobytes()
            reason = (
                None
                if answer.verdict is None
                else answer.verdict.reason.encode("utf-8", "backslashreplace")
            )
            rows.append((key, y, reason, _checksum(key, y, reason)))
        with self._lock, self._connection() as connection:
            connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", rows
            )

    def _answer(self, key: str, m: int, y: Any, reason: Any, checksum: Any) -> Answer:
        if checksum != _checksum(key, y, reason) or (y is not None and len(y) != 8 * m):
            raise StorageError("an answer in it is damaged")
        if y is None:
            return Answer(None, InfeasibleError(reason.decode()))
        return Answer(np.frombuffer(y, "<f8").astype(np.float64))

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._open[0] != os.getpid():  # a fork may not use its parent's
            connection = sqlite3.connect(self._path, timeout=_WAIT, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._open = (os.getpid(), connection)
        return self._open[1]

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mark != _MARK and tables:
                raise StorageError(f"{self._path} is a database, but no cache; give another path")
            if not tables:
                connection.execute(f"PRAGMA application_id = {_MARK}")
                connection.execute(
                    "CREATE TABLE answers (key TEXT PRIMARY KEY, y BLOB, reason BLOB, checksum BLOB) WITHOUT ROWID"
                )


def _checksum(key: str, y: bytes | None, reason: bytes | None) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(b"y" + y if y is not None else b"reason" + (reason or b""))
    return digest.digest()[:16]
