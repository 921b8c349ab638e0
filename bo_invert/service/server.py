"""Starting the server: addresses, tokens, uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.service.middleware import LOOPBACK
from bo_invert.service.tokens import Access, Finder, Token, Tokens, default_file
from bo_invert.types import printable

if TYPE_CHECKING:
    from bo_invert.service.open_studies import Desk

ADDRESS = "<address>"
"""Stands for the server's address in sentences, until it is known."""


@dataclass(frozen=True)
class Settings:
    """Of a server.

    Args:
        storage: URL of a database, or the path of an SQLite file.
        host: address to listen on.
        port: 0 for any that is free.
        expose: whether an address that others can reach is meant.
        allowed_hosts: names by which others call this server.
        tokens: file with the tokens.
        config: TOML file with problems of the operator.
        askers: processes that ask strategies.
        asks_per_second: for each token.
    """

    storage: str
    host: str = "127.0.0.1"
    port: int = 8765
    expose: bool = False
    allowed_hosts: tuple[str, ...] = ()
    tokens: Path | None = None
    config: Path | None = None
    askers: int = 1
    asks_per_second: float = 50.0


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tokens_of(settings: Settings) -> tuple[Tokens, Token | None]:
    """The tokens of a server; on its first start one is made, and returned with them.

    Raises:
        InvalidInputError: the address can be reached by others, and nobody said that this is meant, or there is no token.
    """
    file = settings.tokens or default_file()
    found = Tokens(file)
    if is_loopback(settings.host):
        return found, None if found.all() else found.make("first", Access.WRITE)
    if not settings.expose:
        raise InvalidInputError(
            f"{settings.host!r} can be reached by others; if that is meant, say --expose. Without encryption put the "
            "server behind a proxy that has it, or use an SSH tunnel to 127.0.0.1"
        )
    if not found.all():
        raise InvalidInputError(
            f"there are no tokens in {file}, and anybody could get in; run: bo-invert token --new NAME"
        )
    return found, None


def serve(settings: Settings) -> None:
    """Run the server until it is told to stop.

    Raises:
        InvalidInputError: see ``tokens_of``; or the storage is none that several processes can share.
        MissingExtraError: FastAPI or uvicorn is not installed.
    """
    _require()
    from bo_invert.service.open_studies import Desk
    from bo_invert.service.registered_problems import Registered
    from bo_invert.storage.sql import SqlStore

    tokens, made = tokens_of(settings)
    registered = Registered({}) if settings.config is None else Registered.load(settings.config)
    store = SqlStore(_url(settings.storage))
    store.names()  # a storage that cannot be read is better known now
    if made is not None:
        lines = [
            f"made a token, kept in {tokens.file}: {made.secret}",
            f"the page: {ADDRESS}/#token={made.secret}",
        ]
    else:
        lines = [f"tokens are in {tokens.file}; see bo-invert token --tokens {tokens.file}"]
    desk = Desk(store, _url(settings.storage), registered, settings.askers)
    _run(settings, desk, tokens, [f"studies in {store}, serving on {ADDRESS}", *lines])


def watch(storage: str, port: int, config: Path | None = None) -> None:
    """Show the page for a storage on this machine, for looking only, until it is told to stop.

    Args:
        storage: a database.
        port: 0 for any that is free.
        config: problems that can draw designs, as for ``serve``.

    Raises:
        InvalidInputError: the storage is no database, or the configuration cannot be read.
        StorageError: it is not there, or damaged.
        MissingExtraError: FastAPI or uvicorn is not installed.
    """
    _require()
    from bo_invert.service.open_studies import Desk
    from bo_invert.service.registered_problems import Registered
    from bo_invert.service.tokens import Guest
    from bo_invert.storage.sql import SqlStore

    url = _url(storage)
    store = SqlStore(url, read_only=True)
    if not store.names():
        raise InvalidInputError(f"there are no studies in {storage}")
    registered = Registered({}) if config is None else Registered.load(config)
    guest = Guest()
    lines = [f"watching {store}: {ADDRESS}/#token={guest.token.secret}"]
    _run(Settings(storage, port=port), Desk(store, url, registered, askers=0), guest, lines)


def _require() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"the server needs the package {error.name!r}; run: pip install 'bo-invert[service]'"
        ) from error


def _url(storage: str) -> str:
    """The URL of a storage that several processes can share."""
    url = storage if "://" in storage else f"sqlite:///{Path(storage).absolute()}"
    if url.startswith(("http://", "https://")) or url in ("sqlite://", "sqlite:///:memory:"):
        raise InvalidInputError(
            f"a server keeps its studies in a file or a database, not in {storage!r}"
        )
    return url


def _run(settings: Settings, desk: Desk, tokens: Finder, lines: list[str]) -> None:
    import uvicorn

    from bo_invert.service.app import create_app
    from bo_invert.service.middleware import Bucket

    hosts = (
        *LOOPBACK,
        *settings.allowed_hosts,
        *(() if settings.host in ("0.0.0.0", "::") else (settings.host,)),
    )
    app = create_app(
        desk, tokens, hosts, Bucket(settings.asks_per_second, 2.0 * settings.asks_per_second)
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
        limit_concurrency=1000,
    )
    _Announced(config, desk, lines).run()


class _Announced:
    """A uvicorn server that says where it is once it listens."""

    def __init__(self, config: object, desk: Desk, lines: list[str]) -> None:
        import uvicorn

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: object) -> None:
                # Watchers would keep the server from ending; this is called from a signal handler.
                loop = getattr(self, "_loop_of_ours", None)
                if loop is not None:
                    loop.call_soon_threadsafe(desk.closing.set)
                super().handle_exit(sig, frame)  # type: ignore[arg-type]

            async def startup(self, sockets: object = None) -> None:
                self._loop_of_ours = asyncio.get_running_loop()
                await super().startup(sockets)  # type: ignore[arg-type]
                if not self.servers:
                    return
                host, port = self.servers[0].sockets[0].getsockname()[:2]
                address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                for line in lines:
                    message = printable(f"bo-invert: {line.replace(ADDRESS, address)}")
                    print(message, file=sys.stderr)

        self._server = Server(config)  # type: ignore[arg-type]

    def run(self) -> None:
        self._server.run()
