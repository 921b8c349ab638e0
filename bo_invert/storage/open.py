"""Storage from a URL, a path or None."""

from __future__ import annotations

from pathlib import Path

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.storage.base import Store


def open_store(
    storage: str | Path | Store | None, token: str | None = None, patience: float | None = None
) -> Store:
    """Open a storage.

    Args:
        storage: None for the memory of this process; a database URL such as
            ``"sqlite:///runs.db"`` or ``"postgresql+psycopg://user@host/database"``; the URL of a
            server, ``"https://host:8765"``; the path of an SQLite file ending in ``.db``; or a
            storage, which is returned as it is.
        token: Token for a server.
        patience: Seconds to wait for a locked database or a server that does not answer.
            Default: 30 for a database, 60 for a server.

    Raises:
        InvalidInputError: The argument is none of these, or the folder of the file does not exist.
        MissingExtraError: The driver of the database is not installed.
    """
    options = {} if patience is None else {"patience": patience}
    if storage is None:
        memory: Store = registry.resolve("stores", "memory")()
        return memory
    if isinstance(storage, str) and storage.startswith(("http://", "https://")):
        remote: Store = registry.resolve("stores", "http")(storage, token, **options)
        return remote
    if isinstance(storage, str) and "://" not in storage:
        storage = Path(storage)
        if storage.suffix != ".db":
            raise InvalidInputError(
                f"storage: it must be a URL or a file ending in .db, got {str(storage)!r}. Write "
                f"sqlite:///{storage.with_suffix('.db') if storage.name else 'runs.db'}"
            )
    if isinstance(storage, (str, Path)):
        store: Store = registry.resolve("stores", "sql")(storage, **options)
        return store
    if not all(
        callable(getattr(storage, verb, None))
        for verb in ("create", "header", "names", "events", "append", "beat", "beats")
    ):
        raise InvalidInputError(
            f"storage: it must be a URL, a path, a storage or None, got {type(storage).__name__}"
        )
    return storage
