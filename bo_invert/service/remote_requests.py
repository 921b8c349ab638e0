"""Reads and large changes in worker processes, so that they do not delay the event loop."""

from __future__ import annotations

import logging
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bo_invert.service.http_errors import problem_response
from bo_invert.service.pages import CHUNK
from bo_invert.service.process_pool import ProcessPool
from bo_invert.service.quotas import Memory
from bo_invert.service.request_body import BODY, SLOW, SMALL_BODY, read_body, replayed

_log = logging.getLogger(__name__)
READ_NICE = 5
"""Steps of POSIX by which the priority of the processes is lower. Engineering choice: small changes
are answered first on a busy machine."""
_DESCRIPTION = b"/openapi.json"
_SLOW = tuple(one.encode() for one in SLOW)
_HEADERS = (b"study-id", b"host", b"content-type", b"idempotency-key")
"""Headers that the routes read."""


@dataclass(frozen=True)
class RemoteRequest:
    """Request for a process.

    Args:
        path: path as sent.
        query: query as sent.
        headers: headers that the routes read.
        method: GET, HEAD or POST.
        body: complete body.
    """

    path: bytes
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    method: str = "GET"
    body: bytes = b""

    @property
    def study(self) -> str:
        """Name of the study; empty for a list of studies."""
        parts = self.path.decode("latin-1").split("/")
        return unquote(parts[3]) if len(parts) > 3 else ""


@dataclass(frozen=True)
class RemoteReply:
    """Response of a process, with the stack trace of an unexpected error."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    error: str = ""


RequestPool = ProcessPool[RemoteRequest, RemoteReply]


@dataclass
class RemoteRequests:
    """ASGI middleware that answers reads and large changes with processes, and passes others.

    Args:
        app: application that answers the other requests.
        pool: processes.
        memory: bytes of responses of each token.
    """

    app: ASGIApp
    pool: RequestPool
    memory: Memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path", b"").partition(b"?")[0]
        remote = path.startswith(b"/v1/") or path == _DESCRIPTION
        if scope["type"] != "http" or not remote or path.endswith(b"/live"):
            await self.app(scope, receive, send)
            return
        body, reading = b"", scope["method"] in ("GET", "HEAD")
        if not reading:
            body = await read_body(receive, BODY)
            if len(body) <= SMALL_BODY and not path.endswith(_SLOW):
                await self.app(scope, replayed(body, receive), send)
                return
        headers = tuple(one for one in scope["headers"] if one[0].lower() in _HEADERS)
        request = RemoteRequest(path, scope["query_string"], headers, scope["method"], body)
        token = scope["token"].name
        try:
            reply = await self.pool.run(token, request.study, request)
        except BrokenExecutor:
            reply = None
        if reply is None:
            refused: Response = problem_response(
                503, "the process of this request ended; try again", {"Retry-After": "1"}
            )
            await refused(scope, receive, send)
            return
        if reply.error:
            _log.error("%s %r failed: %s", request.method, scope["path"], reply.error)
        # A change holds its body; if it waited for more, all of them could wait for each other.
        async with self.memory.hold(token, len(reply.body)) if reading else nullcontext():
            await send(
                {"type": "http.response.start", "status": reply.status, "headers": [*reply.headers]}
            )
            for start in range(0, len(reply.body) or 1, CHUNK):
                await send(
                    {
                        "type": "http.response.body",
                        "body": reply.body[start : start + CHUNK],
                        "more_body": start + CHUNK < len(reply.body),
                    }
                )
