"""ASGI middleware that checks host, origin, token, size, time and number of each request."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bo_invert.errors import BoInvertError
from bo_invert.service.access_tokens import Access, Token, TokenLookup
from bo_invert.service.http_errors import problem_response
from bo_invert.service.quotas import Admission, Memory, RateLimiter, RequestKind, penalty, too_many
from bo_invert.service.request_body import (
    COMPUTED,
    SMALL_BODY,
    largest_body,
    read_body,
    replayed,
    too_large,
)

_log = logging.getLogger(__name__)

BODY_TIMEOUT = 20.0
"""Seconds until a body must be complete. Engineering choice: 4 MiB at 200 kB/s."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BODY_RATE, _BODY_BURST = 2.0 * 1024 * 1024, 16.0 * 1024 * 1024
"""Bytes a second of the bodies of one token, and at once. Engineering choice: parsing them takes
less than a tenth of a core."""
_ANONYMOUS_RATE, _ANONYMOUS_BURST = 50.0, 200.0
"""Requests a second without a token from one address, and at once; more of them are delayed.
Engineering choice: the page sends three."""
_REVOKED = 1.0
"""Seconds between two checks of the tokens of open requests. Engineering choice: an operator hardly
notices the delay."""
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
class AccessControl:
    """ASGI middleware that passes permitted requests and answers all others with an error.

    The body of a request is read once its token is known, within the limits of this token.

    Args:
        app: protected application.
        tokens: accepted tokens.
        hosts: accepted host names in lower case, without ports.
        admission: numbers of requests of each token.
        memory: bytes of bodies of each token.
    """

    app: ASGIApp
    tokens: TokenLookup
    hosts: Collection[str]
    admission: Admission = field(default_factory=Admission)
    memory: Memory = field(default_factory=Memory)
    _bytes: RateLimiter = field(default_factory=lambda: RateLimiter(_BODY_RATE, _BODY_BURST))
    _anonymous: RateLimiter = field(
        default_factory=lambda: RateLimiter(_ANONYMOUS_RATE, _ANONYMOUS_BURST)
    )

    def __post_init__(self) -> None:
        self._open = _OpenRequests(self.tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _Recorder(scope, send))
        else:  # the application has no WebSocket routes
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: _Recorder) -> None:
        try:
            token = self._check(scope)
        except HTTPException as error:
            if scope.get("token") is None:
                await self._delay(scope)
            await _refusal(error)(scope, receive, send)
            return
        if token is None:
            await self._delay(scope)
            await self.app(scope, replayed(b"", receive), send)
            return
        with self._open.until_revoked(token) as revoked:
            await self._serve(token, scope, receive, send)
        if revoked.cancelled_caught:
            await send.end(problem_response(401, f"token {token.name!r} was revoked"))

    async def _serve(self, token: Token, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a token, within its limits."""
        app, body = self.app, b""
        async with AsyncExitStack() as stack:
            try:
                slots = await stack.enter_async_context(
                    self.admission.admit(token.name, _kind(scope))
                )
                if scope["method"] not in _SAFE_METHODS:
                    size = await self._size(token, scope)
                    async with asyncio.timeout(BODY_TIMEOUT):
                        if size > SMALL_BODY:  # small ones do not wait for slow large ones
                            await stack.enter_async_context(self.memory.hold(token.name, size))
                        body = await read_body(receive, largest_body(scope))
                await stack.enter_async_context(slots)
            except HTTPException as error:
                app = _refusal(error)
            except TimeoutError:
                app = problem_response(408, f"body must arrive within {BODY_TIMEOUT:g} seconds")
            await app(scope, replayed(body, receive), send)

    async def _size(self, token: Token, scope: Scope) -> int:
        """Return the number of bytes to expect of a body, and count them for its token."""
        length = _headers(scope).get("content-length")
        size = largest_body(scope) if length is None else int(length)
        seconds = self._bytes.wait(token.name, size)
        if seconds > 0.0:
            await penalty()
            raise too_many(
                f"too many bytes; the next body is allowed in {seconds:.1f} seconds", seconds
            )
        return size

    async def _delay(self, scope: Scope) -> None:
        """Delay a request without a token if there are too many from its address."""
        address = (scope.get("client") or ("",))[0]
        if self._anonymous.wait(address) > 0.0:
            await penalty()

    def _check(self, scope: Scope) -> Token | None:
        """Return the token of a permitted request; None if it needs none.

        Raises:
            HTTPException: the request is not permitted.
        """
        headers = _headers(scope)
        host = headers.get("host", "")
        if _host_name(host) is None or sum(n.lower() == b"host" for n, _ in scope["headers"]) > 1:
            raise HTTPException(400, f"host must be one name and an optional port, got {host!r}")
        if _host_name(host) not in self.hosts:
            raise HTTPException(
                403, f"host {host!r} is not allowed; start the server with --allowed-host"
            )
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise HTTPException(403, "requests from pages of other origins are not allowed")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", length) or int(length) > largest_body(scope):
            raise too_large(largest_body(scope))
        path, reading = scope["path"], scope["method"] in _SAFE_METHODS
        if reading and (path in _PUBLIC or path.startswith("/static/")):
            return None
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
        # Predictions change nothing, but their designs may exceed a URL.
        changing = not reading and not path.endswith(COMPUTED)
        if changing and token.access is not Access.WRITE:
            raise HTTPException(403, f"token {token.name!r} is read-only")
        return token


class _OpenRequests:
    """Requests under way, which end soon after their token is revoked."""

    def __init__(self, tokens: TokenLookup) -> None:
        self._tokens = tokens
        self._scopes: dict[anyio.CancelScope, Token] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def until_revoked(self, token: Token) -> Iterator[anyio.CancelScope]:
        """Cancel the block when the token is revoked."""
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            self._scopes[scope] = token
            if self._loop is not loop:
                self._loop = loop
                loop.call_later(_REVOKED, self._look)
            try:
                yield scope
            finally:
                del self._scopes[scope]

    def _look(self) -> None:
        with suppress(BoInvertError):  # an unreadable file revokes nothing
            known = {token: self._tokens.find(token.secret) for token in set(self._scopes.values())}
            for scope, token in list(self._scopes.items()):
                if known[token] is None:
                    scope.cancel()
        if self._scopes and self._loop is not None:
            self._loop.call_later(_REVOKED, self._look)
        else:
            self._loop = None


class _Recorder:
    """A ``send`` that adds security headers and the access of the token, and logs failed requests.

    The log holds method, path and status. Headers, query and body may hold secrets.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = self._complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            token = self._scope.get("token")
            access = [] if token is None else [(b"token-access", token.access.encode())]
            headers = [*message["headers"], *_SECURITY_HEADERS, *access]
            message = {**message, "headers": headers}
            if message["status"] >= 400:
                client = "no token" if token is None else f"token {token.name!r}"
                request = f"{self._scope['method']} {self._scope['path']!r}"
                _log.info("%s: %d (%s)", request, message["status"], client)
        else:
            self._complete = not message.get("more_body", False)
        await self._send(message)

    async def end(self, refusal: ASGIApp) -> None:
        """Complete a response that was interrupted; send a refusal if it had not begun."""
        if not self._started:
            await refusal(self._scope, _nothing, self)
        elif not self._complete:
            await self({"type": "http.response.body", "body": b""})


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _kind(scope: Scope) -> RequestKind:
    path = scope.get("raw_path", b"")
    if scope["method"] in _SAFE_METHODS:
        return RequestKind.STREAM if path.endswith(b"/live") else RequestKind.READ
    return RequestKind.ASK if path.endswith(b"/ask") else RequestKind.WRITE


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


def _refusal(error: HTTPException) -> ASGIApp:
    return problem_response(error.status_code, error.detail, error.headers)


def _host_name(host: str) -> str | None:
    """Return a host without its port, in lower case; None if it is malformed (RFC 9110, 7.2).

    ``[::1]:80`` becomes ``::1``.
    """
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return None
    return (found["address"] or found["name"]).lower()
