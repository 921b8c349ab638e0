"""SQL storage: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import exc

from bo_invert.errors import StorageConflictError, StudyNotFoundError
from bo_invert.storage.base import check_name, name_taken, unknown_study
from bo_invert.storage.sql_tables import BEATS, EVENTS, STUDIES
from bo_invert.storage.sql_transactions import SqlDatabase
from bo_invert.types import JSON


class SqlStore(SqlDatabase):
    """Storage in a database, for any number of threads and processes.

    SQLite files are in write-ahead mode with full synchronisation: data survive a power failure
    once ``append`` has returned. The first ``create`` makes the file; reading does not.

    ``SqlDatabase`` describes the arguments.
    """

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        check_name(name)
        row = {
            "name": name,
            "header": json.dumps(header, allow_nan=False),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self.transaction(writing=True) as connection:
            try:
                connection.execute(sa.insert(STUDIES), row)
                _insert(connection, connection.execute(_id_of(name)).scalar_one(), texts, 0)
            except exc.IntegrityError as error:
                raise name_taken(name) from error

    def header(self, name: str) -> JSON:
        with self._study(name) as (connection, study):
            query = sa.select(STUDIES.c.header).where(STUDIES.c.id == study)
            return json.loads(connection.execute(query).scalar_one())

    def names(self) -> list[str]:
        if self.missing:
            return []
        with self.transaction() as connection:
            query = sa.select(STUDIES.c.name).order_by(STUDIES.c.id)
            return list(connection.execute(query).scalars())

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        with self._study(name) as (connection, study):
            query = sa.select(EVENTS.c.data).where(EVENTS.c.study == study, EVENTS.c.seq > after)
            texts = connection.execute(query.order_by(EVENTS.c.seq).limit(limit)).scalars().all()
        return [json.loads(text) for text in texts]

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._study(name, writing=True) as (connection, study):
            last = sa.select(sa.func.max(EVENTS.c.seq)).where(EVENTS.c.study == study)
            length = connection.execute(last).scalar_one() or 0
            if length != after:
                raise StorageConflictError(f"study {name!r} has {length} events, not {after}")
            try:
                _insert(connection, study, texts, after)
            except exc.IntegrityError as error:
                raise StorageConflictError(
                    f"study {name!r} grew while events were appended"
                ) from error
        return after + len(texts)

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
        # On PostgreSQL, a heartbeat does not wait for the lock that an ask or a tell holds.
        with self.transaction(writing=True), self._study(name) as (connection, study):
            mine = sa.update(BEATS).where(BEATS.c.study == study, BEATS.c.worker == worker)
            if not connection.execute(mine.values(count=BEATS.c.count + 1)).rowcount:
                connection.execute(sa.insert(BEATS), {"study": study, "worker": worker, "count": 1})

    def beats(self, name: str) -> dict[str, int]:
        with self._study(name) as (connection, study):
            query = sa.select(BEATS.c.worker, BEATS.c.count).where(BEATS.c.study == study)
            return {str(worker): int(count) for worker, count in connection.execute(query)}

    def delete(self, name: str) -> None:
        with self._study(name, writing=True) as (connection, study):
            for column in (EVENTS.c.study, BEATS.c.study, STUDIES.c.id):
                connection.execute(sa.delete(column.table).where(column == study))

    def __repr__(self) -> str:
        return f"SqlStore({str(self)!r})"

    @contextmanager
    def _study(self, name: str, *, writing: bool = False) -> Iterator[tuple[sa.Connection, int]]:
        """Run a transaction on an existing study and yield its id; one writer at a time."""
        if self.missing:
            raise StudyNotFoundError(f"no study named {name!r}: the storage {self} does not exist")
        query = _id_of(name)
        with self.transaction(writing=writing) as connection:
            # PostgreSQL: writers of one study wait here. On SQLite, BEGIN IMMEDIATE did this.
            found = connection.execute(query.with_for_update() if writing else query)
            study = found.scalar_one_or_none()
            if study is None:
                raise unknown_study(name, self.names())
            yield connection, study


def _id_of(name: str) -> sa.Select[int]:
    return sa.select(STUDIES.c.id).where(STUDIES.c.name == name)


def _insert(connection: sa.Connection, study: int, texts: Sequence[str], after: int) -> None:
    """Insert events behind position ``after``."""
    rows = [{"study": study, "seq": seq, "data": text} for seq, text in enumerate(texts, after + 1)]
    if rows:  # without rows, SQLAlchemy would insert one of default values
        connection.execute(sa.insert(EVENTS), rows)
