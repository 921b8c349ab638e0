"""ASGI middleware that checks host, origin, token, size, time and rate of each request."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bo_invert.service.access_tokens import Access, TokenLookup
from bo_invert.service.http_errors import problem_response

_log = logging.getLogger(__name__)

BODY = 4 * 1024 * 1024
"""Largest body of a request in bytes. Engineering choice: 10,000 observations of 20 numbers fit."""
BODY_TIMEOUT = 20.0
"""Seconds until a body must be complete. Engineering choice: 4 MiB at 200 kB/s."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
]
_HOST = re.compile(
    r"(\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(:(?P<port>[0-9]{0,5}))?"
)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_PUBLIC = ("/", "/healthz")
"""Paths that need no token, as the files of the page; they hold no data of studies."""


@dataclass
class RateLimiter:
    """Token bucket for each client.

    Args:
        rate: requests a second in the long run.
        burst: requests at once after a pause.
        clock: returns seconds; never decreases.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, client: str) -> float:
        """Count a request and return 0, or return the seconds until the next one is allowed."""
        now = self.clock()
        level, then = self._levels.get(client, (self.burst, now))
        level = min(self.burst, level + (now - then) * self.rate)
        allowed = level >= 1.0
        self._levels[client] = (level - allowed, now)
        return 0.0 if allowed else (1.0 - level) / self.rate


@dataclass
class AccessControl:
    """ASGI middleware that passes permitted requests and answers all others with an error.

    Args:
        app: protected application.
        tokens: accepted tokens.
        hosts: accepted host names in lower case, without ports.
        asks: rate limiter of the asks of each token.
    """

    app: ASGIApp
    tokens: TokenLookup
    hosts: Collection[str]
    asks: RateLimiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _recorded(scope, send))
        else:  # the application has no WebSocket routes
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        try:
            self._check(scope)
            async with asyncio.timeout(BODY_TIMEOUT):
                receive = _replayed(await _body(receive), receive)
        except HTTPException as error:
            app = problem_response(error.status_code, error.detail, error.headers)
        except TimeoutError:
            app = problem_response(408, f"body must arrive within {BODY_TIMEOUT:g} seconds")
        await app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise an error if a request is not permitted."""
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if _host_name(host) is None or sum(n.lower() == b"host" for n, _ in scope["headers"]) > 1:
            raise HTTPException(403, f"host must be one name and an optional port, got {host!r}")
        if _host_name(host) not in self.hosts:
            raise HTTPException(
                403, f"host {host!r} is not allowed; start the server with --allowed-host"
            )
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise HTTPException(403, "requests from pages of other origins are not allowed")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", length) or int(length) > BODY:
            raise _too_large()
        path, reading = scope["path"], scope["method"] in _SAFE_METHODS
        if reading and (path in _PUBLIC or path.startswith("/static/")):
            return
        kind, _, secret = headers.get("authorization", "").partition(" ")
        token = self.tokens.find(secret.strip()) if kind.lower() == "bearer" else None
        if token is None:
            cause = "unknown token" if "authorization" in headers else "missing token"
            raise HTTPException(
                401,
                f"{cause}; send the header 'Authorization: Bearer TOKEN'. On the server, "
                "bo-invert token lists the tokens (with the --tokens of the server, if any)",
                {"WWW-Authenticate": "Bearer"},
            )
        scope["token"] = token
        if not reading and token.access is not Access.WRITE:
            raise HTTPException(403, f"token {token.name!r} is read-only")
        seconds = self.asks.wait(token.name) if not reading and path.endswith("/ask") else 0.0
        if seconds > 0.0:
            raise HTTPException(
                429,
                f"too many asks; the next one is allowed in {seconds:.1f} seconds",
                {"Retry-After": str(int(seconds) + 1)},
            )


def _too_large() -> HTTPException:
    return HTTPException(413, f"body must have at most {BODY} bytes", {"Connection": "close"})


def _host_name(host: str) -> str | None:
    """Return a host without its port, in lower case; None if it is malformed (RFC 9110, 7.2).

    ``[::1]:80`` becomes ``::1``.
    """
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return None
    return (found["address"] or found["name"]).lower()


async def _body(receive: Receive) -> bytes:
    """Read a body; it is empty if the client disconnects.

    Raises:
        HTTPException: the body is too large.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        if len(body) > BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields the body once, then the messages of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _recorded(scope: Scope, send: Send) -> Send:
    """Return a ``send`` that adds the security headers, and logs failed requests.

    The log holds method, path and status. Headers, query and body may hold secrets.
    """

    async def recorded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_SECURITY_HEADERS]}
            if message["status"] >= 400:
                token = scope.get("token")
                client = "no token" if token is None else f"token {token.name!r}"
                request = f"{scope['method']} {scope['path']!r}"
                _log.info("%s: %d (%s)", request, message["status"], client)
        await send(message)

    return recorded
