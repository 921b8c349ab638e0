"""HTTP requests with one deadline, a size limit and interruption, over httpx (extra ``http``)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from bo_invert.execution.process_local import process_local

if TYPE_CHECKING:
    import httpx

_HEADERS = {
    "user-agent": "bo-invert",
    "accept": "application/json",
    "accept-encoding": "identity",  # a small compressed body can expand beyond the size limit
    "content-type": "application/json",
}


_Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Callback of httpx for the events of a connection."""


class UnreachableError(Exception):
    """A connection failure before any part of the request was sent."""


class BrokenConnectionError(Exception):
    """A connection that ended before the reply; the server may have processed the request."""


class NoReplyError(BrokenConnectionError):
    """A deadline that passed after the request was sent."""


@dataclass(frozen=True)
class HttpReply:
    """Reply of a server.

    Attributes:
        status: status code of HTTP.
        phrase: reason phrase of the status line.
        text: body.
        trouble: reason why the body is unusable; empty if it is usable.
        pause: seconds of the ``Retry-After`` header; None without one.
        location: target of a redirection; empty otherwise.
    """

    status: int
    phrase: str
    text: str
    trouble: str = ""
    pause: float | None = None
    location: str = ""


@dataclass(frozen=True, eq=False)
class HttpSession:
    """HTTP requests with common headers, deadline and size limit.

    Each process opens its own pool of connections at the first request. An event loop in a daemon
    thread runs the requests, so that a deadline cancels a request as a whole. Timeouts of single
    reads do not suffice, because a server can send one byte now and then.

    Args:
        headers: headers of each request; redirections to other hosts are refused.
        timeout: seconds from the start of a request to the last byte of its reply; None for no
            limit.
        limit: largest body in bytes.
    """

    headers: Mapping[str, str]
    timeout: float | None
    limit: int

    @process_local
    def _pool(self) -> _Pool:
        return _Pool(self.headers)

    @property
    def interruption(self) -> threading.Event:
        """Event set by the next ``interrupt``."""
        return self._pool.interruption

    def interrupt(self) -> None:
        """End all requests and pauses of this process."""
        self._pool.interruption.set()
        self._pool.interruption = threading.Event()
        for future in list(self._pool.pending):
            future.cancel()

    def sleep(self, seconds: float, interruption: threading.Event) -> bool:
        """Wait, and return False if ``interruption`` was set meanwhile."""
        return not interruption.wait(seconds)

    def send(self, method: str, url: str, body: bytes | None) -> HttpReply:
        """Send one request and return its reply.

        Redirections are followed within one host if they keep the method.

        Raises:
            UnreachableError: the request was not sent.
            BrokenConnectionError: the connection ended before the reply.
            NoReplyError: the deadline passed before the reply was complete.
        """
        pool = self._pool
        future = asyncio.run_coroutine_threadsafe(
            self._redirected(pool.client, method, url, body), pool.loop
        )
        pool.pending.add(future)
        try:
            return future.result()
        except CancelledError:
            raise BrokenConnectionError("interrupted") from None
        finally:
            future.cancel()
            pool.pending.discard(future)

    async def _redirected(
        self, client: httpx.AsyncClient, method: str, url: str, body: bytes | None, follow: int = 3
    ) -> HttpReply:
        """Follow at most ``follow`` redirections within the deadline."""
        sent, stream = False, None

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            nonlocal sent, stream
            sent = sent or event.endswith(".send_request_headers.started")
            if event.endswith(".connect_tcp.complete"):
                stream = info["return_value"]

        try:
            async with asyncio.timeout(self.timeout):
                for _ in range(follow + 1):
                    reply = await self._once(client, method, url, body, trace)
                    if not reply.location:
                        return reply
                    source, url = url, urljoin(url, reply.location)
                    keeps_method = method == "GET" or reply.status in (307, 308)
                    if not keeps_method or not _same_host(source, url):
                        to = urlsplit(url)
                        place = f"{to.scheme}://{to.netloc.rpartition('@')[2]}{to.path}"
                        trouble = f"redirects to {place}; if that is right, use this URL"
                        return HttpReply(reply.status, reply.phrase, "", trouble)
                return HttpReply(reply.status, reply.phrase, "", f"more than {follow} redirections")
        except TimeoutError:
            if stream is not None and not sent:  # httpcore leaves it open if TLS is cancelled
                await stream.aclose()
            if not sent:
                raise UnreachableError(f"no connection in {self.timeout:g} s") from None
            raise NoReplyError(f"no complete reply in {self.timeout:g} s") from None

    async def _once(
        self, client: httpx.AsyncClient, method: str, url: str, body: bytes | None, trace: _Trace
    ) -> HttpReply:
        import httpx

        try:
            async with client.stream(
                method, url, content=body, extensions={"trace": trace}
            ) as response:
                text, trouble = await self._body(response)
            return HttpReply(
                response.status_code,
                response.reason_phrase,
                text,
                trouble,
                _retry_after(response.headers.get("retry-after")),
                response.headers.get("location", "") if response.is_redirect else "",
            )
        except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
            raise UnreachableError(_described(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError, OSError) as error:
            raise BrokenConnectionError(_described(error)) from None

    async def _body(self, response: httpx.Response) -> tuple[str, str]:
        if response.headers.get("content-encoding", "identity") != "identity":
            return "", "compressed body, although none was accepted"
        content = bytearray()
        async for part in response.aiter_raw(1 << 16):
            content += part
            if len(content) > self.limit:
                trouble = f"longer than {self.limit} bytes"
                return content[:200].decode("utf-8", "backslashreplace"), trouble
        return content.decode("utf-8", "backslashreplace"), ""


class _Pool:
    """Connections of one session in one process, and the event loop that serves them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        import httpx

        self.pending: set[Future[HttpReply]] = set()
        self.interruption = threading.Event()
        self.loop = asyncio.new_event_loop()
        # The deadline of a request replaces the timeouts of its single operations.
        self.client = httpx.AsyncClient(
            headers=_HEADERS, timeout=None, limits=httpx.Limits(max_connections=None)
        )
        self.client.headers.update(headers)
        threading.Thread(target=_serve, args=(self.loop, self.client), daemon=True).start()
        weakref.finalize(self, _stop, self.loop, os.getpid())


def _serve(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    loop.run_forever()
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())  # also lets transports close
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, process: int) -> None:
    if process == os.getpid():  # a forked process has a copy of the loop without its thread
        loop.call_soon_threadsafe(loop.stop)


def _same_host(source: str, target: str) -> bool:
    """Check that a redirection stays on its host and port, or only upgrades to HTTPS."""
    a, b = urlsplit(source), urlsplit(target)
    upgrade = (a.scheme, b.scheme, a.port, b.port) == ("http", "https", None, None)
    return a.hostname == b.hostname and (upgrade or (a.scheme, a.port) == (b.scheme, b.port))


def _retry_after(value: str | None) -> float | None:
    """Parse ``Retry-After``, seconds or a date, into seconds from now (RFC 9110)."""
    with suppress(ValueError, TypeError, OverflowError):
        if value is not None and value.strip().isdigit():
            return float(value)
        if value is not None:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
