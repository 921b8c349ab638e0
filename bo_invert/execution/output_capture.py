"""Capture of the output of a process: the end of each stream is retained for messages."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from contextlib import suppress
from multiprocessing.connection import Connection, wait


class OutputCapture:
    """Reader of the output streams of a process.

    Args:
        streams: Open streams by name. The capture closes each at its end.
        limit: Bytes of the end of a stream that are retained; of a longer one, a byte more.
        forward: Write to the stream of ``sys`` of the same name, too.
    """

    def __init__(
        self, streams: dict[str, Connection], limit: int = 16384, forward: bool = False
    ) -> None:
        self.streams = streams
        self.ends: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._limit, self._forward = limit, forward

    def read(self, timeout: float = 0.0) -> bool:
        """Read what the streams hold now, after a wait of up to ``timeout`` seconds.

        Returns:
            True if there was output or a stream ended.
        """
        ready = wait(self.streams.values(), timeout)
        for name, stream in list(self.streams.items()):
            if stream in ready:
                self._read_stream(name, stream)
        return bool(ready)

    def drain(self, timeout: float) -> None:
        """Read all streams until they end or until ``timeout`` seconds have passed."""
        deadline = time.monotonic() + timeout
        while self.streams and (left := deadline - time.monotonic()) > 0:
            self.read(left)

    def _read_stream(self, name: str, stream: Connection) -> None:
        data = os.read(stream.fileno(), 1 << 16)
        if not data:
            self.streams.pop(name).close()
        end = self.ends[name]
        end += data
        if len(end) > 2 * self._limit:
            del end[: -self._limit - 1]
        target = getattr(sys, name, None) if self._forward and data else None
        if target is not None:
            with suppress(Exception):  # a full or closed stream is no failure of the process
                target.write(data.decode(errors="replace"))
                target.flush()

    def text(self, name: str) -> str:
        """Return the retained end of a stream; bytes outside UTF-8 are escaped."""
        return self.ends[name][-self._limit :].decode("utf-8", "backslashreplace")


def last_lines(text: str, length: int = 400) -> str:
    """Return the end of a text in one line of at most ``length`` characters."""
    lines = (line.strip() for line in text[-10 * length :].splitlines())
    return "; ".join(filter(None, lines))[-length:]
