"""SQLite files: paths, connections, read-only places, detection of replaced files.

Only SQLite opens these files. A file that this process opened and closed itself would lose the
locks that SQLite has on it (a rule of POSIX).
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from bo_invert.errors import InvalidInputError, StorageError, StorageReplacedError

WAL = "-wal"
"""Suffix of the file with the latest transactions, beside the database."""
MEMORY_URLS = ("sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:")
"""URLs of databases in memory."""
_COMPANIONS = (WAL, "-shm")
_CANNOT_OPEN = {8, 14}
"""Primary result codes SQLITE_READONLY and SQLITE_CANTOPEN of SQLite."""
_SNAPSHOT_ATTEMPTS = 3
"""Number of attempts at a copy that does not change meanwhile. Engineering choice."""


def sqlite_path(url: str) -> Path | None:
    """Return the path in an SQLite URL, None for a database in memory.

    The text after ``sqlite:///`` is the path, character by character.

    Raises:
        InvalidInputError: The URL has another form, or options.
    """
    url = f"sqlite:{url.partition(':')[2]}"  # without the name of a driver
    if url in MEMORY_URLS:
        return None
    place = url.partition("://")[2]
    if not place.startswith("/"):
        raise InvalidInputError(
            f"storage: an SQLite URL must have three slashes before the path, got {url!r}. "
            f"Write sqlite:///{place}"
        )
    path, option = Path(place[1:]), re.search(r"\?\w+=.*", place)
    if option and not os.path.lexists(path):
        raise InvalidInputError(
            f"storage: an SQLite URL must be a path without options, got {url!r}. "
            f"Remove {option[0]!r}"
        )
    return path


class SqliteFile:
    """File of an SQLite database.

    Args:
        path: Path of the file.
        timeout: Seconds that SQLite waits for a lock.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        # Absolute, so that a later chdir does not lead to another file.
        self.path = path.absolute()
        self._timeout = timeout
        self._known: dict[str, tuple[int, int]] = {}  # device and inode by suffix
        self._snapshot: tuple[object, TemporaryDirectory[str]] | None = None

    @property
    def missing(self) -> bool:
        """True if the file does not exist."""
        return not os.path.exists(self.path)

    @property
    def writable(self) -> bool:
        """True if this process may write the file and its folder, or create the file."""
        return os.access(self.path.parent, os.W_OK) and (
            self.missing or os.access(self.path, os.W_OK)
        )

    @property
    def write_ahead(self) -> bool:
        """True if the latest transactions are in a ``-wal`` file beside the main one."""
        return WAL in self._known

    def create(self) -> None:
        """Create the file if there is none, with access for this user alone.

        Raises:
            StorageError: The folder cannot be written.
        """
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except (OSError, ValueError) as error:
            raise StorageError(f"storage {self.path} cannot be created: {error}") from error

    def connect(self) -> sqlite3.Connection:
        """Open a connection; it never creates the file.

        Raises:
            StorageError: The file does not exist, or has hard links.
            StorageReplacedError: The path leads to another file than the earlier connections.
            sqlite3.Error: SQLite cannot open the file.
        """
        main = self._stat("")
        before = _identity(main)
        if main is None:
            raise StorageError(f"storage {self.path} does not exist")
        if stat.S_ISREG(main.st_mode) and main.st_nlink > 1 and self.writable:
            raise StorageError(
                f"storage {self.path} is one of {main.st_nlink} names (hard links) of a file. "
                "SQLite keeps the latest results in a file beside the name in use, so programs "
                "with different names would lose them. Delete the other names, or use a copy: "
                f"cp {self.path.name} copy.db"
            )
        connection = self._open() if self.writable else self._open_read_only()
        found = _identity(self._stat(""))
        if found is None or found != before or self._known.setdefault("", found) != found:
            connection.close()
            raise self._replaced("", found)
        # A damaged text must reach its checksum instead of an error for all rows.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.isolation_level = None  # else the driver starts transactions by its own rules
        return connection

    def connect_to_main(self) -> sqlite3.Connection:
        """Open a connection that reads the main file without the ``-wal``."""
        return self._sqlite(self.path, "mode=ro&immutable=1")

    @property
    def wal_size(self) -> int:
        """Size of the ``-wal`` file in bytes."""
        found = self._stat(WAL)
        return 0 if found is None else found.st_size

    def check(self) -> tuple[int, int] | None:
        """Check that the paths lead to the files that the connections use.

        Returns:
            Modification time and size of the main file; None without a file.

        Raises:
            StorageReplacedError: A file was moved, deleted or replaced.
        """
        main = self._stat("")
        for suffix, known in list(self._known.items()):
            found = _identity(self._stat(suffix) if suffix else main)
            if found != known:
                raise self._replaced(suffix, found)
        return None if main is None else (main.st_mtime_ns, main.st_size)

    def remember(self) -> None:
        """Remember the identity of the companion files, which open connections hold in place."""
        for suffix in _COMPANIONS:
            if suffix not in self._known and (found := _identity(self._stat(suffix))):
                self._known[suffix] = found

    def connection_closed(self, *_: object) -> None:
        """Forget the companion files, which SQLite deletes with the last connection.

        A connection also closes when Ctrl-C interrupts its transaction.
        """
        for suffix in _COMPANIONS:
            self._known.pop(suffix, None)

    def forget(self) -> None:
        """Forget the identity of the files; for new connections."""
        self._known.clear()

    def _stat(self, suffix: str) -> os.stat_result | None:
        try:
            return os.stat(f"{self.path}{suffix}")
        except OSError:
            return None

    def _open(self) -> sqlite3.Connection:
        return self._sqlite(self.path, "mode=rw")

    def _open_read_only(self) -> sqlite3.Connection:
        """Open a file that this process may not write.

        In write-ahead mode SQLite needs a ``-shm`` file, which must not be created here. Without
        one, a file without ``-wal`` is complete and is read as it is; otherwise both are copied.
        """
        if self._stat("-shm"):  # another program may use the file
            connection = self._sqlite(self.path, "mode=ro")
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _CANNOT_OPEN:
                    raise
        wal = self._stat(WAL)
        if wal is None or not wal.st_size:
            return self._sqlite(self.path, "mode=ro&immutable=1")
        return self._sqlite(self._copied(), "mode=rw")

    def _sqlite(self, path: Path, options: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?{options}",
            uri=True,
            timeout=self._timeout,
            check_same_thread=False,
        )

    def _copied(self) -> Path:
        """Return the path of a temporary copy of the file and its ``-wal``."""
        for _ in range(_SNAPSHOT_ATTEMPTS):
            state = self._state()
            if self._snapshot is not None and self._snapshot[0] == state:
                break
            folder = TemporaryDirectory(prefix="bo_invert-")
            for suffix in ("", WAL):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{self.path}{suffix}", Path(folder.name) / f"copy{suffix}")
            if self._state() == state:
                self._snapshot = state, folder
                break
        else:
            raise StorageError(
                f"storage {self.path} cannot be read: its folder is read-only and another program "
                "changes it. Read it with write permission, or make a copy: bo-invert backup"
            )
        return Path(self._snapshot[1].name) / "copy"

    def _state(self) -> object:
        stats = [self._stat(suffix) for suffix in ("", WAL)]
        return [one and (_identity(one), one.st_mtime_ns, one.st_size) for one in stats]

    def _replaced(self, suffix: str, found: tuple[int, int] | None) -> StorageReplacedError:
        part = "" if not suffix else f"the file {self.path.name}{suffix} of "
        done = "moved or deleted" if found is None else "replaced by another file"
        back = f"put {self.path.name} back together with {self.path.name}{WAL}"
        advice = (
            f"To continue with the former data, {back}"
            if suffix or found is None
            else "To continue with the new file, open the storage again (restart the program)"
        )
        return StorageReplacedError(
            f"{part}storage {self.path} was {done} while this program used it. Results "
            f"since then are not stored in the present file. {advice}. End all programs that use a "
            f"storage before you move or restore it, and delete its -wal and -shm files"
        )


def _identity(found: os.stat_result | None) -> tuple[int, int] | None:
    return None if found is None else (found.st_dev, found.st_ino)
