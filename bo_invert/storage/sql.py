"""SQL storage: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from bo_invert.errors import StorageConflictError, StudyNotFoundError
from bo_invert.storage.base import check_name, name_taken, unknown_study
from bo_invert.storage.sql_tables import BEATS, EVENTS, STUDIES, SqlDatabase
from bo_invert.types import JSON


class SqlStore:
    """Storage in a database, for any number of threads and processes.

    SQLite files are in write-ahead mode with full synchronisation: data survive a power failure
    once ``append`` has returned. The first ``create`` makes the file; reading does not.

    Args:
        url: URL for SQLAlchemy: ``"sqlite:///runs.db"``, ``"sqlite://"`` (in memory, for this
            object alone), ``"postgresql+psycopg://user@host/database"``; or the path of an
            SQLite file.
        patience: Seconds to wait for a lock before ``StorageBusyError``.
        read_only: Write nothing, and do not update older tables.

    Raises:
        InvalidInputError: The URL is invalid, or the folder of the file does not exist.
        MissingExtraError: The driver of the database is not installed.
    """

    def __init__(self, url: str | Path, *, patience: float = 30.0, read_only: bool = False) -> None:
        self._database = SqlDatabase(url, patience, read_only)

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        check_name(name)
        row = {
            "name": name,
            "header": json.dumps(header, allow_nan=False),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._database.transaction(writing=True) as connection:
            try:
                connection.execute(sa.insert(STUDIES), row)
                if texts:
                    rows = _rows(_study_id(connection, name), texts, 0)
                    connection.execute(sa.insert(EVENTS), rows)
            except exc.IntegrityError as error:
                raise name_taken(name) from error

    def header(self, name: str) -> JSON:
        with self._transaction(name) as connection:
            query = sa.select(STUDIES.c.header).where(STUDIES.c.id == _study_id(connection, name))
            return json.loads(connection.execute(query).scalar_one())

    def names(self) -> list[str]:
        if self._database.missing:
            return []
        with self._database.transaction() as connection:
            return _names(connection)

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        with self._transaction(name) as connection:
            study = _study_id(connection, name)
            query = sa.select(EVENTS.c.data).where(EVENTS.c.study == study, EVENTS.c.seq > after)
            texts = connection.execute(query.order_by(EVENTS.c.seq).limit(limit)).scalars().all()
        return [json.loads(text) for text in texts]

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._transaction(name, writing=True) as connection:
            study = _study_id(connection, name, lock=True)
            last = sa.select(sa.func.max(EVENTS.c.seq)).where(EVENTS.c.study == study)
            length = connection.execute(last).scalar_one() or 0
            if length != after:
                raise StorageConflictError(f"study {name!r} has {length} events, not {after}")
            if texts:
                try:
                    connection.execute(sa.insert(EVENTS), _rows(study, texts, after))
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
        with self._transaction(name, writing=True) as connection:
            _study_id(connection, name, lock=True)
            with self._database.turn(connection):
                yield

    def beat(self, name: str, worker: str) -> None:
        with self._transaction(name, writing=True) as connection:
            study = _study_id(connection, name)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            first = dialect.insert(BEATS).values(study=study, worker=worker, count=1)
            again = {"count": BEATS.c.count + 1}
            connection.execute(
                first.on_conflict_do_update(index_elements=["study", "worker"], set_=again)
            )

    def beats(self, name: str) -> dict[str, int]:
        with self._transaction(name) as connection:
            query = sa.select(BEATS.c.worker, BEATS.c.count).where(
                BEATS.c.study == _study_id(connection, name)
            )
            return {str(worker): int(count) for worker, count in connection.execute(query)}

    def delete(self, name: str) -> None:
        with self._transaction(name, writing=True) as connection:
            study = _study_id(connection, name, lock=True)
            connection.execute(sa.delete(EVENTS).where(EVENTS.c.study == study))
            connection.execute(sa.delete(BEATS).where(BEATS.c.study == study))
            connection.execute(sa.delete(STUDIES).where(STUDIES.c.id == study))

    def close(self) -> None:
        """Close the connections of this process. A storage in memory loses its data."""
        self._database.close()

    def __repr__(self) -> str:
        return f"SqlStore({str(self)!r})"

    def __str__(self) -> str:
        return str(self._database)

    @contextmanager
    def _transaction(self, name: str, *, writing: bool = False) -> Iterator[sa.Connection]:
        """Run a transaction on an existing study."""
        if self._database.missing:
            raise StudyNotFoundError(f"no study named {name!r}: the storage {self} does not exist")
        with self._database.transaction(writing=writing) as connection:
            yield connection


def _study_id(connection: sa.Connection, name: str, *, lock: bool = False) -> int:
    query = sa.select(STUDIES.c.id).where(STUDIES.c.name == name)
    # PostgreSQL: writers of one study wait here. On SQLite, BEGIN IMMEDIATE did this already.
    found = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    if found is None:
        raise unknown_study(name, _names(connection))
    return int(found)


def _rows(study: int, texts: Sequence[str], after: int) -> list[dict[str, Any]]:
    return [
        {"study": study, "seq": after + i, "data": text} for i, text in enumerate(texts, start=1)
    ]


def _names(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(STUDIES.c.name).order_by(STUDIES.c.id)).scalars())
