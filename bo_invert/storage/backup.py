"""Consistent copy of an SQLite database in use."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from bo_invert.errors import InvalidInputError, StorageError
from bo_invert.storage.base import Store
from bo_invert.storage.export_import import complete_file
from bo_invert.storage.sqlite_file import SqliteFile


def backup(store: Store, path: str | Path, *, overwrite: bool = False) -> None:
    """Copy a database while other programs use it.

    The copy is one complete file without a ``-wal``: the state of one moment. It appears when it is
    complete and on the disk.

    Args:
        store: Storage in an SQLite file.
        path: Path of the copy.
        overwrite: Replace an existing file.

    Raises:
        InvalidInputError: The storage is no SQLite file, or the copy cannot be there.
        StorageError: The database is missing or damaged, or the copy cannot be written.
    """
    target, file = Path(path).absolute(), getattr(store, "file", None)
    if not isinstance(file, SqliteFile):
        raise InvalidInputError(
            f"backup: the storage must be an SQLite file, got {store}. For PostgreSQL, run "
            "pg_dump; for a server, run bo-invert backup on its machine with its --storage"
        )
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"backup: the folder {str(target.parent)!r} must exist. Create it first"
        )
    if target.exists() and (not overwrite or os.path.samefile(target, file.path)):
        raise InvalidInputError(
            f"backup: the file {str(target)!r} must not exist. Choose another name"
            + ("" if overwrite else ", or add --overwrite")
        )
    if target.with_name(f"{target.name}-wal").exists():
        raise InvalidInputError(
            f"backup: {str(target)!r} has a -wal file, so a program uses or used this database. "
            "Choose another name"
        )
    try:
        with complete_file(target) as part:
            with closing(file.connect()) as source, closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise StorageError(f"backup: storage {store} is damaged: {found}. No copy was made")
    except sqlite3.Error as error:
        raise StorageError(f"backup: storage {store} cannot be copied: {error}") from error
    except OSError as error:
        raise StorageError(f"backup: {str(target)!r} cannot be written: {error}") from error
