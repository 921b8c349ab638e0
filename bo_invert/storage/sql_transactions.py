"""Database connections, locks and transactions of the SQL storage."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import StaticPool

from bo_invert.errors import (
    InvalidInputError,
    MissingExtraError,
    SchemaTooNewError,
    StorageBusyError,
    StorageError,
)
from bo_invert.storage.base import SCHEMA
from bo_invert.storage.sql_tables import META, METADATA, SCHEMA_VERSION

_log = logging.getLogger(__name__)
_SQLITE_LOCKED = {5, 6}
"""Primary result codes SQLITE_BUSY and SQLITE_LOCKED of SQLite."""
_SQLITE_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"}
_SQLITE_DAMAGED = {"SQLITE_NOTADB", "SQLITE_CORRUPT"}
_POSTGRES_LOCKED = {"55P03", "40P01", "40001"}
"""PostgreSQL states lock_not_available, deadlock_detected and serialization_failure."""
_POSTGRES_FULL = "53100"
"""PostgreSQL state code of a full disk."""
_SETUP_LOCK = 0x626F696E
"""Key number of the PostgreSQL advisory lock on the setup of tables. Engineering choice: the bytes
of "boin", which other programs are unlikely to lock."""


class SqlDatabase:
    """Database with the tables of the SQL storage.

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
        self.patience = patience
        self._read_only = read_only
        self._lock = threading.RLock()
        self._engines: dict[int, sa.Engine] = {}
        self._file: Path | None = None
        self._in_memory = False
        self._url = self._parse(url)
        # All threads share the one connection to a database in memory, so they take turns.
        self._exclusive: AbstractContextManager[Any] = (
            self._lock if self._in_memory else nullcontext()
        )
        self._own = threading.local()  # the open connection of each thread
        try:
            self._url.get_dialect().import_dbapi()
        except exc.NoSuchModuleError as error:
            raise InvalidInputError(
                f"storage: the URL must begin with sqlite or postgresql, got {str(self)!r}"
            ) from error
        except ImportError as error:
            raise MissingExtraError(
                f"storage {self} needs the package {error.name!r}; run: pip install {error.name}"
            ) from error

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @property
    def missing(self) -> bool:
        """True if the SQLite file does not exist."""
        return self._file is not None and not self._file.exists()

    @contextmanager
    def transaction(self, *, writing: bool = False) -> Iterator[sa.Connection]:
        """Run a transaction, or take part in the open one of this thread.

        Raises:
            StorageError: The database failed; nothing is written.
        """
        shared: sa.Connection | None = getattr(self._own, "connection", None)
        try:
            if shared is not None:
                yield shared
                return
            with (
                self._exclusive,
                self.engine().connect() as connection,
                _begin(connection, writing, self.patience),
            ):
                self._own.connection = connection
                yield connection
        except exc.SQLAlchemyError as error:
            raise self._translate(error) from error
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"study: the name must be valid Unicode, got {error.object!r}"
            ) from error
        finally:
            self._own.connection = shared

    def engine(self) -> sa.Engine:
        """Return the engine of this process. Create the tables first if there are none."""
        with self._lock:
            if self._key not in self._engines:
                engine = self._new_engine()
                self._prepare(engine)
                self._engines[self._key] = engine
                _log.debug("storage %s opened", self)
            return self._engines[self._key]

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            if self._key in self._engines:
                self._engines.pop(self._key).dispose()

    @property
    def _key(self) -> int:
        # A forked process must not use, or even close, a connection of its parent.
        return 0 if self._in_memory else os.getpid()

    def _parse(self, url: str | Path) -> sa.URL:
        try:
            parsed = (
                sa.make_url(url)
                if isinstance(url, str)
                else sa.URL.create("sqlite", database=str(url))
            )
        except exc.ArgumentError as error:
            raise InvalidInputError(
                f"storage: the URL must be a database URL or a path, got {url!r}. "
                "Write sqlite:///runs.db"
            ) from error
        if parsed.get_backend_name() != "sqlite":
            return parsed
        self._in_memory = parsed.database in (None, "", ":memory:")
        if self._in_memory or str(parsed.database).startswith("file:"):
            return parsed
        # Absolute, so that a later chdir does not lead to another file.
        self._file = Path(str(parsed.database)).absolute()
        if not self._file.parent.is_dir():
            raise InvalidInputError(
                f"storage {str(url)!r}: the folder {str(self._file.parent)!r} must exist. "
                "Create it first"
            )
        return parsed.set(database=str(self._file))

    def _new_engine(self) -> sa.Engine:
        if self._url.get_backend_name() != "sqlite":
            engine = sa.create_engine(self._url, pool_pre_ping=True, pool_timeout=self.patience)
            sa.event.listen(engine, "begin", self._configure_postgres)
            return engine
        # SQLite ignores signals while it waits, so it waits for a second at most; ``_patiently``
        # repeats the wait.
        arguments = {"timeout": min(self.patience, 1.0), "check_same_thread": False}
        # Another connection to a database in memory would be another database.
        pool: dict[str, Any] = (
            {"poolclass": StaticPool} if self._in_memory else {"pool_timeout": self.patience}
        )
        engine = sa.create_engine(self._url, connect_args=arguments, **pool)
        sa.event.listen(engine, "connect", self._configure_sqlite)
        return engine

    def _configure_sqlite(self, connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver starts transactions by its own rules
        if self._read_only:
            connection.execute("PRAGMA query_only = ON")
            return
        if connection.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
            # Two processes that switch a new file to write-ahead mode at once get "locked" without
            # the usual wait. A file system without support retains the old mode, which is as safe.
            _patiently(connection.execute, "PRAGMA journal_mode = WAL", self.patience)
        connection.execute("PRAGMA synchronous = FULL")

    def _configure_postgres(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * self.patience)}")

    def _prepare(self, engine: sa.Engine) -> None:
        """Create missing tables; refuse tables of a newer version.

        Raises:
            StorageError: The tables belong to another program.
            SchemaTooNewError: A newer version of this package wrote the tables.
        """
        with engine.connect() as connection, _begin(connection):
            tables = set(sa.inspect(connection).get_table_names())
            version = (
                int(connection.execute(SCHEMA_VERSION).scalar_one()) if META.name in tables else 0
            )
        if META.name not in tables and tables & set(METADATA.tables):
            raise StorageError(
                f"storage {self} belongs to another program; choose another file or database"
            )
        if version < SCHEMA and not self._read_only:
            with engine.connect() as connection, _begin(connection, True, self.patience):
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
                METADATA.create_all(connection)
                version = int(connection.execute(SCHEMA_VERSION).scalar_one_or_none() or 0)
                if version < SCHEMA:  # versions differ by additional tables only
                    connection.execute(sa.delete(META).where(META.c.key == "schema"))
                    connection.execute(sa.insert(META), {"key": "schema", "value": str(SCHEMA)})
        if version > SCHEMA:
            raise SchemaTooNewError(
                f"storage {self} was written by a newer version of bo_invert (schema {version}, "
                f"this one knows {SCHEMA}); run: pip install --upgrade bo-invert"
            )

    def _translate(self, error: exc.SQLAlchemyError) -> StorageError:
        """Return the error of this package for an error of SQLAlchemy."""
        cause = getattr(error, "orig", None) or error
        text = f"{type(cause).__name__}: {cause}"
        name, state = getattr(cause, "sqlite_errorname", ""), getattr(cause, "sqlstate", None)
        if (
            isinstance(error, exc.TimeoutError)
            or _is_sqlite_locked(cause)
            or state in _POSTGRES_LOCKED
        ):
            return StorageBusyError(
                f"storage {self} stayed locked by another program for {self.patience:g} seconds; "
                f"nothing was written. End that program, or try again ({text})"
            )
        if name in _SQLITE_DAMAGED:
            return StorageError(
                f"storage {self} is damaged or no SQLite database ({text}); "
                "choose another file or restore a copy"
            )
        if name in _SQLITE_FULL or state == _POSTGRES_FULL:
            return StorageError(
                f"storage {self} cannot be written, the disk may be full; earlier data are intact, "
                f"this change is not stored. Make room and try again ({text})"
            )
        return StorageError(f"storage {self} failed: {text}")


def _is_sqlite_locked(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED


def _patiently(execute: Callable[[str], object], statement: str, patience: float) -> None:
    """Execute a statement on SQLite, again while the database is locked."""
    deadline = time.monotonic() + patience
    while True:
        try:
            execute(statement)
            return
        except (exc.OperationalError, sqlite3.OperationalError) as error:
            if not _is_sqlite_locked(getattr(error, "orig", error)) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _begin(
    connection: sa.Connection, writing: bool = False, patience: float = 0.0
) -> Iterator[None]:
    """Run a transaction.

    On SQLite a writer takes the lock at the start, so the data that it reads stay valid until it
    has written.
    """
    with connection.begin():
        if connection.dialect.name == "sqlite":
            begin = "BEGIN IMMEDIATE" if writing else "BEGIN"
            _patiently(connection.exec_driver_sql, begin, patience)
        yield
