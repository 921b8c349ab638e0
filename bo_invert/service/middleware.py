"""Who gets in, before anything is read: host, origin, token, size, time, rate. Plain ASGI, around everything else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bo_invert.service import http_errors as problems
from bo_invert.service.tokens import Access, Finder, Token

BODY = 4 * 1024 * 1024
"""Bytes of a request's body, at most."""
PATIENCE = 20.0
"""Seconds in which a body has to arrive."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass
class Bucket:
    """A rate limit: so many at once, and so many a second.

    Args:
        rate: a second, in the long run.
        burst: at once.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, who: str) -> float:
        """Seconds until there is room for another one; 0 if it was taken now."""
        now = self.clock()
        level, then = self._levels.get(who, (self.burst, now))
        level = min(self.burst, level + (now - then) * self.rate)
        if level < 1.0:
            self._levels[who] = (level, now)
            return (1.0 - level) / self.rate
        self._levels[who] = (level - 1.0, now)
        return 0.0


class Guard:
    """Lets requests through that may come in, and refuses the others with a reason.

    Args:
        app: what is guarded.
        tokens: that are accepted; None for a server that asks for none.
        hosts: names under which the server may be addressed, without ports.
        public: whether a path needs no token.
        asks: rate limit of the requests that ``limited`` names, for each token.
        limited: whether a path falls under it.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Finder,
        hosts: tuple[str, ...],
        public: Callable[[str], bool],
        asks: Bucket,
        limited: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = {host.lower() for host in hosts}
        self._public = public
        self._asks = asks
        self._limited = limited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no verb is a web socket, and nothing below would look at one
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _hardened(send)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(_body(receive), PATIENCE)
        except TimeoutError:
            await problems.response(408, f"the body did not arrive within {PATIENCE:g} seconds")(
                scope, receive, send
            )
            return
        if body is None:
            refused = problems.response(
                413, f"a body has {BODY} bytes at most", {"Connection": "close"}
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Any:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return problems.response(403, f"this server is not called {host!r}; see --allowed-host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return problems.response(403, "requests of pages from elsewhere are refused")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return problems.response(403, "requests of pages from elsewhere are refused")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", length) or int(length) > BODY:
            return problems.response(
                413, f"a body has {BODY} bytes at most", {"Connection": "close"}
            )
        path, method = scope["path"], scope["method"]
        if self._public(path) and method in _SAFE:
            return None
        token = self._token(headers)
        if token is None:
            known = (
                "this token is not known here"
                if "authorization" in headers
                else "a token is missing"
            )
            return problems.response(
                401,
                f"{known}; send the header 'Authorization: Bearer TOKEN'. On the server, bo-invert token (with "
                "the same --tokens, if it was started with any) shows what there is",
                {"WWW-Authenticate": "Bearer"},
            )
        if method not in _SAFE and token.access is not Access.WRITE:
            return problems.response(403, f"token {token.name!r} may only read")
        if method not in _SAFE and self._limited(path):
            seconds = self._asks.wait(token.name)
            if seconds > 0.0:
                after = {"Retry-After": str(int(seconds) + 1)}
                return problems.response(
                    429, f"too many asks; the next one in {seconds:.1f} seconds", after
                )
        scope["token"] = token
        return None

    def _token(self, headers: dict[str, str]) -> Token | None:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        return self._tokens.find(secret.strip()) if kind.lower() == "bearer" else None


def _name(host: str) -> str:
    """A host without its port, in lower case; ``[::1]:80`` is ``::1``."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes | None:
    """All of a body; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size > BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Hands a body out once; afterwards only that the other side has gone away."""
    told = False

    async def once() -> Message:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return once


def _hardened(send: Send) -> Send:
    """Headers that keep a browser from doing what no page of ours wants."""
    extra = [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", _POLICY),
    ]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return with_headers
