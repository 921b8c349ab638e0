"""Errors of databases as errors of this package."""

from __future__ import annotations

from sqlalchemy import exc

from bo_invert.errors import StorageBusyError, StorageError

_SQLITE_LOCKED = {5, 6}
"""Primary result codes SQLITE_BUSY and SQLITE_LOCKED of SQLite."""
_SQLITE_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"}
_SQLITE_DAMAGED = {"SQLITE_NOTADB", "SQLITE_CORRUPT"}
_SQLITE_READ_ONLY = 8
"""Primary result code SQLITE_READONLY of SQLite."""
_POSTGRES_LOCKED = {"55P03", "40P01", "40001"}
"""PostgreSQL states lock_not_available, deadlock_detected and serialization_failure."""
_POSTGRES_FULL = "53100"
"""PostgreSQL state code of a full disk."""


def is_sqlite_locked(error: BaseException | None) -> bool:
    """Return True if SQLite reports a lock of another connection."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED


def is_damage(error: exc.SQLAlchemyError) -> bool:
    """Return True if SQLite reports a damaged file."""
    return getattr(_cause(error), "sqlite_errorname", "") in _SQLITE_DAMAGED


def read_only(storage: str) -> StorageError:
    """Return the error for a change of a storage that cannot be written."""
    return StorageError(
        f"storage {storage} is read-only; nothing was written. Make the file and its folder "
        "writable, or work on a copy: bo-invert backup"
    )


def damaged_file(storage: str, text: str) -> StorageError:
    """Return the error for a file that SQLite cannot read."""
    return StorageError(
        f"storage {storage} is damaged or no SQLite database ({text}); "
        "choose another file or restore a copy"
    )


def translated(error: exc.SQLAlchemyError, storage: str, patience: float) -> StorageError:
    """Return the error of this package for an error of SQLAlchemy.

    Args:
        error: Error of SQLAlchemy.
        storage: Name of the storage in messages.
        patience: Seconds that the failed operation waited for a lock.
    """
    cause = _cause(error)
    text = f"{type(cause).__name__}: {cause}"
    name, state = getattr(cause, "sqlite_errorname", ""), getattr(cause, "sqlstate", None)
    if isinstance(error, exc.TimeoutError) or is_sqlite_locked(cause) or state in _POSTGRES_LOCKED:
        return StorageBusyError(
            f"storage {storage} stayed locked by another program for {patience:g} seconds; "
            f"nothing was written. End that program, or try again ({text})"
        )
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF == _SQLITE_READ_ONLY:
        return read_only(storage)
    if name in _SQLITE_DAMAGED:
        return damaged_file(storage, text)
    if name in _SQLITE_FULL or state == _POSTGRES_FULL:
        return StorageError(
            f"storage {storage} cannot be written, the disk may be full; earlier data are intact, "
            f"this change is not stored. Make room and try again ({text})"
        )
    return StorageError(f"storage {storage} failed: {text}")


def _cause(error: exc.SQLAlchemyError) -> BaseException:
    return getattr(error, "orig", None) or error
