"""A store from what a user writes."""

from __future__ import annotations

from pathlib import Path

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.storage.base import Store


def open_store(
    storage: str | Path | Store | None, token: str | None = None, patience: float | None = None
) -> Store:
    """Where logs live.

    Args:
        storage: None for this process's memory; a database URL such as ``"sqlite:///runs.db"`` or
            ``"postgresql+psycopg://user@host/database"``; the URL of a server, ``"https://host:8765"``; the path of an
            SQLite file ending in ``.db``; a store as is.
        token: for a server.
        patience: seconds to go on trying where a database is locked, or a server does not answer; default: 30 and 60.

    Raises:
        InvalidInputError: it is none of these, or the folder of the file does not exist.
        MissingExtraError: the driver of that database is not installed.
    """
    longer = {} if patience is None else {"patience": patience}
    if storage is None:
        memory: Store = registry.resolve("stores", "memory")()
        return memory
    if isinstance(storage, str) and storage.startswith(("http://", "https://")):
        remote: Store = registry.resolve("stores", "http")(storage, token, **longer)
        return remote
    if isinstance(storage, str) and "://" not in storage:
        storage = Path(storage)
        if storage.suffix != ".db":
            raise InvalidInputError(
                f"storage {str(storage)!r} is neither a URL nor a file ending in .db; write for example "
                f"sqlite:///{storage.with_suffix('.db') if storage.name else 'runs.db'}"
            )
    if isinstance(storage, (str, Path)):
        store: Store = registry.resolve("stores", "sql")(storage, **longer)
        return store
    if not all(
        callable(getattr(storage, verb, None))
        for verb in ("create", "header", "names", "events", "append", "beat", "beats")
    ):
        raise InvalidInputError(
            f"storage must be a URL, a path, a store or None, got {type(storage).__name__}"
        )
    return storage
