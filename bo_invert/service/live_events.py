"""Server-sent events of studies. All streams of a study share one read of its summary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

INTERVAL = 0.5
"""Seconds between two reads of a study. Engineering choice: a page seems immediate."""
KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment is sent. Engineering choice: proxies close
connections that are quiet for 30 seconds or more."""
STREAM_RATE = 256 * 1024
"""Bytes a second of one stream, so that large summaries come less often. Engineering choice: a
usual summary of 4 kB is not delayed."""
Read = Callable[[str, str], Awaitable["Summary"]]
"""Function from client and study to the summary of the study."""


@dataclass(frozen=True)
class Summary:
    """Summary of a study.

    Args:
        events: position of its last event.
        text: JSON text of one line.
    """

    events: int
    text: str


@dataclass
class _Latest:
    """Latest read of a study, and the number of streams that follow it."""

    task: asyncio.Task[Summary] | None = None
    began: float = 0.0
    streams: int = 0


@dataclass
class LiveEvents:
    """Streams of the summaries of studies.

    Args:
        read: reads a summary.
        closing: returns whether the server shuts down, which ends the streams.
    """

    read: Read
    closing: Callable[[], bool] = lambda: False
    _latest: dict[str, _Latest] = field(default_factory=dict)

    async def follow(
        self,
        client: str,
        study: str,
        after: int,
        interval: float = INTERVAL,
        keep_alive: float = KEEP_ALIVE,
    ) -> AsyncGenerator[Summary | None, None]:
        """Yield the summary of a study whenever its log grows, and None to keep a connection open.

        Args:
            client: client of the stream.
            study: name of the study.
            after: last known position of its log.
            interval: seconds between two reads.
            keep_alive: seconds without change after which None is yielded.
        """
        latest = self._latest.setdefault(study, _Latest())
        latest.streams += 1
        quiet = 0.0
        try:
            while not self.closing():
                summary = await self._read(client, study, latest, interval)
                pause = max(interval, len(summary.text) / STREAM_RATE)
                quiet += pause
                if summary.events > after or quiet > keep_alive:
                    yield summary if summary.events > after else None
                    after, quiet = max(after, summary.events), 0.0
                await asyncio.sleep(pause)
        finally:
            latest.streams -= 1
            if not latest.streams:
                self._latest.pop(study, None)

    async def _read(self, client: str, study: str, latest: _Latest, interval: float) -> Summary:
        now = time.monotonic()
        if latest.task is None or (latest.task.done() and now - latest.began > 0.8 * interval):
            latest.began = now
            latest.task = asyncio.create_task(self._summary(client, study))
        return await asyncio.shield(latest.task)

    async def _summary(self, client: str, study: str) -> Summary:
        return await self.read(client, study)
