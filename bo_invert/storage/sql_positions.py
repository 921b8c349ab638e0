"""Detection of older copies that were put back under a running study.

A store remembers the last event of each study that it read or wrote. A log that lacks this event
was replaced. A copy over the file itself also leaves pages of both in the caches of SQLite, so a
changed main file is verified through a new connection. Checkpoints change it, too, once in about a
thousand pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from bo_invert.errors import StorageReplacedError
from bo_invert.storage.checksum_chain import Chain, ChainError, split
from bo_invert.storage.sqlite_file import SqliteFile

_CHECKPOINT = 1000
"""Number of pages in the ``-wal`` file before a checkpoint, a default of SQLite."""
_VERIFIED = 1000
"""Number of last events that are verified after a change of the main file. Engineering choice: a
copy over the main file loses events that left the ``-wal`` file, which has fewer events."""


class Position(NamedTuple):
    """Last known event of a study.

    Args:
        study: Id of the study.
        header: Checksum of its name and header.
        seq: Position of the event.
        checksum: Checksum of the event.
        signature: Modification time and size of the SQLite file before it was read.
    """

    study: int
    header: str
    seq: int
    checksum: str
    signature: tuple[int, int] | None


class KnownPositions:
    """Last known event of each study."""

    def __init__(self) -> None:
        self._known: dict[str, Position] = {}

    def get(self, name: str) -> Position | None:
        """Return the last known event of a study."""
        return self._known.get(name)

    def forget(self, name: str) -> None:
        """Forget a study that was deleted."""
        self._known.pop(name, None)

    def update(self, found: Mapping[str, Position]) -> None:
        """Add positions of a committed transaction; another thread may know later ones."""
        for name, position in found.items():
            known = self._known.get(name)
            if known is None or known.header != position.header or known.seq <= position.seq:
                self._known[name] = position


def older_copy(storage: str, name: str, known: Position, seq: int) -> StorageReplacedError:
    """Return the error for a log that lacks its last known event.

    Args:
        storage: Name of the storage in messages.
        name: Name of the study.
        known: Its last known event.
        seq: Position of its present last event.
    """
    now = f"now has {seq}" if seq < known.seq else "now has other ones"
    return StorageReplacedError(
        f"storage {storage}: study {name!r} had {known.seq} events and {now}: an older copy was "
        "put back while this program used it. Nothing was written. Open the storage again "
        "(restart the program) to continue from the copy. End all programs that use a storage "
        "before you restore it, and delete its -wal and -shm files"
    )


def verify(file: SqliteFile, storage: str, name: str, known: Position) -> None:
    """Check that a changed file has the known events of a study.

    Raises:
        StorageReplacedError: Events are missing or differ.
    """
    first = max(known.seq - _VERIFIED, 0)
    query = "SELECT seq, data FROM events WHERE study = ? AND seq >= ? AND seq <= ? ORDER BY seq"
    count = "SELECT count(*) FROM events WHERE study = ? AND seq <= ?"
    found: list[tuple[int, str]] = []
    try:
        with closing(file.connect()) as connection:
            found = connection.execute(query, (known.study, first, known.seq)).fetchall()
            (number,) = connection.execute(count, (known.study, known.seq)).fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
        start: str | None = known.header
        if first:
            start = split(found.pop(0)[1])[1]
        # An event of an older version has no checksum that the next one could follow.
        while start is None and found:
            first, text = found.pop(0)
            start = split(text)[1]
        chain = Chain(start or known.checksum, first)
        for seq, text in found:
            chain.check(seq, text)
        intact = number == known.seq and (not found or chain.checksum == known.checksum)
        # An empty log has no event to look for.
        if known.seq and file.wal_size < _CHECKPOINT * page:
            intact = intact and _in_main_file(file, known)
    except (sqlite3.DatabaseError, ChainError, IndexError):
        intact = False
    if not intact:
        raise older_copy(storage, name, known, found[-1][0] if found else 0)


def _in_main_file(file: SqliteFile, known: Position) -> bool:
    """Return True if the main file alone has a known event.

    With a short ``-wal`` no checkpoint changed the main file by itself. Another program either made
    a checkpoint, and the main file has the event, or copied a file over it.
    """
    query = "SELECT data FROM events WHERE study = ? AND seq = ?"
    with closing(file.connect_to_main()) as connection:
        row = connection.execute(query, (known.study, known.seq)).fetchone()
    return row is not None and split(row[0])[1] in (None, known.checksum)
