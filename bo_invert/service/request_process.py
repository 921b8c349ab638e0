"""Answers to reads and large changes in a worker process of the server.

The process has a cache of studies of its own, and reads new events from the storage at each
request.
"""

from __future__ import annotations

import asyncio
import traceback
from functools import cache
from pathlib import Path

from starlette.types import ASGIApp, Message

from bo_invert.service.app import create_api
from bo_invert.service.open_studies import OpenStudies
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.service.remote_requests import RemoteReply, RemoteRequest
from bo_invert.storage.sql import SqlStore

_apis: dict[str | Path, ASGIApp] = {}


def respond(
    url: str | Path, registered: RegisteredProblems, request: RemoteRequest | None
) -> RemoteReply | None:
    """Answer a request in a process of the server; None prepares the process."""
    runner = _runner()
    if url not in _apis:
        _apis[url] = create_api(OpenStudies(SqlStore(url), url, registered, asking=0))
    if request is None:
        return None
    reply = runner.run(_answer(_apis[url], request))
    if reply.status == 404 and request.study:  # perhaps it was deleted and created again
        reply = runner.run(_answer(_apis[url], request))
    return reply


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


async def _answer(api: ASGIApp, request: RemoteRequest) -> RemoteReply:
    """Run the routes, and collect their response."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path.decode("latin-1"),
        "raw_path": request.path,
        "query_string": request.query,
        "headers": list(request.headers),
    }
    messages: list[Message] = []
    bodies = [request.body]

    async def receive() -> Message:
        if not bodies:  # the client stays connected until the response is complete
            await asyncio.Future()
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    error = ""
    try:
        await api(scope, receive, send)
    except Exception:
        if not messages:
            raise
        error = traceback.format_exc()
    head, *parts = messages
    body = b"".join(part.get("body", b"") for part in parts)
    return RemoteReply(head["status"], tuple(head["headers"]), body, error)
