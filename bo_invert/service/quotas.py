"""Limits of each token: requests a second, requests at once, and bytes in memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.exceptions import HTTPException

PENALTY = 2.0
"""Longest delay of a refusal in seconds. Engineering choice: 500 connections that repeat refused
requests at once then cost less than half a core."""
MEMORY = 32 * 1024 * 1024
"""Bytes of bodies and responses in memory for one token. Engineering choice: eight bodies."""


async def penalty() -> None:
    """Delay a request beyond a limit by ``PENALTY`` seconds at most.

    The seconds until the next one is allowed would be too short: all connections of a flood wait
    for the same one. The delay is random, so that they do not come back at the same moment.
    """
    await asyncio.sleep(PENALTY * random.uniform(0.5, 1.0))


class RequestKind(StrEnum):
    """Kind of a request, which has a limit of its own."""

    READ = "reads"
    STREAM = "event streams"
    ASK = "asks"
    WRITE = "changes"


@dataclass(frozen=True)
class Quota:
    """Limits of one kind of request for each token.

    Args:
        rate: requests a second in the long run.
        burst: requests at once after a pause.
        open: requests that are not answered completely.
        running: requests that are handled at once; the others wait in order.
    """

    rate: float
    burst: float
    open: int
    running: int


QUOTAS: Mapping[RequestKind, Quota] = {
    RequestKind.READ: Quota(200.0, 400.0, 128, 16),
    RequestKind.STREAM: Quota(5.0, 32.0, 16, 16),
    RequestKind.ASK: Quota(50.0, 100.0, 256, 256),
    RequestKind.WRITE: Quota(1000.0, 2000.0, 256, 8),
}
"""Default limits. Engineering choices: 50 workers of one token take 50 trials a second, with up to
three reads and two changes for each; the page has one stream for each window."""


@dataclass
class RateLimiter:
    """Token bucket for each client.

    Args:
        rate: units a second in the long run.
        burst: units at once after a pause.
        clock: returns seconds; never decreases.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, client: str, units: float = 1.0) -> float:
        """Count a request and return 0, or return the seconds until the next one is allowed."""
        now = self.clock()
        level, then = self._levels.pop(client, (self.burst, now))
        level = min(self.burst, level + (now - then) * self.rate)
        allowed = level >= min(units, self.burst)
        self._levels[client] = (level - units * allowed, now)
        if len(self._levels) > _CLIENTS:
            del self._levels[next(iter(self._levels))]  # the one that has paused longest
        return 0.0 if allowed else (units - level) / self.rate


_CLIENTS = 4096
"""Largest number of clients with a rate. Engineering choice: bounds the memory for addresses."""


class Memory:
    """Bytes that the requests of each client hold; a request waits until there is room.

    Args:
        limit: bytes of one client. A larger request is alone.
    """

    def __init__(self, limit: int = MEMORY) -> None:
        self._limit = limit
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def hold(self, client: str, size: int) -> AsyncIterator[None]:
        """Hold bytes of a client, after its earlier requests."""
        queue = self._waiting.setdefault(client, deque())
        if queue or not self._fits(client, size):
            turn = asyncio.get_running_loop().create_future()
            queue.append((size, turn))
            try:
                await turn
            except BaseException:
                if not turn.done() or turn.cancelled():
                    with suppress(ValueError):  # a request before it was cancelled, too
                        queue.remove((size, turn))
                    self._admit(client)
                else:
                    self._free(client, size)
                raise
        else:
            self._used[client] = self._used.get(client, 0) + size
        try:
            yield
        finally:
            self._free(client, size)

    def _fits(self, client: str, size: int) -> bool:
        used = self._used.get(client, 0)
        return not used or used + size <= self._limit

    def _free(self, client: str, size: int) -> None:
        self._used[client] -= size
        self._admit(client)

    def _admit(self, client: str) -> None:
        """Admit waiting requests in order; forget a client without any."""
        queue = self._waiting.get(client, deque())
        while queue and self._fits(client, queue[0][0]):
            size, turn = queue.popleft()
            if not turn.done():
                self._used[client] = self._used.get(client, 0) + size
                turn.set_result(None)
        if not queue and not self._used.get(client):
            self._used.pop(client, None)
            self._waiting.pop(client, None)


@dataclass
class _Usage:
    """Requests of one kind and token under way."""

    slots: asyncio.Semaphore
    open: int = 0


class Admission:
    """Admission of requests within the quotas of their tokens.

    Args:
        quotas: limits of each kind of request.
        clock: returns seconds; never decreases.
    """

    def __init__(
        self,
        quotas: Mapping[RequestKind, Quota] = QUOTAS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quotas = {**QUOTAS, **quotas}
        self._rates = {
            kind: RateLimiter(quota.rate, quota.burst, clock)
            for kind, quota in self._quotas.items()
        }
        self._usage: dict[tuple[str, RequestKind], _Usage] = {}

    @asynccontextmanager
    async def admit(self, token: str, kind: RequestKind) -> AsyncIterator[asyncio.Semaphore]:
        """Count a request until it is answered.

        Yields:
            The semaphore of the requests that are handled at once.

        Raises:
            HTTPException: the token has too many requests, at once or a second.
        """
        quota = self._quotas[kind]
        seconds = self._rates[kind].wait(token)
        if seconds > 0.0:
            await penalty()
            raise too_many(
                f"too many {kind}; the next one is allowed in {seconds:.1f} seconds", seconds
            )
        usage = self._usage.setdefault((token, kind), _Usage(asyncio.Semaphore(quota.running)))
        if usage.open >= quota.open:
            await penalty()
            raise too_many(f"token {token!r} has {quota.open} {kind} at once, no more are allowed")
        usage.open += 1
        try:
            yield usage.slots
        finally:
            usage.open -= 1
            if not usage.open:
                self._usage.pop((token, kind), None)


def too_many(detail: str, seconds: float = 0.0) -> HTTPException:
    """Return the error of a request beyond a limit."""
    return HTTPException(429, detail, {"Retry-After": str(int(seconds) + 1)})
