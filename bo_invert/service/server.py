"""Start of the server: addresses, tokens and uvicorn."""

from __future__ import annotations

import gc
import ipaddress
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bo_invert.errors import (
    ErrorStream,
    InvalidInputError,
    StorageError,
    printable,
    require_package,
)
from bo_invert.service.access_tokens import (
    Access,
    Token,
    TokenFile,
    TokenLookup,
    ViewerToken,
    default_file,
)
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.sql import SqlStore
from bo_invert.storage.sqlite_file import MEMORY_URLS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

with require_package("the server", "uvicorn and fastapi", "service"):
    import uvicorn

    from bo_invert.service.app import create_app
    from bo_invert.service.connection_limits import BoundedConnection, ConnectionLimits
    from bo_invert.service.middleware import LOOPBACK
    from bo_invert.service.open_studies import OpenStudies
    from bo_invert.service.process_pool import ProcessPool
    from bo_invert.service.quotas import QUOTAS, Admission, RequestKind
    from bo_invert.service.remote_requests import READ_NICE
    from bo_invert.service.request_process import respond

_ADDRESS = "<address>"
"""Placeholder in messages for the address of the server, which is known once it listens."""

_SWITCH = 0.0005
"""Seconds for which a thread may compute while others wait. Engineering choice: a tenth of the
default of Python; a change passes a few dozen times from thread to thread."""

_COLLECTIONS = (50_000, 20, 100)
"""Numbers of objects and of collections before the next collection of each generation. Engineering
choice: with the defaults of Python, opening a study of 5,000 trials stops all threads for 0.3 s."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Args:
        storage: database URL, or path of an SQLite file.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        expose: permits addresses that other machines can reach.
        allowed_hosts: further host names of this server.
        tokens: file of tokens.
        config: TOML file of registered problems.
        askers: largest number of ask processes.
        asks_per_second: rate limit of asks for each token.
        readers: number of processes for reads and large changes; 0 to use that of the server.
        reads_per_second: rate limit of reads for each token.
    """

    storage: str
    host: str = "127.0.0.1"
    port: int = 8765
    expose: bool = False
    allowed_hosts: tuple[str, ...] = ()
    tokens: Path | None = None
    config: Path | None = None
    askers: int = 4
    asks_per_second: float = 50.0
    readers: int = 2
    reads_per_second: float = 200.0


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    with suppress(ValueError):
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


def tokens_of(settings: ServerSettings) -> tuple[TokenFile, Token | None]:
    """Return the tokens of a server, and a new token if there was none.

    A token is created on loopback addresses only.

    Raises:
        InvalidInputError: other machines can reach the address, and ``expose`` is not set or there
            is no token.
    """
    tokens = TokenFile(settings.tokens or default_file())
    if is_loopback(settings.host):
        return tokens, None if tokens.all() else tokens.make("first", Access.WRITE)
    if not settings.expose:
        raise InvalidInputError(
            f"host {settings.host!r} is reachable from other machines; confirm with --expose. "
            "For encryption, use a TLS proxy, or an SSH tunnel to 127.0.0.1"
        )
    if not tokens.all():
        raise InvalidInputError(
            f"host {settings.host!r} needs a token, and {tokens.file} holds none; "
            "run: bo-invert token --new NAME"
        )
    return tokens, None


def serve(settings: ServerSettings) -> None:
    """Run the server until it receives SIGINT or SIGTERM.

    Raises:
        InvalidInputError: see ``tokens_of``; or several processes cannot share the storage.
    """
    tokens, new = tokens_of(settings)
    store = SqlStore(_database(settings.storage))
    store.names()  # fails now if the storage is unreadable
    listed = f"tokens: {tokens.file}; list: bo-invert token --tokens {tokens.file}"
    stored = listed if new is None else f"new token {new.secret}, stored in {tokens.file}"
    lines = [stored, f"page: {_ADDRESS}/{_fragment(settings, tokens)}"]
    _run(settings, store, tokens, [f"studies in {store}, serving on {_ADDRESS}", *lines])


def _fragment(settings: ServerSettings, tokens: TokenFile) -> str:
    """Return the end of the link to the page: a token, if only this machine can reach the server.

    Logs of an exposed server may be read by others, so that its link has no token.
    """
    writers = [one for one in tokens.all() if one.access is Access.WRITE] or tokens.all()
    return f"#token={writers[0].secret}" if is_loopback(settings.host) and writers else ""


def watch(storage: str, port: int, config: Path | None = None) -> None:
    """Show the page for a storage on this machine, read-only, until SIGINT or SIGTERM.

    Args:
        storage: database URL, or path of an SQLite file.
        port: port to listen on; 0 for a free one.
        config: TOML file of registered problems, which may draw designs.

    Raises:
        InvalidInputError: the storage is not a database, or the configuration is unreadable.
        StorageError: the database does not exist or is damaged.
    """
    store = SqlStore(_database(storage), read_only=True)
    if store.missing:
        raise StorageError(f"storage {store} does not exist. Check the path")
    if not store.names():
        raise InvalidInputError(f"storage {storage} holds no studies")
    viewer = ViewerToken()
    line = f"watching {store}: {_ADDRESS}/#token={viewer.token.secret}"
    _run(
        ServerSettings(storage, port=port, config=config, askers=0, readers=0),
        store,
        viewer,
        [line],
    )


def _database(storage: str) -> str | Path:
    """Return the URL or the path of a storage that several processes can share."""
    if "://" not in storage:
        return Path(storage).absolute()
    if storage.startswith(("http://", "https://")) or storage in MEMORY_URLS:
        raise InvalidInputError(f"storage must be a file or a database, got {storage!r}")
    return storage


def _run(
    settings: ServerSettings, store: SqlStore, tokens: TokenLookup, lines: Sequence[str]
) -> None:
    """Run a server that prints lines with its address once it listens."""
    registered = RegisteredProblems.load(settings.config)
    database = _database(settings.storage)
    studies = OpenStudies(store, database, registered, settings.askers)
    if settings.readers:
        serve_reads = partial(respond, database, registered)
        studies.reads = ProcessPool(serve_reads, settings.readers, READ_NICE)
    own = () if settings.host in ("0.0.0.0", "::") else (settings.host,)
    hosts = (*LOOPBACK, *settings.allowed_hosts, *own)
    _raise_file_limit()
    sys.setswitchinterval(_SWITCH)
    gc.set_threshold(*_COLLECTIONS)
    config = uvicorn.Config(
        create_app(studies, tokens, hosts, _admission(settings)),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        server_header=False,
        http=partial(BoundedConnection, ConnectionLimits()),  # type: ignore[arg-type]
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: object) -> None:
            studies.closing = True  # live streams would delay the shutdown
            super().handle_exit(sig, frame)  # type: ignore[arg-type]

        async def shutdown(self, sockets: object = None) -> None:
            await super().shutdown(sockets)  # type: ignore[arg-type]
            # uvicorn ends this process by the signal. SQLite copies its -wal into the database
            # when the last connection closes.
            store.close()

        async def startup(self, sockets: object = None) -> None:
            await super().startup(sockets)  # type: ignore[arg-type]
            if self.servers:
                host, port = self.servers[0].sockets[0].getsockname()[:2]
                address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                text = "".join(f"bo-invert: {line}\n" for line in lines)
                print(printable(text.replace(_ADDRESS, address)), end="", file=ErrorStream())

    Server(config).run()


def _admission(settings: ServerSettings) -> Admission:
    """Return the limits of each token."""
    rates = {
        RequestKind.ASK: settings.asks_per_second,
        RequestKind.READ: settings.reads_per_second,
    }
    return Admission(
        {
            kind: replace(QUOTAS[kind], rate=rate, burst=max(1.0, 2.0 * rate))
            for kind, rate in rates.items()
        }
    )


def _raise_file_limit() -> None:
    """Let this process open as many connections as the system allows."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
