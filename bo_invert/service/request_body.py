"""Bodies of requests: their largest sizes, and their bytes in memory."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

BODY = 4 * 1024 * 1024
"""Largest body of a declaration or of observations in bytes. Engineering choice: 10,000
observations of 20 numbers fit."""
OUTCOME_BODY = 1024 * 1024
"""Largest body of an outcome or of a queued design in bytes. Engineering choice: 40,000 numbers."""
SMALL_BODY = 64 * 1024
"""Largest body of another request in bytes, and largest one that the event loop parses. Engineering
choice: an ask with 2,000 known trials takes 25 KiB; parsing takes a few milliseconds."""


COMPUTED = ("/predict", "/reachable")
"""Ends of the paths of requests with bodies that change nothing, and whose answers take time."""
SLOW = (*COMPUTED, "/retarget")
"""Ends of the paths of requests that a process answers, because their answers take time."""


def largest_body(scope: Scope) -> int:
    """Return the largest size of the body of a request."""
    path = scope["path"]
    if path.endswith(("/studies", "/observations", "/table", "/results")):
        return BODY
    return OUTCOME_BODY if path.endswith(("/tell", "/enqueue", "/amend", *SLOW)) else SMALL_BODY


def too_large(limit: int) -> HTTPException:
    """Return the error of a body beyond a limit."""
    return HTTPException(413, f"body must have at most {limit} bytes", {"Connection": "close"})


async def read_body(receive: Receive, limit: int) -> bytes:
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
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields the body once, then the end of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if messages:
            return messages.pop()
        while (message := await receive())["type"] == "http.request":
            pass  # the body of a GET request is discarded
        return message

    return replay
