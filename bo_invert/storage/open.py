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
