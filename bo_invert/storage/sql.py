"""Logs in a database: SQLite by default, PostgreSQL by URL. The only file that knows SQLAlchemy."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import StaticPool

from bo_invert.errors import (
    InvalidInputError,
    MissingExtraError,
    SchemaTooNewError,
    StorageBusyError,
    StorageConflictError,
    StorageError,
    StudyExistsError,
    StudyNotFoundError,
)
from bo_invert.storage.base import SCHEMA, unknown_study
from bo_invert.types import JSON

_METADATA = sa.MetaData()
_META = sa.Table(
    "meta",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_STUDIES = sa.Table(
    "studies",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("header", sa.Text, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),
)
_EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("data", sa.Text, nullable=False),
)

_BEATS = sa.Table(
    "beats",
    _METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

#: SQLite's primary result codes for "somebody else holds the lock", and PostgreSQL's states for the same.
_SQLITE_LOCKED = {5, 6}
_POSTGRES_LOCKED = {"55P03", "40P01", "40001"}
_WAIT = 1.0
"""Seconds of one wait for SQLite's lock."""
_SQLITE_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"}
#: Any number that other programs are unlikely to lock in the same database while tables are made.
_POSTGRES_SETUP_LOCK = 0x626F696E


class SqlStore:
    """A database of logs. Any number of threads and processes may use it at once.

    SQLite files are kept in write-ahead mode with full synchronisation: what ``append`` returned from survives a
    power cut. The file is made by the first ``create``; reading never makes one.

    Args:
        url: as SQLAlchemy takes it, ``"sqlite:///runs.db"``, ``"sqlite://"`` (in memory, for this object alone),
            ``"postgresql+psycopg://user@host/database"``; or the path of an SQLite file.
        patience: seconds to wait for a lock before ``StorageBusyError``.
        read_only: nothing is ever written, nor are older tables brought up to date.

    Raises:
        InvalidInputError: this is no database URL, or the folder of the file does not exist.
        MissingExtraError: the driver of that database is not installed.
    """

    def __init__(self, url: str | Path, *, patience: float = 30.0, read_only: bool = False) -> None:
        try:
            parsed = (
                sa.make_url(url)
                if isinstance(url, str)
                else sa.URL.create("sqlite", database=str(url))
            )
        except exc.ArgumentError as error:
            raise InvalidInputError(
                f"storage {url!r} is no database URL; write sqlite:///runs.db or a path"
            ) from error
        self._patience = patience
        self._read_only = read_only
        self._lock = threading.RLock()
        self._engines: dict[int, sa.Engine] = {}
        self._file: Path | None = None
        self._in_memory = False
        if parsed.get_backend_name() == "sqlite":
            self._in_memory = parsed.database in (None, "", ":memory:")
            if not self._in_memory and not str(parsed.database).startswith("file:"):
                self._file = Path(str(parsed.database)).absolute()
                parsed = parsed.set(
                    database=str(self._file)
                )  # a later chdir must not lead to another file
                if not self._file.parent.is_dir():
                    raise InvalidInputError(
                        f"storage {str(url)!r}: the folder {str(self._file.parent)!r} does not exist; create it first"
                    )
        self._url = parsed
        # In memory all threads share one connection, so they take turns.
        self._alone: AbstractContextManager[Any] = self._lock if self._in_memory else nullcontext()
        self._held = threading.local()
        try:
            self._url.get_dialect().import_dbapi()
        except exc.NoSuchModuleError as error:
            raise InvalidInputError(
                f"storage {self}: no such kind of database; use sqlite or postgresql"
            ) from error
        except ImportError as error:
            raise MissingExtraError(
                f"storage {self} needs the package {error.name!r}; run: pip install {error.name}"
            ) from error

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        if not name:
            raise InvalidInputError("the name of a study must not be empty")
        row = {
            "name": name,
            "header": json.dumps(header, allow_nan=False),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._transaction(writing=True) as connection:
            try:
                connection.execute(sa.insert(_STUDIES), row)
                if texts:
                    connection.execute(
                        sa.insert(_EVENTS), _rows(self._id(connection, name), texts, 0)
                    )
            except exc.IntegrityError as error:
                raise StudyExistsError(
                    f"a study named {name!r} is already in this storage; open it (exist_ok=True) or take another name"
                ) from error

    def header(self, name: str) -> JSON:
        with self._reading(name) as connection:
            query = sa.select(_STUDIES.c.header).where(_STUDIES.c.id == self._id(connection, name))
            return json.loads(connection.execute(query).scalar_one())

    def names(self) -> list[str]:
        if self._absent:
            return []
        with self._transaction() as connection:
            return _names(connection)

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        with self._reading(name) as connection:
            study = self._id(connection, name)
            query = sa.select(_EVENTS.c.data).where(_EVENTS.c.study == study, _EVENTS.c.seq > after)
            texts = connection.execute(query.order_by(_EVENTS.c.seq).limit(limit)).scalars().all()
        return [json.loads(text) for text in texts]

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        texts = [json.dumps(event, allow_nan=False) for event in events]
        with self._reading(name, writing=True) as connection:
            study = self._id(connection, name, lock=True)
            last = sa.select(sa.func.max(_EVENTS.c.seq)).where(_EVENTS.c.study == study)
            length = connection.execute(last).scalar_one() or 0
            if length != after:
                raise StorageConflictError(f"study {name!r} has {length} events, not {after}")
            if texts:
                try:
                    connection.execute(sa.insert(_EVENTS), _rows(study, texts, after))
                except exc.IntegrityError as error:
                    raise StorageConflictError(
                        f"study {name!r} grew while it was written to"
                    ) from error
        return after + len(texts)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Nobody else writes to this study while a block lasts; what it appends is committed at its end, or not at all.

        Raises:
            StudyNotFoundError: there is no such study.
            StorageBusyError: the storage stayed locked.
        """
        with self._reading(name, writing=True) as connection:
            self._id(connection, name, lock=True)
            self._held.connection = connection
            try:
                yield
            finally:
                self._held.connection = None

    def beat(self, name: str, worker: str) -> None:
        with self._reading(name, writing=True) as connection:
            study = self._id(connection, name)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            first = dialect.insert(_BEATS).values(study=study, worker=worker, count=1)
            again = {"count": _BEATS.c.count + 1}
            connection.execute(
                first.on_conflict_do_update(index_elements=["study", "worker"], set_=again)
            )

    def beats(self, name: str) -> dict[str, int]:
        with self._reading(name) as connection:
            query = sa.select(_BEATS.c.worker, _BEATS.c.count).where(
                _BEATS.c.study == self._id(connection, name)
            )
            return {str(worker): int(count) for worker, count in connection.execute(query)}

    def delete(self, name: str) -> None:
        with self._reading(name, writing=True) as connection:
            study = self._id(connection, name, lock=True)
            connection.execute(sa.delete(_EVENTS).where(_EVENTS.c.study == study))
            connection.execute(sa.delete(_BEATS).where(_BEATS.c.study == study))
            connection.execute(sa.delete(_STUDIES).where(_STUDIES.c.id == study))

    def close(self) -> None:
        """Give the connections of this process back. The store can be used again; one in memory is empty then."""
        with self._lock:
            engine = self._engines.pop(self._key, None)
        if engine is not None:
            engine.dispose()

    def __repr__(self) -> str:
        return f"SqlStore({str(self)!r})"

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @property
    def _absent(self) -> bool:
        return self._file is not None and not self._file.exists()

    @property
    def _key(self) -> int:
        # A connection must not be used, nor even closed, on the other side of a fork: each process gets its own.
        return 0 if self._in_memory else os.getpid()

    def _id(self, connection: sa.Connection, name: str, lock: bool = False) -> int:
        query = sa.select(_STUDIES.c.id).where(_STUDIES.c.name == name)
        # PostgreSQL: writers of one study queue up here. SQLite ignores it, BEGIN IMMEDIATE did that already.
        found = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
        if found is None:
            raise unknown_study(name, _names(connection))
        return int(found)

    @contextmanager
    def _reading(self, name: str, writing: bool = False) -> Iterator[sa.Connection]:
        """A transaction about a study that must be there."""
        if self._absent:
            raise StudyNotFoundError(f"no study named {name!r}: the storage {self} does not exist")
        with self._transaction(writing) as connection:
            yield connection

    @contextmanager
    def _transaction(self, writing: bool = False) -> Iterator[sa.Connection]:
        """All or nothing. What the database complains of leaves as a ``StorageError``."""
        try:
            held = getattr(self._held, "connection", None)
            if held is not None:  # inside ``turn``, which commits
                yield held
                return
            with (
                self._alone,
                self._engine().connect() as connection,
                _begun(connection, writing, self._patience),
            ):
                yield connection
        except exc.SQLAlchemyError as error:
            raise self._explained(error) from error
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"the name of a study must be valid unicode, got {error.object!r}"
            ) from error

    def _engine(self) -> sa.Engine:
        with self._lock:
            engine = self._engines.get(self._key)
            if engine is None:
                engine = self._new_engine()
                self._prepare(engine)
                self._engines[self._key] = engine
            return engine

    def _new_engine(self) -> sa.Engine:
        on_sqlite = self._url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_timeout": self._patience}
        if (
            self._in_memory
        ):  # one connection, shared by all threads: another one would be another database
            options = {"poolclass": StaticPool}
        # SQLite waits without looking at signals, so it waits a little at a time; ``_begun`` has the patience.
        arguments = (
            {"timeout": min(self._patience, _WAIT), "check_same_thread": False} if on_sqlite else {}
        )
        engine = sa.create_engine(
            self._url, connect_args=arguments, pool_pre_ping=not on_sqlite, **options
        )
        if on_sqlite:
            sa.event.listen(engine, "connect", self._open_sqlite)
        else:
            sa.event.listen(engine, "begin", self._limit_waiting)
        return engine

    def _open_sqlite(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by its own rules
        if self._read_only:
            connection.execute("PRAGMA query_only = ON")
            return
        # Two processes that switch a new file over at once get "locked" without the usual waiting.
        deadline = time.monotonic() + self._patience
        while connection.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break  # a file system that cannot do it keeps the old mode, which is as safe
            except connection.OperationalError as error:
                if (
                    getattr(error, "sqlite_errorcode", 0) & 0xFF not in _SQLITE_LOCKED
                    or time.monotonic() > deadline
                ):
                    raise
                time.sleep(0.02)
        connection.execute("PRAGMA synchronous = FULL")

    def _limit_waiting(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * self._patience)}")

    def _prepare(self, engine: sa.Engine) -> None:
        """Make the tables of a new database, and those that an older one lacks; refuse what a newer version wrote."""
        with engine.connect() as connection, _begun(connection):
            tables = set(sa.inspect(connection).get_table_names())
        if _META.name not in tables and tables & set(_METADATA.tables):
            raise StorageError(
                f"storage {self} belongs to another program; choose another file or database"
            )
        version = self._version(engine) if _META.name in tables else 0
        if version < SCHEMA and not self._read_only:
            with engine.connect() as connection, _begun(connection, True, self._patience):
                if connection.dialect.name == "postgresql":
                    connection.execute(
                        sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_SETUP_LOCK))
                    )
                _METADATA.create_all(connection)
                known = connection.execute(_VERSION).scalar_one_or_none()
                if known is None:
                    connection.execute(sa.insert(_META), {"key": "schema", "value": str(SCHEMA)})
                elif int(known) < SCHEMA:  # nothing but tables was ever added
                    newer = sa.update(_META).where(_META.c.key == "schema")
                    connection.execute(newer.values(value=str(SCHEMA)))
            version = self._version(engine)
        if version > SCHEMA:
            raise SchemaTooNewError(
                f"storage {self} was written by a newer version of bo_invert (schema {version}, this one knows "
                f"{SCHEMA}); run: pip install --upgrade bo-invert"
            )

    def _version(self, engine: sa.Engine) -> int:
        with engine.connect() as connection, _begun(connection):
            return int(connection.execute(_VERSION).scalar_one())

    def _explained(self, error: exc.SQLAlchemyError) -> StorageError:
        cause = getattr(error, "orig", None) or error
        said = f"{type(cause).__name__}: {cause}"
        locked = (
            isinstance(error, exc.TimeoutError)
            or getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED
            or getattr(cause, "sqlstate", None) in _POSTGRES_LOCKED
        )
        if locked:
            return StorageBusyError(
                f"storage {self} stayed locked by another program for {self._patience:g} seconds; nothing was "
                f"written. End that program, or try again ({said})"
            )
        if getattr(cause, "sqlite_errorname", None) in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            return StorageError(
                f"storage {self} is damaged or no SQLite database ({said}); choose another file or restore a copy"
            )
        if (
            getattr(cause, "sqlite_errorname", "") in _SQLITE_FULL
            or getattr(cause, "sqlstate", None) == "53100"
        ):
            return StorageError(
                f"storage {self} could not be written, the disk may be full; nothing of this was kept, all that was "
                f"there before still is. Make room and try again ({said})"
            )
        return StorageError(f"storage {self} failed: {said}")


_VERSION = sa.select(_META.c.value).where(_META.c.key == "schema")


def _rows(study: int, texts: Sequence[str], after: int) -> list[dict[str, Any]]:
    return [
        {"study": study, "seq": after + i, "data": text} for i, text in enumerate(texts, start=1)
    ]


def _names(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(_STUDIES.c.name).order_by(_STUDIES.c.id)).scalars())


@contextmanager
def _begun(
    connection: sa.Connection, writing: bool = False, patience: float = 0.0
) -> Iterator[None]:
    """A transaction. On SQLite a writer takes the lock at once, so what it reads stays true until it has written."""
    deadline = time.monotonic() + patience
    with connection.begin():
        while connection.dialect.name == "sqlite":
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
                break
            except exc.OperationalError as error:
                locked = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED
                if not locked or time.monotonic() > deadline:
                    raise
        yield
