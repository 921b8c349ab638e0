"""Database connections, locks and transactions of the SQL storage."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.storage.base import SCHEMA
from bo_invert.storage.fair_lock import FairLock
from bo_invert.storage.sql_errors import damaged_file, is_sqlite_locked, read_only, translated
from bo_invert.storage.sql_schema import stored_version, upgrade
from bo_invert.storage.sql_tables import SCHEMA_VERSION
from bo_invert.storage.sqlite_file import SqliteFile, sqlite_path

_log = logging.getLogger(__name__)


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
        self._writers: dict[int, FairLock] = {}
        self.file: SqliteFile | None = None
        """File of an SQLite database."""
        self._in_memory = False
        self._url = self._parse(url)
        # All threads share the one connection to a database in memory, so they take turns.
        self._exclusive: AbstractContextManager[Any] = (
            self._lock if self._in_memory else nullcontext()
        )
        self._own = _Own()
        self._version, self._ready = 0, False
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

    def __reduce__(self) -> tuple[Any, ...]:
        if self._in_memory:
            raise InvalidInputError(
                f"storage {self}: a database in memory cannot be copied or sent to another "
                "process. Use a file, as in storage='sqlite:///runs.db'"
            )
        place = self.file.path if self.file else self._url.render_as_string(hide_password=False)
        reopened = partial(type(self), place, patience=self.patience, read_only=self._read_only)
        return reopened, ()

    def __str__(self) -> str:
        if self.file:
            return f"sqlite:///{self.file.path}"
        return self._url.render_as_string(hide_password=True)

    @property
    def missing(self) -> bool:
        """True if the SQLite file does not exist."""
        return self.file is not None and self.file.missing and not self._engines

    @contextmanager
    def transaction(self, *, writing: bool = False) -> Iterator[sa.Connection]:
        """Run a transaction, or take part in the open one of this thread.

        Raises:
            StorageReplacedError: The file was moved, deleted or replaced. If a write finds this
                out at its end, the former file has the change.
            StorageError: The database failed; nothing is written.
        """
        shared = self._own.connection
        try:
            if shared is not None:
                yield shared
                return
            engine = self.engine(writing=writing)
            with self._turn_to_write() if writing and self.file else nullcontext():
                self._own.signature = self.file.check() if self.file else None
                with (
                    self._exclusive,
                    engine.connect() as connection,
                    _begin(connection, writing, self.patience),
                ):
                    self._own.connection = connection
                    self._refresh_version(connection)
                    yield connection
                if self.file and not isinstance(engine.pool, NullPool):
                    self.file.remember()
                    if writing:
                        self.file.check()
        except exc.SQLAlchemyError as error:
            raise translated(error, str(self), self.patience) from error
        except UnicodeDecodeError as error:  # in the text of an error about a damaged schema
            raise damaged_file(str(self), str(error)) from error
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"study: the name must be valid Unicode, got {error.object!r}"
            ) from error
        finally:
            self._own.connection = shared

    def _turn_to_write(self) -> AbstractContextManager[None]:
        """Queue with the other writers of this process; a fork has a queue of its own."""
        return self._writers.setdefault(self._key, FairLock()).turn(self.patience)

    def engine(self, *, writing: bool = True) -> sa.Engine:
        """Return the engine of this process.

        Args:
            writing: Create the file and the tables, and upgrade older ones.
        """
        with self._lock:
            if self._key not in self._engines:
                self._version, self._ready = 0, False
                if self.file:
                    self.file.forget()
                    if writing and not self._read_only:
                        self.file.create()
                engine = self._new_engine()
                with engine.connect() as connection, _begin(connection):
                    self._version = stored_version(connection, str(self))
                self._engines[self._key] = engine
                _log.debug("storage %s opened", self)
            engine = self._engines[self._key]
            if writing and (self._read_only or isinstance(engine.pool, NullPool)):
                raise read_only(str(self))
            if writing and not self._ready:
                self._prepare(engine)
            return engine

    def _prepare(self, engine: sa.Engine) -> None:
        """Prepare a database for its first change by this process."""
        with engine.connect() as connection:
            if self.file:
                _write_ahead(connection, self.patience)
            with _begin(connection, True, self.patience):
                if stored_version(connection, str(self)) < SCHEMA:
                    upgrade(connection)
        self._version, self._ready = SCHEMA, True

    def _refresh_version(self, connection: sa.Connection) -> None:
        """Read the version again, because another process may have created or upgraded tables."""
        if not self._version:
            self._version = stored_version(connection, str(self))
        elif self._version < SCHEMA:
            self._version = int(connection.execute(SCHEMA_VERSION).scalar_one())

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
            if isinstance(url, str) and not url.startswith(("sqlite:", "sqlite+")):
                return sa.make_url(url)
        except exc.ArgumentError as error:
            raise InvalidInputError(
                f"storage: the URL must be a database URL or a path, got {url!r}. "
                "Write sqlite:///runs.db"
            ) from error
        path = sqlite_path(url) if isinstance(url, str) else url
        self._in_memory = path is None
        if path is None:
            return sa.URL.create("sqlite")
        # SQLite ignores signals while it waits, so it waits for a second at most; ``_patiently``
        # repeats the wait.
        self.file = SqliteFile(path, min(self.patience, 1.0))
        if not self.file.path.parent.is_dir():
            raise InvalidInputError(
                f"storage {str(url)!r}: the folder {str(self.file.path.parent)!r} must exist. "
                "Create it first"
            )
        return sa.URL.create("sqlite", database=str(self.file.path))

    def _new_engine(self) -> sa.Engine:
        if self._url.get_backend_name() != "sqlite":
            engine = sa.create_engine(self._url, pool_pre_ping=True, pool_timeout=self.patience)
            sa.event.listen(engine, "begin", self._configure_postgres)
            return engine
        if self.file is None:  # another connection would be another database
            engine = sa.create_engine(
                self._url, connect_args={"check_same_thread": False}, poolclass=StaticPool
            )
        elif self.file.writable:
            engine = sa.create_engine(
                "sqlite://",
                creator=self.file.connect,
                poolclass=QueuePool,
                pool_timeout=self.patience,
            )
            sa.event.listen(engine, "close", self.file.connection_closed)
        else:  # each transaction sees the latest state of a file that SQLite cannot lock
            engine = sa.create_engine("sqlite://", creator=self.file.connect, poolclass=NullPool)
        sa.event.listen(engine, "connect", self._configure_sqlite)
        return engine

    def _configure_sqlite(self, connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver starts transactions by its own rules
        if self._read_only or (self.file and not self.file.writable):
            connection.execute("PRAGMA query_only = ON")
            return
        connection.execute("PRAGMA synchronous = FULL")

    def _configure_postgres(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * self.patience)}")


class _Own(threading.local):
    """State of the open transaction of each thread."""

    connection: sa.Connection | None = None
    signature: tuple[int, int] | None = None
    """Modification time and size of the SQLite file at its start."""


def _write_ahead(connection: sa.Connection, patience: float) -> None:
    """Switch an SQLite file to write-ahead mode.

    A file system without support retains the old mode, which is as safe.
    """
    # Two processes that switch a new file at once get "locked" without the usual wait.
    raw: Any = connection.connection.dbapi_connection
    if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _patiently(raw.execute, "PRAGMA journal_mode = WAL", patience)


def _patiently(execute: Callable[[str], object], statement: str, patience: float) -> None:
    """Execute a statement on SQLite, again while the database is locked."""
    deadline = time.monotonic() + patience
    while True:
        try:
            execute(statement)
            return
        except (exc.OperationalError, sqlite3.OperationalError) as error:
            if not is_sqlite_locked(getattr(error, "orig", error)) or time.monotonic() > deadline:
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
