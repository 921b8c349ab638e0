"""Deadlines and limits of connections, so that silent and slow ones have no lasting cost.

A connection that waits for a request makes room for others: beyond the limits, the one that has
waited longest is closed. A client with a valid request therefore always gets a connection.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 10.0
"""Seconds from the first byte of a request, or from the connection, until its headers are complete.
Engineering choice: a header of 64 KiB at 6 kB/s."""
WRITE_TIMEOUT = 20.0
"""Seconds until a client must have read more of a response. Engineering choice: longer than most
interruptions of a network."""
PER_ADDRESS = 128
"""Waiting connections without a token from one address. Engineering choice: browsers open six."""
PER_TOKEN = 512
"""Connections of one token. Engineering choice: 128 workers with four connections each."""
GRACE = 1.0
"""Seconds during which a new connection makes no room for others, so that a burst of connections
does not close one whose request is under way. Engineering choice: a slow round trip."""
HARD = 4
"""Multiple of a limit from which new connections make room, too."""
DISCARDED = 4 * 1024 * 1024
"""Largest number of bytes between two requests: the rest of a body that was refused. Engineering
choice: the largest body."""


@dataclass
class ConnectionLimits:
    """Open connections of each client, which is an address or a token.

    Args:
        per_address: connections of one address without a token.
        per_token: connections of one token.
    """

    per_address: int = PER_ADDRESS
    per_token: int = PER_TOKEN
    _open: dict[tuple[str, str], dict[BoundedConnection, None]] = field(default_factory=dict)

    def place(self, connection: BoundedConnection, token: str | None) -> None:
        """Count a connection for its token or address, and close others beyond the limit."""
        client = ("address", connection.address) if token is None else ("token", token)
        if connection.group == client:
            return
        self.remove(connection)
        connection.group = client
        group = self._open.setdefault(client, {})
        group[connection] = None
        limit = self.per_address if token is None else self.per_token
        if len(group) > limit:
            idle = (one for one in group if one.idle)  # longest open first
            longest = next(idle, None)
            if longest is not None and longest.age > GRACE:
                longest.end()
            elif len(group) > HARD * limit:
                (longest or connection).end()

    def remove(self, connection: BoundedConnection) -> None:
        """Forget a connection."""
        if connection.group is not None:
            group = self._open.get(connection.group, {})
            group.pop(connection, None)
            if not group:
                self._open.pop(connection.group, None)
            connection.group = None


class BoundedConnection(H11Protocol):
    """HTTP/1.1 connection of uvicorn with deadlines for headers and for reading responses.

    Args:
        limits: connections of the server.
        config: configuration of uvicorn, and further arguments of its protocols.
    """

    def __init__(self, limits: ConnectionLimits, **config: object) -> None:
        super().__init__(**config)  # type: ignore[arg-type]
        self.group: tuple[str, str] | None = None
        """Client for which the connection counts."""
        self._limits = limits
        self._began = time.monotonic()
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._discarded = 0

    @property
    def address(self) -> str:
        """Address of the client."""
        return self.client[0] if self.client else ""

    @property
    def waiting(self) -> bool:
        """True while no request is handled."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def idle(self) -> bool:
        """True while no request with a token is handled; refusals are delayed."""
        return self.waiting or self.scope.get("token") is None

    @property
    def age(self) -> float:
        """Seconds since the connection was made."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """Close the connection at once."""
        self._limits.remove(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits.place(self, None)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.remove(self)
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.waiting:
            self._discarded += len(data)
            if self._discarded > DISCARDED:
                self.end()
                return
            self._expect_request()
        super().data_received(data)
        self._check_request()

    def on_response_complete(self) -> None:
        token: Any = self.scope.get("token")
        self._limits.place(self, None if token is None else token.name)
        if self.cycle is not None and self.cycle.more_body:  # a refused body is under way
            self._expect_request()
        super().on_response_complete()
        self._check_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(WRITE_TIMEOUT, self.end)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _expect_request(self) -> None:
        """Start the deadline of the next headers."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_TIMEOUT, self._expire)

    def _check_request(self) -> None:
        """End the deadline once the headers of a request are complete."""
        if not self.waiting:
            self._discarded = 0
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.waiting:
            self.end()
