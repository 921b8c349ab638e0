"""Connections that are silent, slow or too many are closed, and a valid request is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from inside import Inside
from uvicorn import Config
from uvicorn.server import ServerState

import bo_invert as bi
from bo_invert.service import connection_limits
from bo_invert.service.connection_limits import HARD, BoundedConnection, ConnectionLimits


@dataclass(eq=False)
class Line:
    """Connection without a socket."""

    age: float = 0.0
    idle: bool = True
    address: str = "a"
    group: tuple[str, str] | None = None
    ended: bool = False

    def end(self) -> None:
        self.ended = True
        LIMITS.remove(cast(BoundedConnection, self))


LIMITS = ConnectionLimits()


@pytest.fixture(autouse=True)
def limits() -> ConnectionLimits:
    global LIMITS
    LIMITS = ConnectionLimits(per_address=3, per_token=2)
    return LIMITS


def place(*lines: Line, token: str | None = None) -> None:
    for line in lines:
        LIMITS.place(cast(BoundedConnection, line), token)


@pytest.mark.parametrize(("token", "limit"), [(None, 3), ("t", 2)])
def test_the_connection_that_is_idle_longest_makes_room(token: str | None, limit: int) -> None:
    busy, *lines = [Line(age=10.0, idle=i > 0) for i in range(limit + 1)]
    place(busy, *lines[:-1], token=token)
    assert not any(line.ended for line in (busy, *lines))
    place(lines[-1], token=token)
    assert [line.ended for line in (busy, *lines)] == [False, True, *[False] * (limit - 1)]


@pytest.mark.parametrize(("token", "limit"), [(None, 3), ("t", 2)])
def test_a_burst_of_connections_is_bounded_too(token: str | None, limit: int) -> None:
    lines = [Line() for _ in range(HARD * limit)]
    place(*lines, token=token)
    assert not any(line.ended for line in lines)
    place(Line(), token=token)
    assert [line.ended for line in lines] == [True, *[False] * (len(lines) - 1)]


def test_without_an_idle_connection_the_new_one_is_closed() -> None:
    lines = [Line(age=10.0, idle=False) for _ in range(HARD * 3 + 1)]
    place(*lines)
    assert [line.ended for line in lines] == [*[False] * (HARD * 3), True]


def test_each_address_and_each_token_has_connections_of_its_own() -> None:
    lines = [Line(age=10.0, address=name) for name in "abc" for _ in range(3)]
    tokens = [Line(age=10.0) for _ in range(4)]
    place(*lines)
    place(*tokens[:2], token="t")
    place(*tokens[2:], token="u")
    assert not any(line.ended for line in (*lines, *tokens))
    place(lines[0], token="u")  # it is idle, but others are idle longer
    assert [line.ended for line in tokens] == [False, False, True, False]
    place(Line(age=10.0))
    assert not any(line.ended for line in lines), "one of them counts for a token now"


class Sockets:
    """The application behind real sockets on loopback."""

    def __init__(self, inside: Inside, limits: ConnectionLimits | None = None) -> None:
        self.inside = inside
        self.limits = limits or ConnectionLimits()
        self.port = 0

    async def run(self, test: Callable[[Sockets], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        config = Config(self.inside.app, log_level="critical", timeout_keep_alive=1)
        config.load()
        state = ServerState()

        def connection() -> BoundedConnection:
            return BoundedConnection(
                self.limits, config=config, server_state=state, app_state={}, _loop=loop
            )

        server = await loop.create_server(connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(20.0):
                await test(self)
        finally:
            server.close()
            for line in list(state.connections):
                cast(Any, line).end()

    async def connect(self, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
        return reader, writer

    def head(self, path: str, *headers: str, method: str = "GET", token: str = "write") -> bytes:
        secret = self.inside.secrets.get(token, token)
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {secret}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    made = Inside(tmp_path)
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
    bi.Study.create("s", problem, "random", storage=made.store).ask()
    return made


async def ends(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


SLOW: dict[str, Callable[[Sockets], list[bytes]]] = {
    "silent": lambda _: [],
    "part of a header": lambda _: [b"GET /healthz HT"],
    "headers without an end": lambda _: [b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"],
    "silent after a request": lambda s: [s.head("/healthz")[:-4], b"\r\n\r\nGET"],
    "unread body without a token": lambda _: [
        b"POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    ],
    "unread body of a wrong token": lambda s: [
        s.head("/v1/studies", "Content-Length: 1000", method="POST", token="wrong"),
        b"{",
    ],
    "unread body of a GET request": lambda _: [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    ],
    "unread body that is too large": lambda s: [
        s.head("/v1/studies", "Transfer-Encoding: chunked", method="POST"),
        b"500000\r\n" + b" " * 0x500000,
    ],
    "slow body": lambda s: [s.head("/v1/studies", "Content-Length: 1000", method="POST"), b"{"],
}
"""Bytes of clients after which nothing follows."""


@pytest.mark.parametrize("kind", SLOW)
def test_slow_requests_end(inside: Inside, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADER_TIMEOUT", 0.1)
    monkeypatch.setattr("bo_invert.service.middleware.BODY_TIMEOUT", 0.1)

    async def test(sockets: Sockets) -> None:
        reader, writer = await sockets.connect(*SLOW[kind](sockets))
        found = await ends(reader)
        if kind == "slow body":
            assert found.startswith(b"HTTP/1.1 408 ")
        writer.close()

    asyncio.run(Sockets(inside).run(test))


async def flood(writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send requests as long as the connection is open."""
    while True:
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(0.0)


def test_a_client_that_does_not_read_is_disconnected(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "WRITE_TIMEOUT", 0.1)

    async def test(sockets: Sockets) -> None:
        reader, writer = await sockets.connect()
        cast(Any, reader)._limit = 1000  # its transport stops reading soon
        with pytest.raises(ConnectionError):
            await flood(writer, sockets.head("/static/page.js"))

    asyncio.run(Sockets(inside).run(test))


def test_a_request_is_answered_among_silent_connections(inside: Inside) -> None:
    async def test(sockets: Sockets) -> None:
        silent = [await sockets.connect() for _ in range(60)]
        reader, writer = await sockets.connect(sockets.head("/v1/studies", "Connection: close"))
        assert (await ends(reader)).startswith(b"HTTP/1.1 200 ")
        for _, one in (*silent, (reader, writer)):
            one.close()

    asyncio.run(Sockets(inside, ConnectionLimits(per_address=4)).run(test))


def test_delayed_refusals_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients without a token cannot occupy all connections of an address."""
    monkeypatch.setattr("bo_invert.service.quotas.PENALTY", 3600.0)
    monkeypatch.setattr("bo_invert.service.middleware._ANONYMOUS_BURST", 0.0)
    monkeypatch.setattr("bo_invert.service.middleware._ANONYMOUS_RATE", 1e-6)
    inside = Inside(tmp_path)

    async def test(sockets: Sockets) -> None:
        refused = [
            await sockets.connect(sockets.head("/v1/studies", token="wrong")) for _ in range(60)
        ]
        reader, writer = await sockets.connect(sockets.head("/v1/studies", "Connection: close"))
        assert (await ends(reader)).startswith(b"HTTP/1.1 200 ")
        for _, one in (*refused, (reader, writer)):
            one.close()

    asyncio.run(Sockets(inside, ConnectionLimits(per_address=4)).run(test))
