"""Storage from a URL, a path or None."""

from __future__ import annotations

import difflib
from pathlib import Path

from bo_invert import registry
from bo_invert.errors import InvalidInputError, StorageError
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
    made: Store
    if storage is None:
        made = registry.resolve("stores", "memory")()
    elif isinstance(storage, str) and storage.startswith(("http://", "https://")):
        made = registry.resolve("stores", "http")(storage, token, **options)
    elif isinstance(storage, (str, Path)):
        file = Path(storage)
        is_url = isinstance(storage, str) and "://" in storage
        if isinstance(storage, str) and not is_url and file.suffix != ".db":
            raise InvalidInputError(
                f"storage: it must be a URL or a file ending in .db, got {storage!r}. Write "
                f"sqlite:///{file.with_suffix('.db') if file.name else 'runs.db'}"
            )
        made = registry.resolve("stores", "sql")(storage if is_url else file, **options)
    elif all(
        callable(getattr(storage, verb, None))
        for verb in ("create", "header", "names", "events", "append", "beat", "beats")
    ):
        made = storage
    else:
        raise InvalidInputError(
            f"storage: it must be a URL, a path, a storage or None, got {type(storage).__name__}"
        )
    return made


def open_existing(storage: str | Path | Store, token: str | None = None) -> Store:
    """Open a storage for reading.

    Args:
        storage: See ``open_store``.
        token: Token for a server.

    Raises:
        StorageError: The SQLite file does not exist; the message lists similar names.
    """
    store = open_store(storage, token)
    if getattr(store, "missing", False):
        path: Path = store.file.path  # type: ignore[attr-defined]
        others = sorted(file.name for file in path.parent.glob("*.db"))
        near = difflib.get_close_matches(path.name, others, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Check the path."
        raise StorageError(f"storage {store} does not exist; nothing was created. {hint}")
    return store
