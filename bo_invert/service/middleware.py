"""ASGI middleware that checks host, origin, token, size, time and rate of each request."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bo_invert.service.access_tokens import Access, Token, TokenLookup
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
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_TOO_LARGE = f"body must have at most {BODY} bytes"


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
        if level < 1.0:
            self._levels[client] = (level, now)
            return (1.0 - level) / self.rate
        self._levels[client] = (level - 1.0, now)
        return 0.0


class AccessControl:
    """ASGI middleware that passes permitted requests and answers all others with an error.

    Args:
        app: protected application.
        tokens: accepted tokens.
        hosts: accepted host names, without ports.
        public: returns whether a path needs no token.
        asks: rate limiter of the asks of each token.
        limited: returns whether a path is an ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: TokenLookup,
        hosts: tuple[str, ...],
        public: Callable[[str], bool],
        asks: RateLimiter,
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
        if scope["type"] != "http":  # the application has no WebSocket routes
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _recorded(scope, _hardened(send))
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is None:
            try:
                body = await asyncio.wait_for(_body(receive), BODY_TIMEOUT)
            except TimeoutError:
                detail = f"body must arrive within {BODY_TIMEOUT:g} seconds"
                refusal = problem_response(408, detail)
            else:
                if body is not None:
                    await self._app(scope, _replayed(body, receive), send)
                    return
                refusal = problem_response(413, _TOO_LARGE, {"Connection": "close"})
        await refusal(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """Return the error response to a request that is not permitted."""
        host = headers.get("host", "")
        if _host_name(host) not in self._hosts:
            detail = f"host {host!r} is not allowed; start the server with --allowed-host"
            return problem_response(403, detail)
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return problem_response(403, "requests from pages of other origins are not allowed")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", length) or int(length) > BODY:
            return problem_response(413, _TOO_LARGE, {"Connection": "close"})
        path, method = scope["path"], scope["method"]
        if self._public(path) and method in _SAFE_METHODS:
            return None
        token = self._token(headers)
        if token is None:
            cause = "unknown token" if "authorization" in headers else "missing token"
            return problem_response(
                401,
                f"{cause}; send the header 'Authorization: Bearer TOKEN'. On the server, "
                "bo-invert token lists the tokens (with the --tokens of the server, if any)",
                {"WWW-Authenticate": "Bearer"},
            )
        scope["token"] = token
        if method not in _SAFE_METHODS and token.access is not Access.WRITE:
            return problem_response(403, f"token {token.name!r} is read-only")
        if method not in _SAFE_METHODS and self._limited(path):
            seconds = self._asks.wait(token.name)
            if seconds > 0.0:
                after = {"Retry-After": str(int(seconds) + 1)}
                detail = f"too many asks; the next one is allowed in {seconds:.1f} seconds"
                return problem_response(429, detail, after)
        return None

    def _token(self, headers: dict[str, str]) -> Token | None:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        return self._tokens.find(secret.strip()) if kind.lower() == "bearer" else None


def _host_name(host: str) -> str:
    """Return a host without its port, in lower case; ``[::1]:80`` becomes ``::1``."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes | None:
    """Read a body; return None if it is too large."""
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


def _replayed(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Return a ``receive`` that yields the body once, then the messages of the connection."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _hardened(send: Send) -> Send:
    """Return a ``send`` that adds the security headers."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_SECURITY_HEADERS]}
        await send(message)

    return with_headers


def _recorded(scope: Scope, send: Send) -> Send:
    """Return a ``send`` that logs failed requests by method, path and status.

    Headers, query and body stay out of the log, because they may hold secrets.
    """

    async def with_log(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            token = scope.get("token")
            client = "no token" if token is None else f"token {token.name!r}"
            _log.info("%s %r: %d (%s)", scope["method"], scope["path"], message["status"], client)
        await send(message)

    return with_log
