"""SQL storage: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from bo_invert.errors import StorageConflictError, StudyNotFoundError
from bo_invert.storage.base import (
    CHECKSUMS,
    HEARTBEATS,
    check_name,
    damaged_study,
    json_text,
    name_taken,
    unknown_study,
)
from bo_invert.storage.checksum_chain import Chain, ChainError, first_link, seal, split
from bo_invert.storage.log_summary import LogSummary, StudyEntry
from bo_invert.storage.sql_errors import is_damage
from bo_invert.storage.sql_positions import KnownPositions, Position, older_copy, verify
from bo_invert.storage.sql_statements import (
    INSERT_EVENTS,
    MOVE_HEAD,
    SELECT_EVENTS,
    SELECT_HEAD,
    SELECT_HEADER,
    SELECT_ID,
    SELECT_LOCKED_HEAD,
    SELECT_SUMMARIES,
    StoredLog,
)
from bo_invert.storage.sql_tables import BEATS, EVENTS, HEADS, STUDIES
from bo_invert.storage.sql_transactions import SqlDatabase
from bo_invert.types import JSON


class SqlStore(SqlDatabase):
    """Storage in a database, for any number of threads and processes.

    SQLite files are in write-ahead mode with full synchronisation: data survive a power failure
    once ``append`` has returned. The first ``create`` makes the file; reading does not. Chained
    checksums detect damaged logs, and the last known event of each study detects older copies.

    ``SqlDatabase`` describes the arguments.
    """

    def __init__(self, url: str | Path, *, patience: float = 30.0, read_only: bool = False) -> None:
        super().__init__(url, patience=patience, read_only=read_only)
        self._known = KnownPositions()
        self._found = _Found()

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        check_name(name)
        row = {
            "name": name,
            "header": json_text(header),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        texts = [json_text(event) for event in events]
        with self.transaction(writing=True) as connection:
            try:
                connection.execute(sa.insert(STUDIES), row)
            except exc.IntegrityError as error:
                raise name_taken(name) from error
            study = connection.execute(SELECT_ID, {"name": name}).scalar_one()
            start = first_link(name, row["header"])
            log = StoredLog(study, start, 0, start)
            connection.execute(
                sa.insert(HEADS), {"study": study, "header": start, "seq": 0, "checksum": start}
            )
            self._insert(connection, name, log, texts)

    def header(self, name: str) -> JSON:
        with self._study(name, opening=True) as (connection, log):
            text = connection.execute(SELECT_HEADER, {"study": log.study}).scalar_one()
            if log.header and first_link(name, text) != log.header:
                raise damaged_study(self, name, None, "does not match its checksum")
            try:
                return json.loads(text)
            except ValueError as error:
                raise damaged_study(self, name, None, f"is no JSON ({error})") from error

    def names(self) -> list[str]:
        if self.missing:
            return []
        with self.transaction() as connection:
            if not self._version:
                return []
            query = sa.select(STUDIES.c.name).order_by(STUDIES.c.id)
            return list(connection.execute(query).scalars())

    def events(
        self, name: str, after: int = 0, limit: int | None = None, size: int | None = None
    ) -> list[JSON]:
        """Return events; see ``Store.events``.

        Args:
            name: Name of the study.
            after: Position before the first event.
            limit: Largest number of events.
            size: Number of characters of their texts after which no further event follows.
        """
        with self._study(name) as (connection, log):
            known = self._position(name)
            if known and known.seq == log.seq == log.last == after:
                return []
            if limit is not None and log.header and after > max(log.seq, log.last):
                return []  # a page beyond the end
            try:
                chain = self._chain(connection, log, after, known)
                query = SELECT_EVENTS if limit is None else SELECT_EVENTS.limit(limit)
                events, length = [], 0
                with connection.execute(query, {"study": log.study, "after": after}) as rows:
                    for seq, text in rows:
                        events.append(chain.read(seq, text))
                        length += len(text)
                        if size is not None and length >= size:
                            break
                if limit is None and size is None:
                    chain.close()
            except ChainError as error:
                if known and not self._holds(connection, log, known):
                    raise older_copy(str(self), name, known, log.seq) from None
                raise damaged_study(self, name, error.position, error.why) from None
            if after <= log.seq <= chain.position:
                self._note(name, log, log.seq, log.checksum)
            elif after <= chain.position < log.seq:
                self._note(name, log, chain.position, chain.checksum)
        return events

    def append(
        self,
        name: str,
        events: Sequence[JSON],
        after: int,
        summary: Callable[[], LogSummary] | None = None,
    ) -> int:
        """Append events; see ``Store.append``.

        Args:
            name: Name of the study.
            events: Events to append.
            after: Position of the last event before them.
            summary: Function that returns the summary after these events. It is called once
                nothing but the storage itself can keep them from being appended.
        """
        texts = [json_text(event) for event in events]
        with self._study(name, writing=True) as (connection, log):
            if log.last != after:
                raise StorageConflictError(f"study {name!r} has {log.last} events, not {after}")
            if log.last != log.seq:
                log = self._with_older_events(connection, name, log)
            try:
                self._insert(connection, name, log, texts, summary)
            except exc.IntegrityError as error:
                raise StorageConflictError(
                    f"study {name!r} grew while events were appended"
                ) from error
        return after + len(texts)

    def summaries(self, after: int = 0, limit: int | None = None) -> list[StudyEntry]:
        """Return the studies in order of creation, with the stored summaries of their logs.

        Args:
            after: Number of studies to leave out.
            limit: Largest number of studies.
        """
        if self.missing:
            return []
        with self.transaction() as connection:
            if self._version < CHECKSUMS:
                return [StudyEntry(name) for name in self.names()[after:][:limit]]
            rows = connection.execute(SELECT_SUMMARIES.offset(after).limit(limit)).all()
        return [
            StudyEntry(
                name,
                text if start == first_link(name, text) else None,
                None if state is None else LogSummary.unsealed(state, checksum),
            )
            for name, text, start, checksum, state in rows
        ]

    def summarise(self, name: str, summary: LogSummary | None) -> None:
        """Store the summary of a log that has none, unless the log has grown; None deletes it."""
        with self._study(name, writing=True) as (connection, log):
            if log.header and (summary is None or log.seq == summary.seq):
                text = None if summary is None else summary.sealed(log.checksum)
                here = sa.update(HEADS).where(HEADS.c.study == log.study)
                connection.execute(here.values(summary=text))

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Lock a study for writing; commit the appended events at the end of the block.

        Raises:
            StudyNotFoundError: There is no such study.
            StorageBusyError: The storage stayed locked.
        """
        with self._study(name, writing=True):
            yield

    def beat(self, name: str, worker: str) -> None:
        self._require_file(name)
        # On PostgreSQL, a heartbeat does not wait for the lock that an ask or a tell holds.
        with self.transaction(writing=True), self._study(name) as (connection, log):
            mine = sa.update(BEATS).where(BEATS.c.study == log.study, BEATS.c.worker == worker)
            if not connection.execute(mine.values(count=BEATS.c.count + 1)).rowcount:
                row = {"study": log.study, "worker": worker, "count": 1}
                connection.execute(sa.insert(BEATS), row)

    def beats(self, name: str) -> dict[str, int]:
        with self._study(name) as (connection, log):
            if self._version < HEARTBEATS:
                return {}
            query = sa.select(BEATS.c.worker, BEATS.c.count).where(BEATS.c.study == log.study)
            return {str(worker): int(count) for worker, count in connection.execute(query)}

    def delete(self, name: str) -> None:
        self._require_file(name)
        with self.transaction(writing=True) as connection:
            study = connection.execute(SELECT_ID, {"name": name}).scalar_one_or_none()
            if study is None:
                raise unknown_study(name, self.names())
            for column in (EVENTS.c.study, BEATS.c.study, HEADS.c.study, STUDIES.c.id):
                connection.execute(sa.delete(column.table).where(column == study))
        self._known.forget(name)

    def __repr__(self) -> str:
        return f"SqlStore({str(self)!r})"

    @contextmanager
    def transaction(self, *, writing: bool = False) -> Iterator[sa.Connection]:
        outermost = self._own.connection is None
        try:
            with super().transaction(writing=writing) as connection:
                yield connection
            if outermost:
                self._known.update(self._found.positions)
        finally:
            if outermost:
                self._found.positions = {}

    @contextmanager
    def _study(
        self, name: str, *, writing: bool = False, opening: bool = False
    ) -> Iterator[tuple[sa.Connection, StoredLog]]:
        """Run a transaction on an existing study; one writer at a time.

        Args:
            name: Name of the study.
            writing: Lock the study.
            opening: Accept another study that has the name of a deleted one.
        """
        self._require_file(name)
        known = self._position(name)  # before the snapshot, which therefore has this event
        with self.transaction(writing=writing) as connection:
            try:
                log = self._find(connection, name, writing)
                if known and log.header:
                    self._compare(name, log, known, opening)
                yield connection, log
            except exc.DatabaseError as error:
                if not is_damage(error):
                    raise
                raise damaged_study(self, name, None, f"or an event is ({error.orig})") from error

    def _require_file(self, name: str) -> None:
        """Raise ``StudyNotFoundError`` if the storage does not exist; only ``create`` makes it."""
        if self.missing:
            raise StudyNotFoundError(f"no study named {name!r}: the storage {self} does not exist")

    def _find(self, connection: sa.Connection, name: str, writing: bool) -> StoredLog:
        if not self._version:
            raise unknown_study(name, [])
        checked = self._version >= CHECKSUMS
        query: sa.Select[Any] = SELECT_ID
        if checked:
            query = SELECT_LOCKED_HEAD if writing else SELECT_HEAD
        row = connection.execute(query, {"name": name}).one_or_none()
        if row is None:
            raise unknown_study(name, self.names())
        if checked and row.header is None:
            raise damaged_study(self, name, None, "has no stored checksum")
        return StoredLog(*row)

    def _compare(self, name: str, log: StoredLog, known: Position, opening: bool) -> None:
        """Check that a log has its last known event."""
        if log.header != known.header:
            self._known.forget(name)
            if not opening:
                raise StudyNotFoundError(
                    f"study {name!r} was deleted, and another one of this name created; "
                    "open it again"
                )
        elif log.seq < known.seq or (log.seq == known.seq and log.checksum != known.checksum):
            raise older_copy(str(self), name, known, log.seq)
        elif self.file and self.file.write_ahead and self._own.signature != known.signature:
            verify(self.file, str(self), name, known)
            self._note(name, log, known.seq, known.checksum)

    def _position(self, name: str) -> Position | None:
        return self._found.positions.get(name) or self._known.get(name)

    def _note(self, name: str, log: StoredLog, seq: int, checksum: str) -> None:
        if log.header:
            self._found.positions[name] = Position(
                log.study, log.header, seq, checksum, self._own.signature
            )

    def _chain(
        self, connection: sa.Connection, log: StoredLog, after: int, known: Position | None
    ) -> Chain:
        """Return the verification of the events after a position."""
        if after == 0 or not log.header:
            start = log.header
        elif known and known.seq == after:
            start = known.checksum
        else:
            start = self._checksum(connection, log, after)
        return Chain(start, after, log.seq, log.checksum)

    def _checksum(self, connection: sa.Connection, log: StoredLog, seq: int) -> str:
        """Return the checksum of an event, computed if it was written without one."""
        rows = connection.execute(
            SELECT_EVENTS.limit(1), {"study": log.study, "after": seq - 1}
        ).one_or_none()
        found = None if rows is None or rows.seq != seq else split(rows.data)[1]
        if found is not None:
            return found
        chain = Chain(log.header)
        first = connection.execute(SELECT_EVENTS.limit(seq), {"study": log.study, "after": 0})
        for number, text in first.all():
            chain.read(number, text)
        return chain.checksum

    def _holds(self, connection: sa.Connection, log: StoredLog, known: Position) -> bool:
        """Return True if a log has its last known event."""
        try:
            return self._checksum(connection, log, known.seq) == known.checksum
        except ChainError:
            return False

    def _with_older_events(self, connection: sa.Connection, name: str, log: StoredLog) -> StoredLog:
        """Return a log with events that a program of an older version appended meanwhile."""
        chain = Chain(log.checksum, log.seq)
        rows = connection.execute(SELECT_EVENTS, {"study": log.study, "after": log.seq}).all()
        try:
            for seq, text in rows:
                chain.read(seq, text)
            if log.last < log.seq:
                raise ChainError(log.last + 1, f"is missing, the last one was event {log.seq}")
        except ChainError as error:
            raise damaged_study(self, name, error.position, error.why) from None
        return log._replace(seq=chain.position, checksum=chain.checksum)

    def _insert(
        self,
        connection: sa.Connection,
        name: str,
        log: StoredLog,
        texts: Sequence[str],
        summary: Callable[[], LogSummary] | None = None,
    ) -> None:
        """Append events and move the head of the log."""
        sealed = list(seal(log.checksum, texts))
        if not sealed:
            return
        connection.execute(
            INSERT_EVENTS,
            [
                {"study": log.study, "seq": seq, "data": text}
                for seq, (text, _) in enumerate(sealed, log.seq + 1)
            ],
        )
        last, chain = log.seq + len(sealed), sealed[-1][1]
        state = None if summary is None else summary().sealed(chain)
        connection.execute(
            MOVE_HEAD, {"of": log.study, "last": last, "chain": chain, "state": state}
        )
        self._note(name, log, last, chain)


class _Found(threading.local):
    """Positions that the open transaction of each thread has read or written."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
