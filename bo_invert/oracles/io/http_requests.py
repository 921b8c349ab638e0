"""HTTP requests that end: bounded in time from the first byte to the last, and in size. Needs the extra ``http``."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    import httpx

_HEADERS = {
    "user-agent": "bo-invert",
    "accept": "application/json",
    "accept-encoding": "identity",  # a small answer could unfold to a huge one
    "content-type": "application/json",
}
_TURNS = 3
"""Redirections that are followed."""


class Unreachable(Exception):
    """No connection came about: nobody was asked."""


class Broken(Exception):
    """The connection ended before the answer did: somebody may have been asked."""


class Unanswered(Broken):
    """There was no answer, or no end of it, in time."""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: of HTTP.
        phrase: the status in the server's words.
        text: the body.
        trouble: why the body cannot be taken for an answer; empty if it can.
        pause: seconds for which the server wants to be left alone; None if it did not say.
    """

    status: int
    phrase: str
    text: str
    trouble: str = ""
    pause: float | None = None


class Exchange:
    """Requests with the same headers and bounds. Every thread of every process has a connection of its own.

    Args:
        headers: sent with each, and only to the host that was asked.
        timeout: seconds for a whole request and its answer.
        limit: bytes read of an answer.
    """

    def __init__(self, headers: Mapping[str, str], timeout: float, limit: int) -> None:
        self._headers, self._timeout, self._limit = dict(headers), timeout, limit
        self._open = _Open()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=_Open())

    def interrupt(self) -> None:
        """Break off the requests and the pauses that are under way in this process."""
        self._open.era += 1
        for line in list(self._open.lines):
            line.wire.cut()

    @property
    def era(self) -> int:
        """How often this process broke everything off."""
        return self._open.era

    def sleep(self, seconds: float, era: int) -> bool:
        """Wait; False, and no longer, if everything was broken off since ``era``."""
        until = time.monotonic() + seconds
        while self._open.era == era and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        return self._open.era == era

    def send(self, method: str, url: str, body: bytes | None) -> Reply:
        """One request; redirections within the same host are followed if they keep the request as it is.

        Raises:
            Unreachable, Broken, Unanswered: there is no answer.
        """
        with self._line() as line:
            asked = url
            for _ in range(_TURNS + 1):
                reply, target = self._once(line, method, asked, body)
                if not target:
                    return reply
                asked, before = urljoin(asked, target), asked
                if not _within(before, asked) or (
                    reply.status not in (307, 308) and method != "GET"
                ):
                    there = urlsplit(asked)
                    place = f"{there.scheme}://{there.netloc.rpartition('@')[2]}{there.path}"
                    return Reply(
                        reply.status,
                        reply.phrase,
                        "",
                        f"it points to {place}; if that is right, ask there",
                    )
            return Reply(
                reply.status,
                reply.phrase,
                "",
                "it points from one address to the next without an end",
            )

    @contextmanager
    def _line(self) -> Iterator[_Line]:
        import httpx

        if (
            self._open.process != os.getpid()
        ):  # a fork has copies of connections that are not its own
            self._open = _Open()
        client = getattr(self._open.mine, "client", None)
        if client is None:
            headers = httpx.Headers(_HEADERS)
            headers.update(self._headers)
            client = self._open.mine.client = httpx.Client(
                headers=headers,
                timeout=self._timeout,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=1),
            )
            self._open.mine.wire = _Wire()
        line = _Line(client, self._open.mine.wire, time.monotonic() + self._timeout)
        line.wire.deadline = line.deadline
        # Timeouts of single reads would let a server send a byte now and then, forever.
        alarm = threading.Timer(self._timeout, line.wire.cut)
        alarm.daemon = True
        alarm.start()
        self._open.lines.add(line)
        try:
            yield line
        finally:
            alarm.cancel()
            self._open.lines.discard(line)

    def _once(self, line: _Line, method: str, url: str, body: bytes | None) -> tuple[Reply, str]:
        """The reply, and where it redirects to."""
        import httpx

        try:
            with line.client.stream(
                method, url, content=body, extensions={"trace": line.wire.note}
            ) as response:
                text, trouble = self._body(response, line)
            headers = response.headers
            reply = Reply(
                response.status_code,
                response.reason_phrase,
                text,
                trouble,
                _pause(headers.get("retry-after")),
            )
            return reply, headers.get("location", "") if 300 <= response.status_code < 400 else ""
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            raise Unreachable(_said(error)) from None
        except httpx.TimeoutException:
            raise Unanswered(f"no answer in {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError, OSError) as error:
            if time.monotonic() >= line.deadline:
                raise Unanswered(f"no whole answer in {self._timeout:g} s") from None
            raise Broken(_said(error)) from None

    def _body(self, response: httpx.Response, line: _Line) -> tuple[str, str]:
        if response.headers.get("content-encoding", "identity") != "identity":
            return "", "it is compressed, which was not asked for"
        content = bytearray()
        for part in response.iter_raw(1 << 16):
            content += part
            if len(content) > self._limit:
                return content[:200].decode(
                    "utf-8", "backslashreplace"
                ), f"it is longer than {self._limit} bytes"
            if time.monotonic() >= line.deadline:
                raise Unanswered(f"no whole answer in {self._timeout:g} s")
        return content.decode("utf-8", "backslashreplace"), ""


class _Open:
    """The connections of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.mine = threading.local()
        self.lines: set[_Line] = set()
        self.era = 0


class _Wire:
    """The socket of a client that has one connection at most."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self._stream: Any = None

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear from httpx about a connection that came about."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = info.get("return_value")
            if time.monotonic() >= self.deadline:
                self.cut()

    def cut(self) -> None:
        """Shut it, from whatever thread: whoever reads from it reads its end."""
        wire = None if self._stream is None else self._stream.get_extra_info("socket")
        if isinstance(wire, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(
                    wire, socket.SHUT_RDWR
                )  # that of SSLSocket would pull it from under a reader


@dataclass(eq=False)
class _Line:
    """One request under way."""

    client: httpx.Client
    wire: _Wire
    deadline: float


def _within(one: str, other: str) -> bool:
    """Whether the second address is on the host of the first, and not less protected."""
    a, b = urlsplit(one), urlsplit(other)
    return a.hostname == b.hostname and (
        (a.scheme, a.port) == (b.scheme, b.port)
        or (a.scheme, b.scheme, a.port, b.port) == ("http", "https", None, None)
    )


def _pause(said: str | None) -> float | None:
    """``Retry-After``: seconds, or a date."""
    if said is None:
        return None
    with suppress(ValueError, TypeError, OverflowError):
        return max(
            0.0,
            float(said)
            if said.strip().isdigit()
            else parsedate_to_datetime(said).timestamp() - time.time(),
        )
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
